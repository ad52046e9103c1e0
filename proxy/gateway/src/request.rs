//! The life of a request: authenticate -> match route -> estimate -> reserve -> choose a backend
//! -> forward -> read usage -> settle -> record. The last three happen in [`crate::relay`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use proxy_admin::clock;
use proxy_core::admit::{self, Ask, Permit};
use proxy_core::auth::Caller;
use proxy_core::balance::{Candidate, choose};
use proxy_core::names::{Code, Operation};
use proxy_core::quota::{Cost, Wait};
use proxy_core::table::{Backend, Deployment, Retry};
use proxy_core::tokens::{Shape, estimate};

use crate::answer::{self, Refusal};
use crate::credential::{self, Shown};
use crate::dialect::{self, Target, Unserved, parameter};
use crate::exchange::Exchange;
use crate::live::Live;
use crate::relay::{Payload, Relay, Watch};
use crate::scan::{self, Body};
use crate::server::Core;
use crate::splice::splice;
use crate::sse;
use crate::upstream::{self, Failed, Origin};

/// Silence within a request's body after which the client is given up.
const BODY_PROGRESS: Duration = Duration::from_secs(10);
/// A body may trickle, but not below this rate once the grace is over (1 KB/s after 10 s).
const BODY_BYTES_PER_SECOND: u64 = 1_000;
/// A route without a timeout: Azure lets a call last 29 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How much of a refused request is read on, and for how long.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

type Answer = Response<Payload>;

/// Answers one request, whatever it is.
pub(crate) async fn handle(core: Arc<Core>, request: Request<Incoming>) -> Answer {
    let id = request_id(request.headers());
    let mut exchange = Some(Exchange::begin(&core.shared, id.clone()));
    let (parts, mut body) = request.into_parts();
    match serve(&core, &parts, &mut body, &mut exchange).await {
        Ok(answer) => answer,
        Err(mut refusal) => {
            refusal.close |= !drained(&mut body).await;
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
    let version = parameter(parts.uri.query(), "api-version").map_err(|()| {
        refuse(
            Code::InvalidRequest,
            "query parameter api-version is malformed or given twice",
        )
    })?;
    let bytes = read_body(&parts.headers, body, core.shared.config.max_body).await?;
    let scanned = scan::body(&bytes).map_err(|why| refuse(Code::InvalidRequest, why.0))?;
    let model = match (&target.model, &scanned.model) {
        (Some(model), _) | (None, Some((model, _))) => model.clone(),
        (None, None) => return Err(refuse(Code::InvalidRequest, "\"model\" is missing")),
    };
    exchange.model = Some(model.clone());
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

    let shape = Shape {
        body_bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        max_output_tokens: scanned.max_output_tokens,
        choices: scanned.choices,
    };
    let usage = estimate(shape, core.shared.config.default_output_tokens);
    let cost = Cost {
        usage,
        cost_micros: permit.flat.max_price.cost_micros(usage),
    };
    exchange.price = permit.flat.max_price;
    let charge =
        core.shared
            .ledger
            .reserve(&live, &permit, &caller, Some(&model), cost, clock::now)?;
    exchange.charge = Some(charge);

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

fn refuse(code: Code, message: impl Into<String>) -> Box<Refusal> {
    Box::new(Refusal::new(code, message))
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
    if text.contains('@') || parsed.host().is_empty() {
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

/// A charged request and everything that its tries need.
struct Sending<'a> {
    core: &'a Core,
    live: &'a Live,
    permit: &'a Permit<'a>,
    target: &'a Target,
    model: &'a str,
    version: Option<&'a str>,
    client: &'a HeaderMap,
    shown: Option<&'a Shown<'a>>,
    bytes: Bytes,
    scanned: &'a Body,
    deadline: Instant,
}

/// What one try came to.
enum Tried {
    Answered(Response<Incoming>),
    Failed(Failed),
}

impl Sending<'_> {
    /// Tries targets until one answers, the retries are used up, or none is left.
    async fn forward(&self, slot: &mut Option<Exchange>) -> Result<Answer, Box<Refusal>> {
        let mut candidates = self.candidates();
        let mut shortest_wait: Option<u64> = None;
        let mut failed: Option<Failed> = None;
        let retry = self.permit.rule.retry;
        for attempt in 0..=retry.attempts {
            let Some(index) = choose(&candidates, &mut rand::rng()) else {
                break;
            };
            if let Some(candidate) = candidates.get_mut(index) {
                candidate.excluded = true;
            }
            let Some(exchange) = slot.as_mut() else { break };
            exchange.tries = exchange.tries.saturating_add(1);
            let Some((backend, tried)) = self.attempt(index, exchange).await else {
                continue;
            };
            let more = attempt < retry.attempts && candidates.iter().any(usable);
            match tried {
                Tried::Answered(response) => {
                    let again = more && is_retried(retry, response.status());
                    if response.status() == StatusCode::TOO_MANY_REQUESTS {
                        let wait = retry_after_ms(response.headers());
                        shortest_wait = Some(shortest_wait.map_or(wait, |known| known.min(wait)));
                        if !again && exchange.tries > 1 {
                            return Err(throttled(shortest_wait.unwrap_or(wait)));
                        }
                    }
                    if again {
                        continue;
                    }
                    let Some(exchange) = slot.take() else { break };
                    return Ok(self.relay(response, exchange, backend));
                }
                Tried::Failed(failure) => {
                    let again = match failure.code {
                        Code::UpstreamTimeout => retry.on_timeout,
                        _ => retry.on_connect_failure,
                    };
                    let code = failure.code;
                    failed = Some(failure);
                    // An answer that broke off may be billed: only a failed connection is not.
                    if code == Code::UpstreamFailed || !(again && more) {
                        break;
                    }
                }
            }
        }
        Err(self.unserved(slot, shortest_wait, failed))
    }

    fn unserved(
        &self,
        slot: &mut Option<Exchange>,
        shortest_wait: Option<u64>,
        failed: Option<Failed>,
    ) -> Box<Refusal> {
        match (failed, shortest_wait) {
            (Some(failure), _) => {
                tracing::warn!(
                    route = %self.permit.route.name,
                    backend = slot.as_ref().and_then(|exchange| exchange.backend.as_deref()),
                    code = failure.code.as_str(),
                    cause = failure.cause,
                    "a backend did not answer"
                );
                if failure.code != Code::UpstreamUnreachable
                    && let Some(exchange) = slot
                {
                    // It may have worked on the request: what it billed is not known.
                    exchange.estimated(0);
                }
                let message = match failure.code {
                    Code::UpstreamTimeout => "the backend did not answer in time",
                    Code::UpstreamUnreachable => "the backend cannot be reached",
                    _ => "the backend broke off before it answered",
                };
                refuse(failure.code, message)
            }
            (None, Some(wait)) => throttled(wait),
            (None, None) => refuse(
                Code::NoBackend,
                format!(
                    "no backend of the rule has a deployment for model {:?}",
                    self.model
                ),
            ),
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let targets = self.permit.flat.targets.iter().enumerate();
        targets
            .map(|(index, target)| Candidate {
                priority: target.priority,
                weight: target.weight,
                excluded: self.resolve(index).is_none(),
            })
            .collect()
    }

    fn resolve(&self, target: usize) -> Option<(&Backend, &Deployment, &Origin)> {
        let target = self.permit.flat.targets.get(target)?;
        let backend = self.live.table.contents().backends.get(target.backend)?;
        let origin = self.live.origins.get(target.backend)?.as_ref().ok()?;
        let deployment = backend.deployment(target.deployment.as_deref(), Some(self.model))?;
        Some((backend, deployment, origin))
    }

    async fn attempt(&self, target: usize, exchange: &mut Exchange) -> Option<(&Backend, Tried)> {
        let (backend, deployment, origin) = self.resolve(target)?;
        let name = backend.name.to_string();
        exchange.deployment = Some(Arc::clone(&deployment.name));
        exchange.price = deployment.price;
        let call = origin.chat(self.target.dialect, &deployment.name, self.version);
        let body = splice(&self.bytes, self.scanned, &call, &deployment.name);
        let shown = self.shown.filter(|_| origin.passes_credential());
        let request = upstream::request(
            origin,
            &call,
            self.client,
            shown,
            &exchange.request_id,
            body,
        );
        let tried = match request {
            Ok(request) => {
                let wait = self.first_byte(backend);
                match self.core.connections.send(origin, request, wait).await {
                    Ok(response) => Tried::Answered(response),
                    Err(failed) => Tried::Failed(failed),
                }
            }
            Err(error) => Tried::Failed(Failed {
                code: Code::UpstreamUnreachable,
                cause: format!("the request cannot be built: {error}"),
            }),
        };
        let status = match &tried {
            Tried::Answered(response) => response.status().as_str().to_owned(),
            Tried::Failed(failed) => failed.code.as_str().to_owned(),
        };
        self.core
            .shared
            .metrics
            .tried(&name, &deployment.name, &status);
        exchange.backend = Some(name);
        Some((backend, tried))
    }

    /// The wait for the head of an answer: the backend's, the rule's, and what is left of the
    /// request's own.
    fn first_byte(&self, backend: &Backend) -> Duration {
        let left = self.deadline.saturating_duration_since(clock::instant());
        let rule = self.permit.rule.first_token_timeout.unwrap_or(left);
        backend.first_byte_timeout.min(rule).min(left)
    }

    fn relay(
        &self,
        response: Response<Incoming>,
        mut exchange: Exchange,
        backend: &Backend,
    ) -> Answer {
        exchange.answered(response.status().as_u16());
        let (mut parts, body) = response.into_parts();
        upstream::strip_connection_headers(&mut parts.headers);
        let id = exchange.request_id.clone();
        parts.headers.entry(X_REQUEST_ID).or_insert(id);
        let watch = if !parts.status.is_success() {
            Watch::Error {
                kept: Vec::new(),
                size: 0,
            }
        } else if is_event_stream(&parts.headers) {
            parts.headers.remove(CONTENT_LENGTH);
            parts
                .headers
                .entry(X_ACCEL_BUFFERING)
                .or_insert(HeaderValue::from_static("no"));
            Watch::Events(sse::Stream::new(!self.scanned.asks_usage()))
        } else {
            Watch::Json {
                kept: Vec::new(),
                size: 0,
            }
        };
        let deadline = Some(self.deadline);
        let relay = Relay::new(body, exchange, watch, backend.idle_timeout, deadline);
        Response::from_parts(parts, Payload::Relayed(Box::new(relay)))
    }
}

const fn usable(candidate: &Candidate) -> bool {
    !candidate.excluded && candidate.weight > 0
}

fn is_retried(retry: Retry, status: StatusCode) -> bool {
    match status.as_u16() {
        429 => retry.on_too_many_requests,
        500 | 502..=504 => retry.on_server_error,
        _ => false,
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes()
            .to_ascii_lowercase()
            .starts_with(b"text/event-stream")
    })
}

/// The wait that a throttled backend asks for; a second if it does not say.
fn retry_after_ms(headers: &HeaderMap) -> u64 {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let millis = number("retry-after-ms").or_else(|| Some(number("retry-after")? * 1_000.0));
    let millis = millis
        .filter(|millis| millis.is_finite())
        .unwrap_or(1_000.0)
        .clamp(1.0, 86_400_000.0);
    u64::try_from(Duration::from_secs_f64(millis / 1_000.0).as_millis()).unwrap_or(1_000)
}

fn throttled(wait_ms: u64) -> Box<Refusal> {
    let mut refusal = Refusal::new(
        Code::BackendThrottled,
        "every backend of the rule is throttled; retry later",
    );
    refusal.wait = Some(Wait::Millis(wait_ms));
    Box::new(refusal)
}
