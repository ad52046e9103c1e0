//! The way of one request: key, route, API, limits, faults, answer. The same for all APIs.

use std::{cell::RefCell, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use serde_json::Value;

use crate::{
    auth::{self, Credential},
    call::{Call, JSON, Job, Reply, Whole},
    errors::Failure,
    faults::Fault,
    foundry::Foundry,
    headers,
    limits::Standing,
    record::Outcome,
    routes::{self, Route},
    stream::{Body, Pace, Stop, Stream},
    surface::{self, Place},
    ticket::Ticket,
};

/// Answers a request, whatever it is.
pub(crate) async fn respond(foundry: &Arc<Foundry>, parts: &Parts, body: &Bytes) -> Response<Body> {
    let mut ticket = Ticket::open(foundry, parts, body);
    let admitted = match admit(foundry, parts, body, &mut ticket) {
        Ok(admitted) => admitted,
        Err(failure) => return refused(foundry, parts, &failure, ticket),
    };
    let fault = fault(foundry, parts, admitted.operation, &ticket);
    if let Some(member) = &fault.refuse
        && admitted.job.members.contains(member)
    {
        let message =
            format!("Unsupported parameter: '{member}' is not supported with this model.");
        let failure = Failure::invalid(&message, Some(member), Some("unsupported_parameter"));
        return refused(foundry, parts, &failure, ticket);
    }
    let delay = Duration::from_millis(fault.delay_ms.unwrap_or(0));
    if fault.hang && fault.cut_after_chunks.is_none() {
        // Ends when the caller hangs up: the future is dropped, and the ticket with it.
        std::future::pending::<()>().await;
    }
    if fault.status.is_some() {
        wait(delay).await;
        return scripted(foundry, parts, &fault, ticket);
    }
    let mut latency = Duration::ZERO;
    if let Some(input) = admitted.job.input {
        ticket.reached = true;
        ticket.usage = input;
        latency = foundry.latency;
    }
    wait(latency.saturating_add(delay)).await;
    let mut response = produce(foundry, admitted, &fault, ticket);
    headers::put_common(foundry, &parts.headers, response.headers_mut());
    put_scripted(&fault, response.headers_mut());
    response
}

/// A request that was let in.
struct Admitted {
    job: Job,
    operation: &'static str,
    standing: Standing,
}

/// Everything that can be refused, in the order of Foundry's front door: header count, key, path, then
/// the API itself, and its limits.
fn admit(
    foundry: &Arc<Foundry>,
    parts: &Parts,
    body: &Bytes,
    ticket: &mut Ticket,
) -> Result<Admitted, Failure> {
    headers::check_custom(&parts.headers)?;
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    match foundry
        .keys
        .judge(&parts.headers, surface::credentials(path))
    {
        Credential::Accepted { fingerprint } => ticket.key = Some(fingerprint),
        Credential::Refused { fingerprint } => {
            ticket.key = Some(fingerprint);
            return Err(Failure::unauthorized());
        }
        Credential::Missing => return Err(Failure::unauthorized()),
    }
    let place = Place::of(path, query)?;
    let (route, ids) = routes::find(&parts.method, &place)?;
    foundry.settle_background();
    let call = Call {
        foundry,
        place,
        ids,
        body,
        query,
        key: ticket.key.clone().unwrap_or_default(),
        received: ticket.received(),
        found: RefCell::default(),
    };
    let job = (route.handler)(&call);
    ticket.deployment = call.found.into_inner();
    let job = job?;
    let standing = charge(route, &place, &job, ticket)?;
    Ok(Admitted {
        job,
        operation: route.operation,
        standing,
    })
}

fn charge(
    route: &Route,
    place: &Place<'_>,
    job: &Job,
    ticket: &mut Ticket,
) -> Result<Standing, Failure> {
    let (Some(cost), Some(deployment)) = (job.cost, &ticket.deployment) else {
        return Ok(Standing::default());
    };
    let standing = deployment
        .meter
        .charge(ticket.received(), cost)
        .map_err(|refusal| headers::throttled(refusal, route.operation, place.surface.version()))?;
    ticket.charged = Some(cost);
    Ok(standing)
}

fn fault(foundry: &Foundry, parts: &Parts, operation: &str, ticket: &Ticket) -> Fault {
    let forms = surface::credentials(parts.uri.path());
    let key = auth::shown(&parts.headers, forms).unwrap_or_default();
    let deployment = ticket.deployment.as_ref().map(|one| one.name.as_str());
    foundry
        .faults
        .take(deployment, key, operation)
        .unwrap_or_default()
}

async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// The answer of the API, whole or as a stream, up to where a fault ends it.
fn produce(
    foundry: &Arc<Foundry>,
    admitted: Admitted,
    fault: &Fault,
    mut ticket: Ticket,
) -> Response<Body> {
    let deployment = ticket.deployment.clone();
    let reached = ticket.reached;
    let deferred = admitted.job.deferred;
    if deferred {
        ticket.charged = None;
    }
    let reply = (admitted.job.reply)();
    let streaming = matches!(reply, Reply::Events(_));
    let mut response = match reply {
        Reply::Events(events) => {
            ticket.status = Some(StatusCode::OK.as_u16());
            let pace = Pace {
                interval: foundry.token_interval,
                end_delay: foundry.end_delay,
            };
            let stream = Stream::new(events, ticket, pace, Stop::of(fault));
            let mut response = Response::new(Body::Stream(Box::new(stream)));
            put_type("text/event-stream; charset=utf-8", response.headers_mut());
            response
        }
        Reply::Whole(whole) => {
            ticket.status = Some(whole.status.as_u16());
            ticket.usage = whole.usage;
            if fault.truncate || fault.cut_after_chunks.is_some() {
                ticket.close(Outcome::CutByFault);
                let sent = if fault.truncate {
                    whole.body.len() / 2
                } else {
                    0
                };
                cut(&whole.body, sent, whole.content_type)
            } else {
                ticket.close(Outcome::Answered);
                self::whole(whole)
            }
        }
    };
    if let Some(deployment) = deployment.filter(|_| reached || deferred) {
        headers::put_model(&deployment, streaming, response.headers_mut());
        headers::put_standing(admitted.standing, response.headers_mut());
    }
    response
}

/// The answer that a fault prescribes.
fn scripted(foundry: &Foundry, parts: &Parts, fault: &Fault, mut ticket: Ticket) -> Response<Body> {
    let status = fault
        .status
        .and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = match &fault.body {
        Some(Value::String(text)) => text.clone(),
        Some(body) => body.to_string(),
        None => Failure::scripted(status).body.to_string(),
    };
    let bytes = Bytes::from(body);
    ticket.status = Some(status.as_u16());
    let mut response = if fault.truncate {
        ticket.close(Outcome::CutByFault);
        cut(&bytes, bytes.len() / 2, JSON)
    } else {
        ticket.close(Outcome::Answered);
        json(status, bytes)
    };
    *response.status_mut() = status;
    headers::put_common(foundry, &parts.headers, response.headers_mut());
    put_scripted(fault, response.headers_mut());
    response
}

fn refused(
    foundry: &Foundry,
    parts: &Parts,
    failure: &Failure,
    mut ticket: Ticket,
) -> Response<Body> {
    ticket.status = Some(failure.status.as_u16());
    ticket.close(Outcome::Answered);
    refuse(foundry, parts, failure)
}

/// The response that reports a failure.
pub(crate) fn refuse(foundry: &Foundry, parts: &Parts, failure: &Failure) -> Response<Body> {
    let mut response = json(failure.status, Bytes::from(failure.body.to_string()));
    headers::put_common(foundry, &parts.headers, response.headers_mut());
    for (name, value) in failure.headers.iter() {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// A whole JSON response.
pub(crate) fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    whole(Whole {
        status,
        content_type: JSON,
        body,
        usage: Default::default(),
    })
}

fn whole(whole: Whole) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Full::new(whole.body)));
    *response.status_mut() = whole.status;
    put_type(whole.content_type, response.headers_mut());
    response
}

/// A response that promises all of `bytes` and breaks off after `sent` of them.
fn cut(bytes: &Bytes, sent: usize, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::cut(bytes.slice(..sent.min(bytes.len()))));
    put_type(content_type, response.headers_mut());
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, bytes.len().into());
    response
}

fn put_type(content_type: &'static str, response: &mut HeaderMap) {
    let value = HeaderValue::from_static(content_type);
    response.insert(header::CONTENT_TYPE, value);
}

/// Headers of a fault; they win over the usual ones.
fn put_scripted(fault: &Fault, response: &mut HeaderMap) {
    for (name, value) in &fault.headers {
        // Both were checked when the fault was set.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.insert(name, value);
        }
    }
}
