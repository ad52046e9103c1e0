//! The second half of a request's life: choose an endpoint, forward, try another before the first
//! byte, and hand the answer to [`crate::relay`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use proxy_admin::clock;
use proxy_api::{Body, Call, Edit, Stream, UsageRequest, splice};
use proxy_core::balance::{Candidate, choose};
use proxy_core::names::Code;
use proxy_core::quota::Wait;
use proxy_core::table::{Backend, Retry, Rule};
use smallvec::SmallVec;

use crate::answer::{Refusal, X_REQUEST_ID, refuse, show_levels};
use crate::credential::Shown;
use crate::endpoint::Placed;
use crate::exchange::Exchange;
use crate::live::LiveRule;
use crate::origin::{Origin, Outgoing};
use crate::relay::{Limits, Payload, Relay, Watch};
use crate::state::Core;
use crate::upstream::{AnswerBody, Failed, Failure, Patience};

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A charged request and everything that its tries need.
pub(crate) struct Sending<'a> {
    pub(crate) core: &'a Core,
    pub(crate) rule: Arc<LiveRule>,
    pub(crate) declared: &'a Rule,
    pub(crate) call: &'static Call,
    pub(crate) model: Arc<str>,
    /// The version of the API that the client speaks.
    pub(crate) version: Option<String>,
    pub(crate) client: &'a HeaderMap,
    pub(crate) shown: Option<Shown<'a>>,
    pub(crate) bytes: Bytes,
    pub(crate) body: Body,
    /// When it was admitted.
    pub(crate) now: Instant,
    pub(crate) deadline: Instant,
}

/// No endpoint answered: the exchange comes back with the refusal.
pub(crate) struct Unserviced {
    pub(crate) exchange: Box<Exchange>,
    pub(crate) refusal: Box<Refusal>,
}

/// What the tries so far came to.
#[derive(Default)]
struct Outcome {
    shortest_wait: Option<u64>,
    failed: Option<Failed>,
}

impl Sending<'_> {
    /// Tries endpoints until one answers, the retries are used up, or none is left.
    pub(crate) async fn forward(
        &self,
        mut exchange: Box<Exchange>,
    ) -> Result<Response<Payload>, Box<Unserviced>> {
        let mut candidates = self.candidates();
        let mut outcome = Outcome::default();
        let retry = self.declared.retry;
        for attempt in 0..=retry.attempts {
            let Some(index) = choose(&candidates, &mut rand::rng()) else {
                break;
            };
            if let Some(candidate) = candidates.get_mut(index) {
                candidate.excluded = true;
            }
            let Some((at, origin)) = self.endpoint(index) else {
                continue;
            };
            exchange.placed(at);
            let now = if attempt == 0 {
                self.now
            } else {
                clock::instant()
            };
            let tried = self.attempt(at, origin, &exchange, now).await;
            let more = attempt < retry.attempts && candidates.iter().any(usable);
            match tried {
                Ok(response) => {
                    let again = more && is_retried(retry, response.status());
                    if response.status() == StatusCode::TOO_MANY_REQUESTS {
                        let wait = retry_after_ms(response.headers());
                        let known = outcome.shortest_wait.get_or_insert(wait);
                        *known = wait.min(*known);
                        if !again && exchange.record.tries > 1 {
                            let refusal = throttled(*known);
                            return Err(Box::new(Unserviced { exchange, refusal }));
                        }
                    }
                    if !again {
                        let backend = &at.place.declared.backend;
                        return Ok(self.relay(response, exchange, backend));
                    }
                }
                Err(failure) => {
                    let again = match failure.how {
                        Failure::Unreachable => retry.on_connect_failure,
                        Failure::Timeout => retry.on_timeout,
                        // It may have been answered, and billed.
                        Failure::BrokeOff => false,
                    };
                    outcome.failed = Some(failure);
                    if !(again && more) {
                        break;
                    }
                }
            }
        }
        let refusal = self.unserved(&mut exchange, outcome);
        Err(Box::new(Unserviced { exchange, refusal }))
    }

    fn unserved(&self, exchange: &mut Exchange, outcome: Outcome) -> Box<Refusal> {
        match (outcome.failed, outcome.shortest_wait) {
            (Some(failure), _) => {
                tracing::warn!(
                    route = &*self.rule.metrics.route,
                    backend = exchange.record.endpoint.as_deref().map(|one| &*one.backend),
                    code = failure.how.code().as_str(),
                    cause = failure.cause,
                    "a backend did not answer"
                );
                if failure.how != Failure::Unreachable {
                    // It may have worked on the request: what it billed is not known.
                    exchange.estimated(0, clock::instant());
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

    fn candidates(&self) -> SmallVec<[Candidate; 4]> {
        let targets = self.rule.targets.iter().enumerate();
        targets
            .map(|(index, target)| Candidate {
                priority: target.flat.priority,
                weight: target.flat.weight,
                excluded: self.endpoint(index).is_none(),
            })
            .collect()
    }

    /// The endpoint of a target, if it has one for the model and its address can be used.
    fn endpoint(&self, target: usize) -> Option<(&Placed, &Origin)> {
        let at = self.rule.targets.get(target)?.endpoint(&self.model)?;
        Some((at, at.place.origin.as_deref()?))
    }

    async fn attempt(
        &self,
        at: &Placed,
        origin: &Origin,
        exchange: &Exchange,
        now: Instant,
    ) -> Result<Response<AnswerBody>, Failed> {
        let Placed { endpoint, place } = at;
        let deployment = &*endpoint.deployment;
        let destination = origin.destination(self.call, deployment, self.version.as_deref());
        let tried = match destination {
            Ok(destination) => {
                let edit = Edit {
                    model: destination.model_in_body.then_some(deployment),
                    usage: destination.asks_usage,
                };
                let body = splice(&self.bytes, &self.body, edit);
                let outgoing = Outgoing {
                    destination,
                    client: self.client,
                    shown: self.shown.as_ref(),
                    request_id: &exchange.record.request_id,
                    body,
                };
                let patience = self.patience(&place.declared.backend, now);
                self.core
                    .connections
                    .send(origin, &outgoing, patience)
                    .await
            }
            Err(error) => Err(Failed {
                how: Failure::Unreachable,
                cause: format!("the request cannot be built: {error}"),
            }),
        };
        let metrics = &self.core.shared.metrics;
        let tries = |status| metrics.tries(&endpoint.backend, deployment, status);
        endpoint.tried(tried.as_ref().ok().map(Response::status));
        match &tried {
            // Counted by the endpoint, without a look at labels.
            Ok(response) if response.status() == StatusCode::OK => {}
            Ok(response) => drop(tries(response.status().as_str()).inc()),
            Err(failed) => drop(tries(failed.how.code().as_str()).inc()),
        }
        tried
    }

    /// The wait for the head of an answer: the backend's, the rule's if that is shorter, and not beyond the
    /// request's end.
    fn patience(&self, backend: &Backend, now: Instant) -> Patience {
        let of_backend = backend.first_byte_timeout;
        let of_rule = self.declared.first_token_timeout.unwrap_or(of_backend);
        Patience {
            now,
            answer: of_backend.min(of_rule),
            until: self.deadline,
        }
    }

    fn relay(
        &self,
        response: Response<AnswerBody>,
        mut exchange: Box<Exchange>,
        backend: &Backend,
    ) -> Response<Payload> {
        let now = clock::instant();
        exchange.record.answered(response.status().as_u16(), now);
        let (mut parts, body) = response.into_parts();
        let id = exchange.record.request_id.clone();
        parts.headers.entry(X_REQUEST_ID).or_insert(id);
        show_levels(&exchange.levels(), &mut parts.headers);
        let watch = if !parts.status.is_success() {
            Watch::error()
        } else if is_event_stream(&parts.headers) {
            parts.headers.remove(CONTENT_LENGTH);
            parts
                .headers
                .entry(X_ACCEL_BUFFERING)
                .or_insert(HeaderValue::from_static("no"));
            let asked_by_us = self.call.usage_request != UsageRequest::None;
            let strip = asked_by_us && !self.body.asks_usage();
            Watch::Events(Stream::new(self.call.events, self.call.read_usage, strip))
        } else {
            Watch::json(self.call.read_usage)
        };
        let limits = Limits::new(backend.idle_timeout, self.deadline, now);
        let relay = Relay::new(body, exchange, watch, limits);
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
    let message = "every backend of the rule is throttled; retry later";
    let refusal = Refusal::new(Code::BackendThrottled, message);
    Box::new(refusal.waiting(Wait::Millis(wait_ms)))
}
