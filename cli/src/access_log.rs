//! The access log, line by line.
//!
//! Reads what the gateway writes with `--log-format json`: one object per line; those with the target
//! `access` are requests. Lines of other targets are normal and broken lines are not, so they are
//! counted separately.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use jiff::Timestamp;
use proxy_core::names::{ObjectName, Operation, Usage};
use serde::Deserialize;

/// The newest version of the fields that is read. Version 1 had no `v`.
const NEWEST: u64 = 2;
/// The longest line; lines of the access log have some KB at most.
const MAX_LINE: u64 = 1 << 20;
/// The longest duration; no request lasts a day, so a longer one is a mistake in the log.
const MAX_DURATION_MS: u64 = 86_400_000;

/// One request as it was logged.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The line, from 1.
    pub(crate) line: u64,
    pub(crate) request_id: String,
    /// When it began, in microseconds since the Unix epoch; at most 1 ms late, since the log's
    /// duration is rounded down. Never before the end of a request that the caller awaited.
    pub(crate) start_us: i64,
    /// When it ended.
    pub(crate) end_us: i64,
    pub(crate) operation: Option<Operation>,
    pub(crate) model: Option<Arc<str>>,
    pub(crate) consumer: Option<Arc<str>>,
    pub(crate) route: Option<ObjectName>,
    pub(crate) rule: Option<String>,
    pub(crate) backend: Option<ObjectName>,
    pub(crate) deployment: Option<String>,
    pub(crate) code: String,
    pub(crate) usage: Usage,
    /// What was reserved for it; `None` if it was refused, or the line does not say.
    pub(crate) held: Option<Usage>,
    pub(crate) estimated: bool,
}

/// One line.
#[derive(Debug)]
pub(crate) enum Line {
    /// A request.
    Request(Box<Record>),
    /// An event that is not a request.
    Other,
    /// A request in a version of the fields that is not known.
    Newer(u64),
    /// Not an event, or a request without a required field.
    Broken(String),
}

/// The lines of a log.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    buffer: Vec<u8>,
    /// How many lines were read.
    pub(crate) number: u64,
    /// How many bytes they have.
    pub(crate) bytes: u64,
}

#[derive(Deserialize)]
struct Head {
    target: Option<String>,
    #[serde(default = "first_version")]
    v: u64,
}

const fn first_version() -> u64 {
    1
}

#[derive(Deserialize)]
struct Access {
    timestamp: String,
    duration_ms: u64,
    code: String,
    request_id: Option<String>,
    operation: Option<String>,
    model: Option<String>,
    consumer: Option<String>,
    route: Option<String>,
    rule: Option<String>,
    backend: Option<String>,
    deployment: Option<String>,
    held_input_tokens: Option<u64>,
    held_output_tokens: Option<u64>,
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    cached_input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    estimated: bool,
}

/// Why lines of this version are not read.
pub(crate) fn newer(line: u64, version: u64) -> anyhow::Error {
    anyhow::anyhow!(
        "line {line}: the fields of the access log have version {version}, and this tundish reads versions 1 to \
         {NEWEST}; use that of the gateway that wrote it"
    )
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 16, reader),
            buffer: Vec::new(),
            number: 0,
            bytes: 0,
        }
    }

    /// Reads the next line that is not blank.
    pub(crate) fn read(&mut self) -> io::Result<Option<Line>> {
        loop {
            self.buffer.clear();
            let mut limited = self.reader.by_ref().take(MAX_LINE);
            let read = limited.read_until(b'\n', &mut self.buffer)?;
            if read == 0 {
                return Ok(None);
            }
            self.number = self.number.saturating_add(1);
            let mut length = u64::try_from(read).unwrap_or(u64::MAX);
            let cut = length == MAX_LINE && self.buffer.last() != Some(&b'\n');
            if cut {
                let rest = self.reader.skip_until(b'\n')?;
                length = length.saturating_add(u64::try_from(rest).unwrap_or(u64::MAX));
            }
            self.bytes = self.bytes.saturating_add(length);
            if cut {
                return Ok(Some(Line::Broken("longer than 1 MiB".to_owned())));
            }
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(Some(parse(&self.buffer, self.number)));
            }
        }
    }
}

fn parse(text: &[u8], number: u64) -> Line {
    let head: Head = match serde_json::from_slice(text) {
        Ok(head) => head,
        Err(error) => return Line::Broken(without_line(&error)),
    };
    if head.target.as_deref() != Some("access") {
        return Line::Other;
    }
    if head.v > NEWEST {
        return Line::Newer(head.v);
    }
    let access: Access = match serde_json::from_slice(text) {
        Ok(access) => access,
        Err(error) => return Line::Broken(without_line(&error)),
    };
    match record(access, number) {
        Ok(record) => Line::Request(Box::new(record)),
        Err(why) => Line::Broken(why),
    }
}

fn record(access: Access, line: u64) -> Result<Record, String> {
    let end: Timestamp = access
        .timestamp
        .parse()
        .map_err(|error| format!("timestamp {:?}: {error}", access.timestamp))?;
    if access.duration_ms > MAX_DURATION_MS {
        return Err(format!(
            "duration_ms {} is beyond a day",
            access.duration_ms
        ));
    }
    let end_us = end.as_microsecond();
    let lasted_us = i64::try_from(access.duration_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let held = access.held_input_tokens.zip(access.held_output_tokens);
    let object = |text: Option<String>| text.as_deref().and_then(ObjectName::parse);
    Ok(Record {
        line,
        request_id: access.request_id.unwrap_or_default(),
        start_us: end_us.saturating_sub(lasted_us),
        end_us,
        operation: access.operation.as_deref().and_then(Operation::parse),
        model: access.model.map(Arc::from),
        consumer: access.consumer.map(Arc::from),
        route: object(access.route),
        rule: access.rule,
        backend: object(access.backend),
        deployment: access.deployment,
        code: access.code,
        usage: Usage {
            input_tokens: access.input_tokens,
            cached_input_tokens: access.cached_input_tokens,
            output_tokens: access.output_tokens,
            ..Usage::default()
        },
        held: held.map(|(input_tokens, output_tokens)| Usage {
            input_tokens,
            output_tokens,
            ..Usage::default()
        }),
        estimated: access.estimated,
    })
}

/// The message without serde's own position, whose line is always 1.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line 1 ").unwrap_or(text.len());
    let what = text.get(..end).unwrap_or(&text);
    format!("{what} (column {})", error.column())
}
