//! The head of an answer: read by `httparse`, judged here.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use httparse::{ParserConfig, Status};

use super::malformed::Malformed;

/// As many as hyper accepts from a server.
const MAX_HEADERS: usize = 100;
/// Headers that the gateway adds to an answer.
const ROOM: usize = 8;

/// The head of an answer. Its headers are those that travel on: none is about the connection.
#[derive(Debug)]
pub struct Head {
    /// Of a final answer.
    pub status: StatusCode,
    /// Values are slices of what was read.
    pub headers: HeaderMap,
    pub(super) framing: Framing,
    /// The server keeps the connection open after this answer.
    pub(super) keeps: bool,
}

/// Where the body of an answer ends (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// With the connection.
    Close,
}

/// What the headers of the connection say.
#[derive(Debug, Default)]
struct Connection {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    /// Names of headers that end here.
    nominated: Vec<HeaderName>,
}

// === impl Head ===

impl Head {
    /// Reads a whole head, with the empty line at its end.
    pub(super) fn parse(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut []);
        // The defaults are strict: no folded lines, no blank before a colon, no invalid line is skipped.
        let config = ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut room) {
            Ok(Status::Complete(size)) if size == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::HeadTooLarge),
            Err(httparse::Error::Version) => return Err(Malformed::Version),
            Ok(_) | Err(_) => return Err(Malformed::Head),
        }
        let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(Malformed::Head);
        };
        let status = StatusCode::from_u16(code).map_err(|_error| Malformed::Head)?;
        let mut headers = HeaderMap::with_capacity(parsed.headers.len() + ROOM);
        let mut connection = Connection::default();
        for header in parsed.headers.iter() {
            let name = named(header.name)?;
            if connection.note(&name, header.value)? {
                let value = HeaderValue::from_maybe_shared(bytes.slice_ref(header.value));
                headers.append(name, value.map_err(|_error| Malformed::Head)?);
            }
        }
        for name in &connection.nominated {
            headers.remove(name);
        }
        Ok(Self {
            status,
            headers,
            framing: connection.framing(status, minor)?,
            keeps: !connection.close && (minor == 1 || connection.keep_alive),
        })
    }
}

/// The name of a header. Any other name is folded letter by letter and may cost an allocation, so those of
/// Foundry are known as they are written.
fn named(text: &str) -> Result<HeaderName, Malformed> {
    macro_rules! known {
        ($($name:literal $(= $written:literal)?)*) => {
            match text {
                $($name $(| $written)? => return Ok(const { HeaderName::from_static($name) }),)*
                _ => {}
            }
        };
    }
    known! {
        "content-type" = "Content-Type"
        "content-length" = "Content-Length"
        "date" = "Date"
        "transfer-encoding" = "Transfer-Encoding"
        "connection" = "Connection"
        "cache-control" = "Cache-Control"
        "server" = "Server"
        "vary" = "Vary"
        "strict-transport-security" = "Strict-Transport-Security"
        "x-content-type-options"
        "x-request-id"
        "apim-request-id"
        "x-ms-client-request-id"
        "x-ms-region"
        "x-ms-deployment-name"
        "x-ms-rai-invoked"
        "azureml-model-session"
        "azure-openai-deployment-utilization"
        "openai-processing-ms"
        "openai-version"
        "x-accel-buffering"
        "x-ratelimit-limit-requests"
        "x-ratelimit-remaining-requests"
        "x-ratelimit-reset-requests"
        "x-ratelimit-limit-tokens"
        "x-ratelimit-remaining-tokens"
        "x-ratelimit-reset-tokens"
        "retry-after-ms"
    }
    HeaderName::from_bytes(text.as_bytes()).map_err(|_error| Malformed::Head)
}

// === impl Connection ===

impl Connection {
    /// Takes note of a header; false if it does not travel on.
    fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<bool, Malformed> {
        match name.as_str() {
            "content-length" => {
                let length = length(value).filter(|_| self.length.is_none());
                self.length = Some(length.ok_or(Malformed::Length)?);
                return Ok(true);
            }
            "transfer-encoding" => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::TransferCoding);
                }
                self.chunked = true;
            }
            "connection" => self.nominate(value),
            other => return Ok(!ENDING.contains(&other)),
        }
        Ok(false)
    }

    fn nominate(&mut self, value: &[u8]) {
        for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else {
                // What is no name nominates nothing.
                self.nominated.extend(HeaderName::from_bytes(token));
            }
        }
    }

    fn framing(&self, status: StatusCode, minor: u8) -> Result<Framing, Malformed> {
        let none = Framing::Length(0);
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Malformed::TwoLengths),
            // RFC 9112, 6.1: such an answer is to be treated as one with faulty framing.
            (true, None) if minor == 0 => Err(Malformed::TransferCoding),
            (_, _) if status == StatusCode::NOT_MODIFIED => Ok(none),
            (false, None) if is_bodiless(status) => Ok(none),
            (false, Some(0)) => Ok(none),
            (_, _) if is_bodiless(status) => Err(Malformed::Bodiless),
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) => Ok(Framing::Length(length)),
            (false, None) => Ok(Framing::Close),
        }
    }
}

/// Such an answer must not even announce a body (RFC 9110, 8.6).
fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT
}

/// A number of at most 64 bits, of digits only. A leading zero is refused although the grammar has it: no
/// server writes one, and some readers take it for octal.
fn length(value: &[u8]) -> Option<u64> {
    let is_plain =
        value.iter().all(u8::is_ascii_digit) && (value.len() == 1 || !value.starts_with(b"0"));
    let text = std::str::from_utf8(value).ok().filter(|_| is_plain)?;
    text.parse().ok()
}

/// Headers of one connection besides those that are read here (RFC 9110, 7.6.1), and of a host, which is not
/// that of the gateway.
const ENDING: [&str; 9] = [
    "te",
    "trailer",
    "upgrade",
    "proxy-authenticate",
    "keep-alive",
    "proxy-connection",
    "set-cookie",
    "strict-transport-security",
    "alt-svc",
];

/// Removes the headers of one connection or host from an answer that another reader has read.
pub fn strip(headers: &mut HeaderMap) {
    for name in ENDING {
        headers.remove(name);
    }
}
