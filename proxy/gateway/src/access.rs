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
    /// A word of letters, digits, `-`, `_` and `.`: see `intake::request_id`.
    pub(crate) request_id: &'a str,
    pub(crate) operation: Option<&'static str>,
    pub(crate) model: Option<&'a str>,
    pub(crate) consumer: Option<&'a str>,
    pub(crate) route: Option<&'a str>,
    pub(crate) rule: Option<&'a str>,
    pub(crate) backend: Option<&'a str>,
    pub(crate) deployment: Option<&'a str>,
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) stream: bool,
    pub(crate) input_tokens: u64,
    pub(crate) cached_input_tokens: u64,
    pub(crate) cache_write_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) reasoning_tokens: u64,
    pub(crate) cost_micros: Option<u64>,
    /// Something was used that has no price.
    pub(crate) unpriced: bool,
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

/// A line that is being written. The format is a constant, so that what surrounds the values is copied by
/// moves of known size.
struct Line<'a, const JSON: bool>(&'a mut Vec<u8>);

/// What comes before the value of a field.
macro_rules! name {
    ($name:literal) => {
        if JSON {
            concat!(",\"", $name, "\":")
        } else {
            concat!(" ", $name, "=")
        }
    };
}

/// Appends the line of a request. `tracing`'s own layers are slower by far and write each line at once.
fn line(out: &mut Vec<u8>, format: Format, stamp: &mut Stamp, entry: &Entry<'_>) {
    match format {
        Format::Json => Line::<true>(out).write(stamp, entry),
        Format::Text => Line::<false>(out).write(stamp, entry),
    }
}

// === impl Line ===

impl<const JSON: bool> Line<'_, JSON> {
    fn write(&mut self, stamp: &mut Stamp, entry: &Entry<'_>) {
        self.begin(stamp, entry.unix_micros);
        self.put(name!("request_id"));
        self.word(entry.request_id);
        if let Some(operation) = entry.operation {
            self.put(name!("operation"));
            self.word(operation);
        }
        self.text(name!("model"), entry.model);
        self.text(name!("consumer"), entry.consumer);
        self.text(name!("route"), entry.route);
        self.text(name!("rule"), entry.rule);
        self.text(name!("backend"), entry.backend);
        self.text(name!("deployment"), entry.deployment);
        self.number(name!("status"), entry.status);
        self.put(name!("code"));
        self.word(entry.code);
        self.flag(name!("stream"), entry.stream);
        self.number(name!("input_tokens"), entry.input_tokens);
        self.number(name!("cached_input_tokens"), entry.cached_input_tokens);
        if entry.cache_write_tokens > 0 {
            self.number(name!("cache_write_tokens"), entry.cache_write_tokens);
        }
        self.number(name!("output_tokens"), entry.output_tokens);
        if entry.reasoning_tokens > 0 {
            self.number(name!("reasoning_tokens"), entry.reasoning_tokens);
        }
        if let Some(micros) = entry.cost_micros {
            self.number(name!("cost_micros"), micros);
        }
        if entry.unpriced {
            self.put(name!("cost"));
            self.word("unknown");
        }
        self.flag(name!("estimated"), entry.estimated);
        self.number(name!("tries"), entry.tries);
        if let Some(first_byte) = entry.first_byte_ms {
            self.number(name!("first_byte_ms"), first_byte);
        }
        self.number(name!("duration_ms"), entry.duration_ms);
        self.put(if JSON {
            ",\"target\":\"access\"}\n"
        } else {
            "\n"
        });
    }

    fn begin(&mut self, stamp: &mut Stamp, unix_micros: i64) {
        let second = unix_micros.div_euclid(1_000_000);
        let micros = unix_micros.rem_euclid(1_000_000);
        if JSON {
            self.put("{\"timestamp\":\"");
        }
        self.put(stamp.of(second));
        // Six digits: the leading one of seven is cut off.
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(micros + 1_000_000);
        self.put(digits.get(1..).unwrap_or_default());
        self.put(if JSON {
            "Z\",\"level\":\"INFO\",\"message\":\"request\""
        } else {
            "Z  INFO access: request"
        });
    }

    #[inline(always)]
    fn put(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A string in which neither format escapes anything.
    fn word(&mut self, value: &str) {
        self.0.push(b'"');
        self.put(value);
        self.0.push(b'"');
    }

    /// A string, if there is one.
    #[inline(always)]
    fn text(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.put(name);
            self.string(value);
        }
    }

    fn string(&mut self, value: &str) {
        if is_plain(value) {
            self.word(value);
        } else if JSON {
            // A vector takes everything.
            serde_json::to_writer(&mut *self.0, value).ok();
        } else {
            write!(self.0, "{value:?}").ok();
        }
    }

    #[inline(always)]
    fn number(&mut self, name: &'static str, value: impl itoa::Integer) {
        self.put(name);
        self.put(itoa::Buffer::new().format(value));
    }

    #[inline(always)]
    fn flag(&mut self, name: &'static str, value: bool) {
        self.put(name);
        self.put(if value { "true" } else { "false" });
    }
}

/// Whether neither format escapes anything in it.
fn is_plain(value: &str) -> bool {
    let escaped = value.bytes().fold(false, |found, byte| {
        found | ESCAPED.get(usize::from(byte)).copied().unwrap_or(true)
    });
    !escaped
}

/// Whether one of the formats may escape a byte. A look into a table is the cheapest for short strings.
#[expect(
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "while compiling, where iterators and conversions do not work"
)]
static ESCAPED: [bool; 256] = {
    let mut escaped = [true; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        escaped[byte as usize] = byte == b'"' || byte == b'\\';
        byte += 1;
    }
    escaped
};
