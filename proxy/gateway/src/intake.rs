//! How a request is read: its framing, host and id, and its body within bounds of size and time.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming};
use proxy_admin::clock;
use proxy_api::parameter;
use proxy_core::names::Code;

use crate::alarm::Alarm;
use crate::answer::{Refusal, X_REQUEST_ID, refuse};

/// Silence within a request's body after which the client is given up.
const BODY_PROGRESS: Duration = Duration::from_secs(10);
/// A body may trickle, but not below this rate once the grace is over (1 KB/s after 10 s).
const BODY_BYTES_PER_SECOND: u64 = 1_000;

/// How much of a refused request is read on, and for how long.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");

/// The client's id if it is one word that a log can hold, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let mut sent = headers.get_all(X_REQUEST_ID).iter();
    if let (Some(id), None) = (sent.next(), sent.next()) {
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

/// Reads on after a refusal, for a bounded time and size: a client that is still sending would
/// otherwise see a reset instead of the reason. False if there was more.
pub(crate) async fn drained(body: &mut Incoming) -> bool {
    let read = async {
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            size += frame.data_ref().map_or(0, Bytes::len);
            if size > DRAIN_BYTES {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(DRAIN_TIME, read)
        .await
        .unwrap_or(false)
}

/// Takes one coding, `chunked`, or one length without leading zeros. hyper takes every list of codings
/// that ends in `chunked`; a server before or behind it may read another end of the body.
pub(crate) fn framing_of(headers: &HeaderMap) -> Result<(), Box<Refusal>> {
    let one = |name, good: fn(&[u8]) -> bool| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => true,
            (Some(value), None) => good(value.as_bytes()),
            (Some(_), Some(_)) => false,
        }
    };
    let chunked = one(TRANSFER_ENCODING, |coding| {
        coding.eq_ignore_ascii_case(b"chunked")
    });
    let counted = one(CONTENT_LENGTH, |length| {
        length == b"0" || length.first() != Some(&b'0')
    });
    if chunked && counted {
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
pub(crate) fn host_of(parts: &Parts) -> Result<Cow<'_, str>, Box<Refusal>> {
    let bad = || refuse(Code::InvalidRequest, "exactly one valid Host is needed");
    let mut named = parts.headers.get_all(HOST).iter();
    let header = match (named.next(), named.next()) {
        (Some(host), None) => Some(host.to_str().map_err(|_error| bad())?),
        (None, None) => None,
        (_, Some(_)) => return Err(bad()),
    };
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
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
    if text.contains('@')
        || relative(parsed.host()).is_empty()
        || (has_port && parsed.port_u16().is_none())
    {
        return Err(bad());
    }
    Ok(Cow::Owned(relative(parsed.host()).to_ascii_lowercase()))
}

/// The host without the dot that ends a full name: `ai.example.com.` must not miss the routes of
/// `ai.example.com` and meet those of any host.
fn relative(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// The host of most requests: a name in lower case or an IPv4 address, perhaps with a port. `None` for
/// what needs the parser.
fn plain_host(text: &str) -> Option<&str> {
    let is_plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    let end = text.bytes().position(|byte| !is_plain(&byte));
    let (host, rest) = text.split_at(end.unwrap_or(text.len()));
    let has_good_port = || {
        let digits = rest.strip_prefix(':').unwrap_or_default();
        digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
    };
    (!relative(host).is_empty() && (rest.is_empty() || has_good_port())).then_some(host)
}

/// Reads the whole body, which is held for a retry. Returns it with the time.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: &mut Incoming,
    max: usize,
    now: Instant,
) -> Result<(Bytes, Instant), Box<Refusal>> {
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity")
    {
        let message = "send the body without Content-Encoding";
        return Err(Box::new(
            Refusal::new(Code::UnsupportedEncoding, message).closing(),
        ));
    }
    let too_large = || {
        refuse(
            Code::RequestTooLarge,
            format!("the body is larger than {max} bytes"),
        )
    };
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > max {
        return Err(too_large());
    }
    let mut frames = Frames::new(body, now);
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    while let Some(frame) = frames.next().await? {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let size = first
            .as_ref()
            .map_or(rest.len(), Bytes::len)
            .saturating_add(data.len());
        if size > max {
            return Err(too_large());
        }
        match (first.take(), rest.is_empty()) {
            (None, true) => first = Some(data),
            (Some(before), _) => {
                rest.reserve(declared.max(size));
                rest.extend_from_slice(&before);
                rest.extend_from_slice(&data);
            }
            (None, false) => rest.extend_from_slice(&data),
        }
        let elapsed = frames.now.saturating_duration_since(now);
        let due = elapsed.saturating_sub(BODY_PROGRESS).as_secs() * BODY_BYTES_PER_SECOND;
        if u64::try_from(size).unwrap_or(u64::MAX) < due {
            return Err(too_slow());
        }
    }
    let now = frames.now;
    Ok((first.unwrap_or_else(|| rest.freeze()), now))
}

/// The frames of a body. Most bodies are there with their heads: a timer is made for those that are not.
struct Frames<'a> {
    body: &'a mut Incoming,
    /// When the last frame arrived. Read again only after a wait.
    now: Instant,
    alarm: Alarm,
}

impl<'a> Frames<'a> {
    fn new(body: &'a mut Incoming, now: Instant) -> Self {
        Self {
            body,
            now,
            alarm: Alarm::default(),
        }
    }

    async fn next(&mut self) -> Result<Option<Frame<Bytes>>, Box<Refusal>> {
        let Self { body, now, alarm } = self;
        let mut waited = false;
        let frame = poll_fn(|cx| match Pin::new(&mut **body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => {
                waited = true;
                let past = alarm.poll_past(cx, *now + BODY_PROGRESS);
                past.map(|()| Err(too_slow()))
            }
        });
        let frame = frame.await?;
        if waited {
            *now = clock::instant();
        }
        frame.transpose().map_err(|error| {
            let message = format!("the body is malformed or broke off: {error}");
            Box::new(Refusal::new(Code::InvalidRequest, message).closing())
        })
    }
}

fn too_slow() -> Box<Refusal> {
    let message = "the body did not arrive in time";
    Box::new(Refusal::new(Code::RequestTimeout, message).closing())
}
