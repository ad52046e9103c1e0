//! The access log of one core: a line per request, in the form that `tracing` gives its events.
//!
//! A line goes into a buffer, and the buffer to the output when it is full, once a second, and at the end of
//! the core. So a request makes no system call for its line, and waits for no one who reads it.

use std::fmt::Write as _;
use std::io::Write as _;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use proxy_admin::output::Output;
use proxy_admin::telemetry::Format;

use crate::config::AccessLog;

#[cfg(test)]
mod tests;

/// A buffer of this size is written: some 70 lines, which cost one wake-up of the output's thread.
const FULL: usize = 32 << 10;
/// Room for the line that fills it.
const LINE: usize = 4 << 10;

/// What one line says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// The end of the request, in microseconds since the Unix epoch.
    pub(crate) unix_micros: i64,
    pub(crate) request_id: &'a str,
    pub(crate) operation: Option<&'a str>,
    pub(crate) model: Option<&'a str>,
    pub(crate) consumer: Option<&'a str>,
    pub(crate) route: Option<&'a str>,
    pub(crate) rule: Option<&'a str>,
    pub(crate) backend: Option<&'a str>,
    pub(crate) deployment: Option<&'a str>,
    pub(crate) status: u16,
    pub(crate) code: &'a str,
    pub(crate) stream: bool,
    pub(crate) input_tokens: u64,
    pub(crate) cached_input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) estimated: bool,
    pub(crate) tries: u8,
    pub(crate) first_byte_ms: Option<u64>,
    pub(crate) duration_ms: u64,
}

/// The lines of one core. Dropping it writes the last ones.
pub(crate) struct Lines {
    format: Format,
    output: Output,
    dropped: Counter,
    /// Only the tasks of the core lock it, so none waits.
    buffer: Mutex<Buffer>,
}

struct Buffer {
    text: Vec<u8>,
    /// How many lines `text` has.
    lines: u64,
    stamp: Stamp,
}

/// The time stamp of the lines of one second, without the fraction: `2026-01-31T09:15:00.`
#[derive(Default)]
struct Stamp {
    second: Option<i64>,
    text: String,
}

// === impl Lines ===

impl Lines {
    /// `dropped` counts lines that the output does not take.
    pub(crate) fn new(log: &AccessLog, dropped: Counter) -> Self {
        Self {
            format: log.format,
            output: log.output.clone(),
            dropped,
            buffer: Mutex::new(Buffer {
                text: Vec::with_capacity(FULL + LINE),
                lines: 0,
                stamp: Stamp::default(),
            }),
        }
    }

    /// Writes a line. Allocates nothing once the buffer has grown.
    pub(crate) fn write(&self, entry: &Entry<'_>) {
        let mut buffer = self.buffer.lock();
        let Buffer { text, lines, stamp } = &mut *buffer;
        line(text, self.format, stamp, entry);
        *lines += 1;
        if text.len() >= FULL {
            self.hand_over(&mut buffer);
        }
    }

    /// Gives the lines so far to the output.
    pub(crate) fn flush(&self) {
        self.hand_over(&mut self.buffer.lock());
    }

    fn hand_over(&self, buffer: &mut Buffer) {
        if buffer.lines > 0 && !self.output.write(&buffer.text) {
            self.dropped.inc_by(buffer.lines);
        }
        buffer.text.clear();
        buffer.lines = 0;
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}

// === impl Stamp ===

impl Stamp {
    /// The text for this second.
    fn of(&mut self, second: i64) -> &str {
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            let time = Timestamp::from_second(second).unwrap_or_default();
            write!(self.text, "{time}").ok();
            // Its `Z` comes after the fraction.
            self.text.pop();
            self.text.push('.');
        }
        &self.text
    }
}

/// The name of a field, in both formats.
struct Name {
    json: &'static str,
    text: &'static str,
}

macro_rules! name {
    ($name:literal) => {
        &Name {
            json: concat!(",\"", $name, "\":"),
            text: concat!(" ", $name, "="),
        }
    };
}

/// A line that is being written.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    format: Format,
}

/// Appends the line of a request. `tracing`'s own layers are slower by far and write each line at once.
fn line(out: &mut Vec<u8>, format: Format, stamp: &mut Stamp, entry: &Entry<'_>) {
    let second = entry.unix_micros.div_euclid(1_000_000);
    let micros = entry.unix_micros.rem_euclid(1_000_000);
    let (begin, level, end) = match format {
        Format::Json => (
            "{\"timestamp\":\"",
            "Z\",\"level\":\"INFO\",\"message\":\"request\"",
            ",\"target\":\"access\"}\n",
        ),
        Format::Text => ("", "Z  INFO access: request", "\n"),
    };
    out.extend_from_slice(begin.as_bytes());
    out.extend_from_slice(stamp.of(second).as_bytes());
    // Six digits: the leading one of seven is cut off.
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(micros + 1_000_000);
    out.extend_from_slice(digits.as_bytes().get(1..).unwrap_or_default());
    out.extend_from_slice(level.as_bytes());

    let mut line = Line { out, format };
    line.text(name!("request_id"), Some(entry.request_id));
    line.text(name!("operation"), entry.operation);
    line.text(name!("model"), entry.model);
    line.text(name!("consumer"), entry.consumer);
    line.text(name!("route"), entry.route);
    line.text(name!("rule"), entry.rule);
    line.text(name!("backend"), entry.backend);
    line.text(name!("deployment"), entry.deployment);
    line.number(name!("status"), entry.status);
    line.text(name!("code"), Some(entry.code));
    line.flag(name!("stream"), entry.stream);
    line.number(name!("input_tokens"), entry.input_tokens);
    line.number(name!("cached_input_tokens"), entry.cached_input_tokens);
    line.number(name!("output_tokens"), entry.output_tokens);
    line.flag(name!("estimated"), entry.estimated);
    line.number(name!("tries"), entry.tries);
    if let Some(first_byte) = entry.first_byte_ms {
        line.number(name!("first_byte_ms"), first_byte);
    }
    line.number(name!("duration_ms"), entry.duration_ms);
    line.put(end);
}

// === impl Line ===

impl Line<'_> {
    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn name(&mut self, name: &Name) {
        self.put(match self.format {
            Format::Json => name.json,
            Format::Text => name.text,
        });
    }

    /// A quoted string, if there is one.
    fn text(&mut self, name: &Name, value: Option<&str>) {
        let Some(value) = value else { return };
        self.name(name);
        if is_plain(value) {
            self.out.push(b'"');
            self.put(value);
            self.out.push(b'"');
            return;
        }
        // Neither fails: a vector takes everything.
        match self.format {
            Format::Json => serde_json::to_writer(&mut *self.out, value).ok(),
            Format::Text => write!(self.out, "{value:?}").ok(),
        };
    }

    fn number(&mut self, name: &Name, value: impl itoa::Integer) {
        self.name(name);
        self.put(itoa::Buffer::new().format(value));
    }

    fn flag(&mut self, name: &Name, value: bool) {
        self.name(name);
        self.put(if value { "true" } else { "false" });
    }
}

/// Whether neither format escapes anything in it. Looks at every byte, so that the compiler can look at
/// many at once.
fn is_plain(value: &str) -> bool {
    let special = |byte: u8| !(b' '..=b'~').contains(&byte) | (byte == b'"') | (byte == b'\\');
    !value
        .bytes()
        .fold(false, |found, byte| found | special(byte))
}
