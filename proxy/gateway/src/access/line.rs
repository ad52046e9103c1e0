//! How a line of the access log is written.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use proxy_admin::telemetry::Format;
use proxy_core::names::Class;

use crate::access::entry::{Attempt, Entry, Head};

/// Names, quotes, a protocol and an address around the texts of a head.
const AROUND: usize = 120;

/// The time stamp of the lines of one second, without the fraction: `2026-01-31T09:15:00.`
#[derive(Default)]
pub(super) struct Stamp {
    second: Option<i64>,
    text: String,
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

/// The same with the quote that begins a string.
macro_rules! open {
    ($name:literal) => {
        if JSON {
            concat!(",\"", $name, "\":\"")
        } else {
            concat!(" ", $name, "=\"")
        }
    };
}

/// Appends the line of a request. `tracing`'s own layers are slower by far and write each line at once.
pub(super) fn line(out: &mut Vec<u8>, format: Format, stamp: &mut Stamp, entry: &Entry<'_>) {
    match format {
        Format::Json => Line::<true>(out).write(stamp, entry),
        Format::Text => Line::<false>(out).write(stamp, entry),
    }
}

/// What a line says of the head of a request, written when the request begins: its head may be gone when it
/// ends.
pub(crate) fn head(format: Format, head: &Head<'_>) -> Vec<u8> {
    let texts = [head.method, head.host, head.path, head.user_agent];
    let size: usize = texts.iter().map(|text| text.len()).sum();
    let mut out = Vec::with_capacity(size + AROUND);
    match format {
        Format::Json => Line::<true>(&mut out).head(head),
        Format::Text => Line::<false>(&mut out).head(head),
    }
    out
}

// === impl Line ===

impl<const JSON: bool> Line<'_, JSON> {
    fn write(&mut self, stamp: &mut Stamp, entry: &Entry<'_>) {
        self.begin(stamp, entry.unix_micros);
        // The version of the fields: `tundish simulate` tells by it how to read a line.
        self.put(if JSON { ",\"v\":2" } else { " v=2" });
        self.quoted(open!("request_id"), entry.request_id.as_bytes());
        self.0.extend_from_slice(entry.head);
        self.known(name!("dialect"), entry.dialect);
        self.known(name!("operation"), entry.operation);
        self.text(name!("model"), entry.model);
        self.text(name!("consumer"), entry.consumer);
        self.text(name!("route"), entry.route);
        self.text(name!("rule"), entry.rule);
        if entry.class != Class::Standard {
            self.known(name!("class"), Some(entry.class.as_str()));
        }
        self.text(name!("backend"), entry.backend);
        self.text(name!("deployment"), entry.deployment);
        self.number(name!("status"), entry.status);
        self.quoted(open!("code"), entry.code.as_bytes());
        if let Some(limit) = entry.limit {
            self.put(name!("limit"));
            self.string(&limit.to_string());
        }
        if !entry.shadow_limits.is_empty() {
            self.shadow_limits(entry);
        }
        self.flag(name!("stream"), entry.stream);
        if let Some([input, output]) = entry.held_tokens {
            self.number(name!("held_input_tokens"), input);
            self.number(name!("held_output_tokens"), output);
        }
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
        self.number(name!("bytes_in"), entry.bytes_in);
        self.number(name!("bytes_out"), entry.bytes_out);
        self.number(name!("tries"), entry.tries);
        if !entry.attempts.is_empty() {
            self.attempts(entry.attempts);
        }
        self.bytes(name!("upstream_request_id"), entry.upstream_id);
        if let Some(upstream) = entry.upstream_ms {
            self.number(name!("upstream_ms"), upstream);
        }
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

    fn head(&mut self, head: &Head<'_>) {
        self.put(open!("client"));
        self.address(head.client);
        if head.method.is_empty() {
            return;
        }
        self.quoted(open!("protocol"), head.protocol.as_bytes());
        self.bytes(name!("method"), head.method);
        self.bytes(name!("host"), head.host);
        self.bytes(name!("path"), head.path);
        self.bytes(name!("user_agent"), head.user_agent);
    }

    #[inline(always)]
    fn quoted(&mut self, open: &'static str, value: &[u8]) {
        self.put(open);
        self.0.extend_from_slice(value);
        self.0.push(b'"');
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            // Most by far, and a third of the cost of its `Display`.
            IpAddr::V4(address) => {
                for (index, octet) in address.octets().into_iter().enumerate() {
                    if index > 0 {
                        self.0.push(b'.');
                    }
                    self.put(itoa::Buffer::new().format(octet));
                }
            }
            // A vector takes everything.
            IpAddr::V6(address) => drop(write!(self.0, "{address}")),
        }
        self.0.push(b'"');
    }

    fn shadow_limits(&mut self, entry: &Entry<'_>) {
        self.put(name!("shadow_limits"));
        if !JSON {
            let names = entry.shadow_limits.iter().map(ToString::to_string);
            return self.string(&names.collect::<Vec<_>>().join(" "));
        }
        let mut before = "[";
        for limit in entry.shadow_limits {
            self.put(std::mem::replace(&mut before, ","));
            self.string(&limit.to_string());
        }
        self.put("]");
    }

    /// A request that took more than one try is rare, and its line may cost more.
    fn attempts(&mut self, attempts: &[Attempt]) {
        self.put(name!("attempts"));
        if !JSON {
            let texts = attempts.iter().map(ToString::to_string);
            return self.string(&texts.collect::<Vec<_>>().join("; "));
        }
        let mut before = "[{\"backend\":";
        for one in attempts {
            self.put(std::mem::replace(&mut before, "},{\"backend\":"));
            self.string(&one.backend);
            self.put(name!("deployment"));
            self.string(&one.deployment);
            if let Some(status) = one.status {
                self.number(name!("status"), status);
            }
            self.known(name!("cause"), one.cause);
            self.text(name!("error"), one.error.as_deref());
            self.number(name!("ms"), one.millis);
        }
        self.put("}]");
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

    /// The same as bytes.
    fn plain(&mut self, value: &[u8]) {
        self.0.push(b'"');
        self.0.extend_from_slice(value);
        self.0.push(b'"');
    }

    /// A word, if there is one.
    #[inline(always)]
    fn known(&mut self, name: &'static str, value: Option<&'static str>) {
        if let Some(value) = value {
            self.put(name);
            self.word(value);
        }
    }

    /// Bytes of others, unless there are none. What is not UTF-8 is replaced.
    fn bytes(&mut self, name: &'static str, value: &[u8]) {
        if value.is_empty() {
            return;
        }
        self.put(name);
        if is_plain(value) {
            self.plain(value);
        } else {
            self.string(&String::from_utf8_lossy(value));
        }
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
        if is_plain(value.as_bytes()) {
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
fn is_plain(value: &[u8]) -> bool {
    let escaped = value.iter().fold(false, |found, byte| {
        found | ESCAPED.get(usize::from(*byte)).copied().unwrap_or(true)
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
