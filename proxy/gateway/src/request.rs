//! The life of a request: authenticate -> match route -> estimate -> reserve -> choose a backend
//! -> forward -> read usage -> settle -> record. The last three happen in [`crate::relay`].

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use proxy_admin::clock;
use proxy_core::admit::{self, Ask};
use proxy_core::auth::Caller;
use proxy_core::names::{Code, Operation};
use proxy_core::tokens::Shape;

use crate::answer::{self, Refusal, X_REQUEST_ID};
use crate::credential;
use crate::dialect::{self, Target, Unserved, parameter};
use crate::exchange::Exchange;
use crate::forward::Sending;
use crate::guess::Guess;
use crate::ledger::Asking;
use crate::live::Live;
use crate::relay::Payload;
use crate::scan;
use crate::server::Core;

/// Silence within a request's body after which the client is given up.
const BODY_PROGRESS: Duration = Duration::from_secs(10);
/// A body may trickle, but not below this rate once the grace is over (1 KB/s after 10 s).
const BODY_BYTES_PER_SECOND: u64 = 1_000;
/// A route without a timeout: Azure lets a call last 29 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How much of a refused request is read on, and for how long.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

type Answer = Response<Payload>;

/// Answers one request, whatever it is.
pub(crate) async fn handle(core: Arc<Core>, request: Request<Incoming>) -> Answer {
    let id = request_id(request.headers());
    let mut exchange = Some(Exchange::begin(&core.shared, id.clone()));
    let (parts, mut body) = request.into_parts();
    match serve(&core, &parts, &mut body, &mut exchange).await {
        Ok(answer) => answer,
        Err(mut refusal) => {
            // Who was too slow already would be waited for once more.
            if refusal.denial.code != Code::RequestTimeout {
                refusal.close |= !drained(&mut body).await;
            }
            let answer = answer::refuse(&refusal, &id);
            if let Some(mut exchange) = exchange {
                exchange.status = answer.status().as_u16();
                exchange.released();
                exchange.end(refusal.denial.code.as_str());
            }
            answer.map(Payload::from)
        }
    }
}

/// The client's id if it is one word that a log can hold, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let mut sent = headers.get_all(X_REQUEST_ID).iter();
    if let (Some(id), None) = (sent.next(), sent.next()) {
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if (1..=128).contains(&id.len()) && id.as_bytes().iter().all(good) {
            return id.clone();
        }
    }
    let made = format!("{:032x}", rand::random::<u128>());
    HeaderValue::try_from(made).unwrap_or(HeaderValue::from_static("unknown"))
}

/// Reads on after a refusal, for a bounded time and size: a client that is still sending would
/// otherwise see a reset instead of the reason. False if there was more.
async fn drained(body: &mut Incoming) -> bool {
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

async fn serve(
    core: &Core,
    parts: &Parts,
    body: &mut Incoming,
    slot: &mut Option<Exchange>,
) -> Result<Answer, Box<Refusal>> {
    let Some(exchange) = slot.as_mut() else {
        return Err(refuse(Code::Internal, "the request has no record"));
    };
    framing_of(&parts.headers)?;
    let target = target_of(parts)?;
    exchange.operation = Some(target.operation);
    let host = host_of(parts)?;
    let Some(live) = exchange.live.clone() else {
        return Err(refuse(
            Code::NotReady,
            "the gateway has no routing table yet",
        ));
    };
    let shown =
        credential::shown(&parts.headers).map_err(|why| refuse(Code::InvalidRequest, why))?;
    let key = shown.as_ref().map(|shown| shown.key);
    let caller = admit::authenticate(&live.table, &host, key, clock::now())
        .map_err(|denial| Box::new(Refusal::from(denial)))?;
    exchange.caller = Some(Arc::clone(&caller));
    if target.operation == Operation::Models {
        return models(&live, &caller, &host, &parts.headers, &target, exchange);
    }
    let version = version_of(parts)?;
    let config = &core.shared.config;
    let bytes = read_body(&parts.headers, body, config.max_body).await?;
    let scanned = scan::body(&bytes).map_err(|why| refuse(Code::InvalidRequest, why.0))?;
    let model = match (&target.model, &scanned.model) {
        (Some(model), _) | (None, Some((model, _))) => Arc::clone(model),
        (None, None) => return Err(refuse(Code::InvalidRequest, "\"model\" is missing")),
    };
    exchange.model = Some(Arc::clone(&model));
    exchange.streamed = scanned.stream;
    let ask = Ask {
        host: &host,
        operation: target.operation,
        model: Some(&model),
        headers: &parts.headers,
    };
    let permit = admit::admit(&live.table, &caller, &ask)
        .map_err(|denial| Box::new(Refusal::from(denial)))?;
    exchange.rule = Some(permit.index);

    exchange.shape = Shape {
        body_bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        max_output_tokens: scanned.max_output_tokens,
        choices: scanned.choices,
    };
    exchange.price = permit.flat.max_price;
    let Some(rule) = live.rules.get(permit.index) else {
        return Err(refuse(Code::Internal, "the rule is not in the table"));
    };
    let asking = Asking {
        limits: &rule.limits,
        route: permit.route,
        caller: &caller,
        model: &model,
        clock: clock::now,
    };
    let default_output = config.default_output_tokens;
    let guess = Guess::of(rule, &permit, &model, exchange.shape, &bytes, target.operation);
    let reserved = core
        .shared
        .ledger
        .reserve(&asking, guess.at_first(default_output), || {
            guess.counted(default_output)
        });
    exchange.charge = Some(reserved.await?);

    let sending = Sending {
        core,
        live: &live,
        permit: &permit,
        target: &target,
        model: &model,
        version: version.as_deref(),
        client: &parts.headers,
        shown: shown.as_ref(),
        bytes,
        scanned: &scanned,
        deadline: clock::instant() + permit.rule.request_timeout.unwrap_or(DEFAULT_TIMEOUT),
    };
    sending.forward(slot).await
}

pub(crate) fn refuse(code: Code, message: impl Into<String>) -> Box<Refusal> {
    Box::new(Refusal::new(code, message))
}

/// One coding, `chunked`, or one length without leading zeros. hyper takes every list of codings that
/// ends in `chunked`; a server before or behind it may read another end of the body.
fn framing_of(headers: &HeaderMap) -> Result<(), Box<Refusal>> {
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

fn target_of(parts: &Parts) -> Result<Target, Box<Refusal>> {
    let target = dialect::target(parts.uri.path()).map_err(|why| match why {
        Unserved::Ambiguous => refuse(Code::InvalidRequest, "the path is ambiguous or malformed"),
        Unserved::Unknown => refuse(
            Code::UnknownPath,
            "no API is served here; use /openai/deployments/{model}/..., /openai/v1/... or /v1/...",
        ),
    })?;
    let wanted = if target.operation == Operation::Models {
        Method::GET
    } else {
        Method::POST
    };
    if parts.method != wanted {
        return Err(refuse(Code::MethodNotAllowed, format!("use {wanted}")));
    }
    Ok(target)
}

/// The version of the API that the client speaks, if it says so.
fn version_of(parts: &Parts) -> Result<Option<String>, Box<Refusal>> {
    parameter(parts.uri.query(), "api-version").map_err(|()| {
        refuse(
            Code::InvalidRequest,
            "query parameter api-version is malformed or given twice",
        )
    })
}

/// The one host that the request is for: lower case, without a port.
fn host_of(parts: &Parts) -> Result<String, Box<Refusal>> {
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
    let parsed: http::uri::Authority = text.parse().map_err(|_error| bad())?;
    let has_port = text.len() > parsed.host().len();
    if text.contains('@') || parsed.host().is_empty() || (has_port && parsed.port_u16().is_none()) {
        return Err(bad());
    }
    Ok(parsed.host().to_ascii_lowercase())
}

fn models(
    live: &Live,
    caller: &Caller,
    host: &str,
    headers: &HeaderMap,
    target: &Target,
    exchange: &mut Exchange,
) -> Result<Answer, Box<Refusal>> {
    let names = admit::models(&live.table, caller, host, headers);
    let answer = match &target.model {
        Some(model) if target.one_model => {
            let known = names
                .iter()
                .find(|name| ***name == **model)
                .ok_or_else(|| {
                    refuse(
                        Code::ModelNotFound,
                        format!("no rule serves model {model:?}"),
                    )
                })?;
            answer::one_model(known)
        }
        Some(_) | None => answer::models(&names),
    };
    exchange.status = 200;
    exchange.end("ok");
    Ok(answer.map(Payload::from))
}

/// Reads the whole body, which is held for a retry.
async fn read_body(
    headers: &HeaderMap,
    body: &mut Incoming,
    max: usize,
) -> Result<Bytes, Box<Refusal>> {
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
    let started = clock::instant();
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout(BODY_PROGRESS, body.frame()).await {
            Err(_elapsed) => return Err(too_slow()),
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                let message = format!("the body is malformed or broke off: {error}");
                return Err(Box::new(
                    Refusal::new(Code::InvalidRequest, message).closing(),
                ));
            }
            Ok(Some(Ok(frame))) => frame,
        };
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
        let elapsed = clock::instant().saturating_duration_since(started);
        let due = elapsed.saturating_sub(BODY_PROGRESS).as_secs() * BODY_BYTES_PER_SECOND;
        if u64::try_from(size).unwrap_or(u64::MAX) < due {
            return Err(too_slow());
        }
    }
    Ok(first.unwrap_or_else(|| rest.freeze()))
}

fn too_slow() -> Box<Refusal> {
    let message = "the body did not arrive in time";
    Box::new(Refusal::new(Code::RequestTimeout, message).closing())
}
