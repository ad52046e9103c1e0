//! The requests of the channel: `GET /v1/table`, `POST /v1/ack` and `POST /v1/report`.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use proxy_admin::shutdown::Shutdown;
use proxy_wire::v1::{Ack, BY_EDITS, BY_SHARDS, Report};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::publisher::subscription::{Follower, Subscription};
use crate::publisher::{Form, Publisher};
use crate::review::{Denial, Gate};

/// An acknowledgement that names each of 20,000 entries as unsupported; usually a few hundred bytes.
const ACK_LIMIT: usize = 8 * 1024 * 1024;

/// A report of ten thousand counters with long names.
const REPORT_LIMIT: usize = 8 * 1024 * 1024;

/// The answer to any other path or method.
const PATHS: &str = "GET /v1/table, POST /v1/ack, POST /v1/report";

/// Longest wait for the body of an acknowledgement or a report.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause between heartbeats in seconds, in the answer to a subscription: how long a proxy waits for one.
const HEARTBEAT: HeaderName = HeaderName::from_static("x-tundish-heartbeat");

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers the requests of every connection.
pub(super) struct Channel {
    pub(super) publisher: Publisher,
    pub(super) gate: Gate,
    /// Pause between heartbeats.
    pub(super) heartbeat: Duration,
    /// Longest life of a subscription.
    pub(super) subscription_life: Duration,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

// === impl Channel ===

impl Channel {
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        shutdown: Shutdown,
    ) -> Response<Body> {
        let path = request.uri().path();
        let answered = match (request.method(), path) {
            (&Method::GET, "/v1/table") => self.table(&request, shutdown).await,
            (&Method::POST, "/v1/ack") => self.ack(request).await,
            (&Method::POST, "/v1/report") => self.report(request).await,
            (_, "/v1/table" | "/v1/ack" | "/v1/report") => Err(Refusal {
                status: StatusCode::METHOD_NOT_ALLOWED,
                code: "MethodNotAllowed",
                message: PATHS.to_owned(),
            }),
            _ => Err(Refusal {
                status: StatusCode::NOT_FOUND,
                code: "NotFound",
                message: PATHS.to_owned(),
            }),
        };
        answered.unwrap_or_else(Refusal::into_response)
    }

    async fn table(
        &self,
        request: &Request<Incoming>,
        shutdown: Shutdown,
    ) -> Result<Response<Body>, Refusal> {
        let reviewed = self.reviewed(request.headers()).await?;
        let query = |name: &str| {
            let pairs = request.uri().query().unwrap_or_default().as_bytes();
            url::form_urlencoded::parse(pairs)
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let replica = identity(reviewed, query("replica"))?;
        if self.publisher.newest().is_none() {
            return Err(Refusal {
                status: StatusCode::SERVICE_UNAVAILABLE,
                code: "NotReady",
                message: "nothing has been compiled yet".to_owned(),
            });
        }
        if let Some(revision) = query("revision").and_then(|text| text.parse().ok()) {
            self.publisher.seen(revision);
        }
        let follower = Follower {
            replica,
            instance: query("instance"),
            have: query("have"),
            form: Form {
                by_shards: query("digest").is_some_and(|kind| kind == BY_SHARDS),
                by_edits: query("deltas").is_some_and(|kind| kind == BY_EDITS),
            },
        };
        let subscription = Subscription::new(
            &self.publisher,
            follower,
            (self.heartbeat, self.subscription_life),
            shutdown,
        );
        let lines = stream::unfold(subscription, |mut subscription| async move {
            let line = subscription.next().await?;
            Some((Ok(Frame::data(line)), subscription))
        });
        let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-ndjson"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            HEARTBEAT,
            HeaderValue::from(self.heartbeat.as_secs().max(1)),
        );
        Ok(response)
    }

    async fn ack(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let (reviewed, ack) = self.posted::<Ack>(request, ACK_LIMIT).await?;
        let replica = identity(reviewed, Some(ack.replica.clone()))?.unwrap_or_default();
        acknowledged(self.publisher.acknowledge(&replica, ack))
    }

    async fn report(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let (reviewed, report) = self.posted::<Report>(request, REPORT_LIMIT).await?;
        let replica = identity(reviewed, Some(report.replica.clone()))?.unwrap_or_default();
        acknowledged(self.publisher.report(&replica, report))
    }

    /// The reviewed identity of the sender, and the message.
    async fn posted<T: DeserializeOwned>(
        &self,
        request: Request<Incoming>,
        limit: usize,
    ) -> Result<(Option<String>, T), Refusal> {
        let (head, body) = request.into_parts();
        let reviewed = self.reviewed(&head.headers).await?;
        let body = timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await;
        let body = match body {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return Err(Refusal::bad_request(format!("body: {error}"))),
            Err(_elapsed) => return Err(Refusal::bad_request("body: too slow".to_owned())),
        };
        let posted = serde_json::from_slice(&body)
            .map_err(|error| Refusal::bad_request(format!("body: {error}")))?;
        Ok((reviewed, posted))
    }

    async fn reviewed(&self, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
        let token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .filter(|token| !token.is_empty());
        let verdict = match token {
            Some(token) => self.gate.admit(token).await,
            None => Err(Denial::Unauthenticated("no bearer token".to_owned())),
        };
        verdict.map_err(|denial| {
            let (status, code) = match &denial {
                Denial::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "Unauthenticated"),
                Denial::WrongAudience { .. } | Denial::WrongAccount { .. } => {
                    (StatusCode::FORBIDDEN, "Forbidden")
                }
                Denial::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ReviewUnavailable"),
            };
            Refusal {
                status,
                code,
                message: denial.to_string(),
            }
        })
    }
}

/// The answer to a message. Only subscribers may send one.
fn acknowledged(known: bool) -> Result<Response<Body>, Refusal> {
    if !known {
        return Err(Refusal {
            status: StatusCode::CONFLICT,
            code: "NotSubscribed",
            message: "this replica has no open subscription".to_owned(),
        });
    }
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// The identity to count: the reviewed one, else the caller's own word.
fn identity(reviewed: Option<String>, said: Option<String>) -> Result<Option<String>, Refusal> {
    match (reviewed, said) {
        (Some(reviewed), Some(said)) if reviewed != said => Err(Refusal {
            status: StatusCode::FORBIDDEN,
            code: "Forbidden",
            message: "the token belongs to another replica".to_owned(),
        }),
        (Some(replica), _) | (None, Some(replica)) => Ok(Some(replica)),
        (None, None) => Ok(None),
    }
}

/// An error response.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    const fn bad_request(message: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "BadRequest",
            message,
        }
    }

    fn into_response(self) -> Response<Body> {
        let json = serde_json::json!({"error": {"code": self.code, "message": self.message}});
        let body = Full::new(Bytes::from(format!("{json}\n"))).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
