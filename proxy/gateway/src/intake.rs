//! How the head of a request is read: its framing, host and id.

use std::borrow::Cow;
use std::time::Duration;

use futures::FutureExt;
use http::header::{EXPECT, HeaderValue};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use proxy_admin::connection::Ambiguity;
use proxy_admin::task;
use proxy_api::parameter;
use proxy_core::names::Code;

use crate::answer::{Refusal, refuse};
use crate::fields::{Field, Fields};

#[cfg(test)]
mod tests;

/// Largest head of a request.
pub(crate) const HEAD_BYTES: usize = 32 * 1024;
/// Most headers of one, as hyper bounds them on HTTP/1.1.
const HEADERS: usize = 100;
/// How long a client on HTTP/2 has to take a refusal before the stream of its body is reset.
const UNREAD: Duration = Duration::from_secs(1);
/// How often the rest of a refused request is looked for, and how much of it may have come with its head.
const LOOKS: usize = 4;
const AT_ONCE: u64 = 64 << 10;

const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");

/// The client's id if it is one word that a log can hold, else a new one.
pub(crate) fn request_id(sent: Field<'_>) -> HeaderValue {
    if let Field::Once(id) = sent {
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if (1..=128).contains(&id.len()) && id.as_bytes().iter().all(good) {
            return id.clone();
        }
    }
    let mut made = [0; 32];
    let made = hex::encode_to_slice(rand::random::<[u8; 16]>(), &mut made)
        .map(|()| HeaderValue::from_bytes(&made));
    // Cannot fail: 32 digits.
    made.ok().and_then(Result::ok).unwrap_or(UNKNOWN)
}

/// Whether the rest of a refused request has come with its head, so that the connection can go on. Waits for
/// nothing, and asks for no body that the client holds back until it is wanted.
pub(crate) async fn is_complete(headers: &HeaderMap, body: &mut Incoming) -> bool {
    if body.is_end_stream() {
        return true;
    }
    if headers.contains_key(EXPECT) || body.size_hint().lower() > AT_ONCE {
        return false;
    }
    // hyper reads once it has been asked, and hands over when it is polled the next time.
    for _ in 0..LOOKS {
        match body.frame().now_or_never() {
            Some(None) => return true,
            Some(Some(Ok(_data))) => {}
            Some(Some(Err(_broken))) => return false,
            None => tokio::task::yield_now().await,
        }
    }
    false
}

/// Keeps the rest of a refused request on HTTP/2 for a moment, and reads none of it. Dropped at once it would
/// reset the stream right behind the answer, and curl would not show the answer.
pub(crate) fn keep_unread(body: Incoming) {
    task::spawn("refused body", async move {
        tokio::time::sleep(UNREAD).await;
        drop(body);
    });
}

/// Refuses a head that is too large, or that other servers may read in another way.
pub(crate) fn head_of(parts: &Parts, fields: &Fields<'_>) -> Result<(), Box<Refusal>> {
    framing_of(parts, fields)?;
    if parts.extensions.get() == Some(&Ambiguity::Fragment) {
        let message = "the request target must not have a fragment (#)";
        return Err(refuse(Code::InvalidRequest, message));
    }
    let scheme = parts.uri.scheme();
    if scheme.is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(refuse(
            Code::InvalidRequest,
            "the request must be for http or https",
        ));
    }
    // On HTTP/1.1 the connection bounds it.
    let is_too_large = || parts.headers.len() > HEADERS || size_of(parts) > HEAD_BYTES;
    if parts.version == Version::HTTP_2 && is_too_large() {
        let message = "the request has more than 100 headers, or more than 32 KiB of them";
        return Err(refuse(Code::HeadersTooLarge, message));
    }
    Ok(())
}

/// As HTTP/2 counts it (RFC 9113, 6.5.2).
fn size_of(parts: &Parts) -> usize {
    let headers = parts.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum();
    headers + parts.uri.path().len() + parts.uri.query().map_or(0, str::len)
}

/// Takes one coding, `chunked`, or one length without leading zeros. hyper takes every list of codings
/// that ends in `chunked`; a server before or behind it may read another end of the body.
fn framing_of(parts: &Parts, fields: &Fields<'_>) -> Result<(), Box<Refusal>> {
    let one = |field, good: fn(&[u8]) -> bool| match field {
        Field::Absent => true,
        Field::Once(value) => good(value.as_bytes()),
        Field::Repeated(_) => false,
    };
    let chunked = one(fields.transfer_encoding, |coding| {
        coding.eq_ignore_ascii_case(b"chunked")
    });
    let counted = one(fields.content_length, |length| {
        length == b"0" || length.first() != Some(&b'0')
    });
    if chunked && counted && parts.extensions.get() != Some(&Ambiguity::TwoLengths) {
        return Ok(());
    }
    let message = "send one Content-Length, or the one Transfer-Encoding chunked";
    Err(Box::new(
        Refusal::new(Code::InvalidRequest, message).closing(),
    ))
}

/// The version of the API that the client speaks, if it says so.
pub(crate) fn version_of(parts: &Parts) -> Result<Option<String>, Box<Refusal>> {
    let Some(query) = parts.uri.query() else {
        return Ok(None);
    };
    parameter(query, "api-version").map_err(|_bad| {
        refuse(
            Code::InvalidRequest,
            "query parameter api-version is malformed or given twice",
        )
    })
}

/// The one host that the request is for: lower case, without a port.
pub(crate) fn host_of<'a>(uri: &'a Uri, named: Field<'a>) -> Result<Cow<'a, str>, Box<Refusal>> {
    let bad = || refuse(Code::InvalidRequest, "exactly one valid Host is needed");
    let header = match named {
        Field::Once(host) => Some(host.to_str().map_err(|_error| bad())?),
        Field::Absent => None,
        Field::Repeated(_) => return Err(bad()),
    };
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let text = match (authority, header) {
        (Some(authority), Some(header)) if !authority.eq_ignore_ascii_case(header) => {
            return Err(bad());
        }
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) => return Err(bad()),
    };
    if let Some(host) = plain_host(text) {
        return Ok(Cow::Borrowed(relative(host)));
    }
    let parsed: http::uri::Authority = text.parse().map_err(|_error| bad())?;
    let has_port = text.len() > parsed.host().len();
    let host = relative(parsed.host());
    // The parser has read what is within brackets.
    let is_good = host.starts_with('[') || is_name(host);
    if text.contains('@') || !is_good || (has_port && parsed.port_u16().is_none()) {
        return Err(bad());
    }
    Ok(Cow::Owned(host.to_ascii_lowercase()))
}

/// Whether the labels of a name are there, of characters that names have.
fn is_name(host: &str) -> bool {
    let mut last = b'.';
    host.bytes().all(|byte| {
        let before = std::mem::replace(&mut last, byte);
        match byte {
            b'.' => before != b'.',
            b'-' | b'_' => true,
            other => other.is_ascii_alphanumeric(),
        }
    }) && last != b'.'
}

/// The host without the dot that ends a full name: `ai.example.com.` must not miss the routes of
/// `ai.example.com` and meet those of any host.
fn relative(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// The host of most requests: a name in lower case or an IPv4 address, perhaps with a port. `None` for
/// what needs the parser. In one loop: every request has one.
fn plain_host(text: &str) -> Option<&str> {
    let (mut last, mut end) = (b'.', text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => {}
            b'.' if last != b'.' => {}
            b':' => {
                end = at;
                break;
            }
            _ => return None,
        }
        last = byte;
    }
    let (host, port) = text.split_at_checked(end)?;
    // A number may have a sign for the parser.
    let is_port = |digits: &str| {
        let has_sign = digits.starts_with('+');
        !has_sign && digits.parse::<u16>().is_ok()
    };
    let is_good = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (is_good && !host.is_empty()).then_some(host)
}
