//! The second half of a request's life: choose a backend, forward, try another before the first
//! byte, and hand the answer to [`crate::relay`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Incoming;
use proxy_admin::clock;
use proxy_core::admit::Permit;
use proxy_core::balance::{Candidate, choose};
use proxy_core::names::Code;
use proxy_core::quota::Wait;
use proxy_core::table::{Backend, Deployment, Retry};

use crate::answer::{Refusal, X_REQUEST_ID};
use crate::credential::Shown;
use crate::dialect::Target;
use crate::exchange::Exchange;
use crate::live::{Live, LiveBackend};
use crate::relay::{Payload, Relay, Watch};
use crate::request::refuse;
use crate::scan::Body;
use crate::server::Core;
use crate::splice::splice;
use crate::sse;
use crate::upstream::{self, Failed, Failure, Origin};

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A charged request and everything that its tries need.
pub(crate) struct Sending<'a> {
    pub(crate) core: &'a Core,
    pub(crate) live: &'a Live,
    pub(crate) permit: &'a Permit<'a>,
    pub(crate) target: &'a Target,
    pub(crate) model: &'a str,
    pub(crate) version: Option<&'a str>,
    pub(crate) client: &'a HeaderMap,
    pub(crate) shown: Option<&'a Shown<'a>>,
    pub(crate) bytes: Bytes,
    pub(crate) scanned: &'a Body,
    pub(crate) deadline: Instant,
}

/// Everything about one target of the rule.
struct Resolved<'a> {
    backend: &'a Backend,
    deployment: &'a Deployment,
    origin: &'a Origin,
    live: &'a LiveBackend,
}

/// What one try came to.
enum Tried {
    Answered(Response<Incoming>),
    Failed(Failed),
}

impl Sending<'_> {
    /// Tries targets until one answers, the retries are used up, or none is left.
    pub(crate) async fn forward(
        &self,
        slot: &mut Option<Exchange>,
    ) -> Result<Response<Payload>, Box<Refusal>> {
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
                    let again = match failure.how {
                        Failure::Unreachable => retry.on_connect_failure,
                        Failure::Timeout => retry.on_timeout,
                        // It may have been answered, and billed.
                        Failure::BrokeOff => false,
                    };
                    failed = Some(failure);
                    if !(again && more) {
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
                    code = failure.how.code().as_str(),
                    cause = failure.cause,
                    "a backend did not answer"
                );
                if failure.how != Failure::Unreachable
                    && let Some(exchange) = slot
                {
                    // It may have worked on the request: what it billed is not known.
                    exchange.estimated(0);
                }
                let message = match failure.how {
                    Failure::Timeout => "the backend did not answer in time",
                    Failure::Unreachable => "the backend cannot be reached",
                    Failure::BrokeOff => "the backend broke off before it answered",
                };
                refuse(failure.how.code(), message)
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

    fn resolve(&self, target: usize) -> Option<Resolved<'_>> {
        let endpoint = self.permit.flat.targets.get(target)?.endpoint(self.model)?;
        let live = self.live.backends.get(&endpoint.backend.name)?;
        let origin = live.origin.as_ref().ok()?;
        Some(Resolved {
            backend: &endpoint.backend,
            deployment: &endpoint.deployment,
            origin,
            live,
        })
    }

    async fn attempt(&self, target: usize, exchange: &mut Exchange) -> Option<(&Backend, Tried)> {
        let Resolved {
            backend,
            deployment,
            origin,
            live,
        } = self.resolve(target)?;
        exchange.backend = Some(Arc::clone(&live.name));
        exchange.deployment = Some(Arc::clone(&deployment.name));
        exchange.price = deployment.price;
        let call = origin.chat(self.target.dialect, &deployment.name, self.version);
        let tried = match call {
            Ok(call) => {
                let body = splice(&self.bytes, self.scanned, &call, &deployment.name);
                let shown = self.shown.filter(|_| origin.passes_credential());
                let id = &exchange.request_id;
                let request = upstream::request(origin, call, self.client, shown, id, body);
                let wait = self.first_byte(backend);
                match self.core.connections.send(origin, request, wait).await {
                    Ok(response) => Tried::Answered(response),
                    Err(failed) => Tried::Failed(failed),
                }
            }
            Err(error) => Tried::Failed(Failed {
                how: Failure::Unreachable,
                cause: format!("the request cannot be built: {error}"),
            }),
        };
        let tries = |status| {
            self.core
                .shared
                .metrics
                .tries(&live.name, &deployment.name, status)
        };
        match &tried {
            Tried::Answered(response) if response.status() == StatusCode::OK => {
                if let Some(answered) = live.answered.get(&deployment.name) {
                    answered.inc();
                }
            }
            Tried::Answered(response) => {
                tries(response.status().as_str()).inc();
            }
            Tried::Failed(failed) => {
                tries(failed.how.code().as_str()).inc();
            }
        }
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
    ) -> Response<Payload> {
        exchange.answered(response.status().as_u16());
        let (mut parts, body) = response.into_parts();
        upstream::strip_connection_headers(&mut parts.headers);
        let id = exchange.request_id.clone();
        parts.headers.entry(X_REQUEST_ID).or_insert(id);
        if let Some(charge) = &exchange.charge {
            charge.levels.tell(&mut parts.headers);
        }
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
