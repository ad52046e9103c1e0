//! The way of one request: key, route, API, limits, faults, answer. The same for all APIs.

use std::{cell::RefCell, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, request::Parts};
use serde_json::Value;

use crate::{
    auth::{self, Credential, Form},
    call::{Call, EVENTS, JSON, Job, Reply, Whole},
    entra::Verdict,
    errors::Failure,
    faults::Fault,
    foundry::Foundry,
    headers,
    limits::Standing,
    record::Outcome,
    response,
    routes::{self, Route},
    sse::Events,
    stream::{Body, Pace, Stop, Stream},
    surface::{self, Place},
    ticket::Ticket,
};

/// One request and what every answer to it repeats.
pub(crate) struct Exchange<'a> {
    foundry: &'a Arc<Foundry>,
    parts: &'a Parts,
    is_anthropic: bool,
    request_id: HeaderValue,
}

/// Answers a request, whatever it is.
pub(crate) async fn respond(foundry: &Arc<Foundry>, parts: &Parts, body: &Bytes) -> Response<Body> {
    let exchange = Exchange::new(foundry, parts);
    let mut ticket = Ticket::open(foundry, parts, body);
    let admitted = match exchange.admit(body, &mut ticket) {
        Ok(admitted) => admitted,
        Err(failure) => return exchange.refused(&failure, ticket),
    };
    let fault = exchange.fault(admitted.operation, &ticket);
    if let Some(member) = &fault.refuse
        && admitted.job.members.contains(member)
    {
        let message =
            format!("Unsupported parameter: '{member}' is not supported with this model.");
        let failure = Failure::invalid(&message, Some(member), Some("unsupported_parameter"));
        return exchange.refused(&failure, ticket);
    }
    let delay = Duration::from_millis(fault.delay_ms.unwrap_or(0));
    if fault.hang && fault.cut_after_chunks.is_none() {
        // Ends when the caller hangs up: the future is dropped, and the ticket with it.
        std::future::pending::<()>().await;
    }
    if fault.status.is_some() {
        wait(delay).await;
        return exchange.scripted(&fault, ticket);
    }
    let mut latency = Duration::ZERO;
    if let Some(input) = admitted.job.input {
        ticket.reached = true;
        ticket.usage = input;
        latency = foundry.latency;
    }
    wait(latency.saturating_add(delay)).await;
    exchange.produce(admitted, &fault, ticket)
}

/// Refuses a request whose body could not be read.
pub(crate) fn refuse_body(foundry: &Arc<Foundry>, parts: &Parts) -> Response<Body> {
    Exchange::new(foundry, parts).refuse(&Failure::too_large())
}

/// A request that was let in.
struct Admitted {
    job: Job,
    operation: &'static str,
    standing: Standing,
}

async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

impl<'a> Exchange<'a> {
    fn new(foundry: &'a Arc<Foundry>, parts: &'a Parts) -> Self {
        let is_anthropic = surface::is_anthropic(parts.uri.path());
        Self {
            foundry,
            parts,
            is_anthropic,
            request_id: headers::request_id(foundry, is_anthropic),
        }
    }

    /// Everything that can be refused, in the order of Foundry's front door: header count, key, path, then
    /// the API itself, and its limits.
    fn admit(&self, body: &Bytes, ticket: &mut Ticket) -> Result<Admitted, Failure> {
        let headers = &self.parts.headers;
        // Documented for Azure OpenAI. Anthropic's SDK for Foundry sends twelve when it streams.
        if !self.is_anthropic {
            headers::check_custom(headers)?;
        }
        self.authenticate(ticket)?;
        let uri = &self.parts.uri;
        let query = uri.query().unwrap_or_default();
        let place = Place::of(uri.path(), query)?;
        let (route, ids) = routes::find(&self.parts.method, &place)?;
        self.foundry.settle_background();
        let call = Call {
            foundry: self.foundry,
            place,
            ids,
            headers,
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

    fn authenticate(&self, ticket: &mut Ticket) -> Result<(), Failure> {
        // Every surface takes Entra's tokens.
        if let Some(bearer) = auth::shown(&self.parts.headers, &[Form::Bearer]) {
            let now = ticket.received();
            match self.foundry.entra.judge(bearer, now) {
                Verdict::Accepted { client_id } => {
                    ticket.key = Some(format!("entra-{client_id}").into());
                    return Ok(());
                }
                Verdict::WithoutRole { client_id } => {
                    return Err(Failure::permission_denied(&client_id));
                }
                Verdict::Refused => return Err(Failure::unauthorized()),
                Verdict::Unknown => {}
            }
        }
        let forms = surface::credentials(self.parts.uri.path());
        match self.foundry.keys.judge(&self.parts.headers, forms) {
            Credential::Accepted { fingerprint } => {
                ticket.key = Some(fingerprint);
                return Ok(());
            }
            Credential::Refused { fingerprint } => ticket.key = Some(fingerprint),
            Credential::Missing => {}
        }
        Err(if self.is_anthropic {
            Failure::access_denied()
        } else {
            Failure::unauthorized()
        })
    }

    fn fault(&self, operation: &str, ticket: &Ticket) -> Fault {
        let forms = surface::credentials(self.parts.uri.path());
        let key = auth::shown(&self.parts.headers, forms).unwrap_or_default();
        let deployment = ticket.deployment.as_ref().map(|one| one.name.as_str());
        let fault = self.foundry.faults.take(deployment, key, operation);
        fault.unwrap_or_default()
    }

    /// The answer of the API, whole or as a stream, up to where a fault ends it.
    fn produce(&self, admitted: Admitted, fault: &Fault, mut ticket: Ticket) -> Response<Body> {
        let deployment = ticket.deployment.clone();
        let is_modelled = ticket.reached || admitted.job.deferred;
        if admitted.job.deferred {
            ticket.charged = None;
        }
        let reply = (admitted.job.reply)();
        let streaming = !matches!(reply, Reply::Whole(_));
        let mut response = match reply {
            Reply::Events(events) => self.stream(EVENTS, events, fault, ticket),
            Reply::Stream {
                content_type,
                events,
            } => self.stream(content_type, events, fault, ticket),
            Reply::Whole(whole) => {
                ticket.status = Some(whole.status.as_u16());
                ticket.usage = whole.usage;
                self.send(whole, fault, ticket)
            }
        };
        if let Some(deployment) = deployment.filter(|_| is_modelled) {
            headers::put_model(&deployment, streaming, response.headers_mut());
            // Foundry sends no rate limit headers for Claude.
            if !self.is_anthropic {
                headers::put_standing(admitted.standing, response.headers_mut());
            }
        }
        self.finish(fault, response)
    }

    fn stream(
        &self,
        content_type: &'static str,
        events: Box<dyn Events>,
        fault: &Fault,
        mut ticket: Ticket,
    ) -> Response<Body> {
        ticket.status = Some(StatusCode::OK.as_u16());
        let pace = Pace {
            interval: self.foundry.token_interval,
            end_delay: self.foundry.end_delay,
        };
        let stream = Stream::new(events, ticket, pace, Stop::of(fault));
        // Sound has no lines.
        let spacing = fault.spacing.filter(|_| content_type == EVENTS);
        response::stream(content_type, stream.spaced(spacing))
    }

    /// The answer that a fault prescribes.
    fn scripted(&self, fault: &Fault, mut ticket: Ticket) -> Response<Body> {
        let status = fault
            .status
            .and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = match &fault.body {
            Some(Value::String(text)) => text.clone(),
            Some(body) => body.to_string(),
            None => self.body(&Failure::scripted(status)),
        };
        ticket.status = Some(status.as_u16());
        let whole = Whole {
            status,
            content_type: JSON,
            body: body.into(),
            usage: ticket.usage,
        };
        let response = self.send(whole, fault, ticket);
        self.finish(fault, response)
    }

    /// A whole answer, or the part of it that a fault lets through.
    fn send(&self, whole: Whole, fault: &Fault, mut ticket: Ticket) -> Response<Body> {
        // A cut after some chunks is for answers of the API.
        let is_cut = fault.cut_after_chunks.is_some() && fault.status.is_none();
        if fault.truncate || is_cut {
            ticket.close(Outcome::CutByFault);
            let half = whole.body.len() / 2;
            return response::cut(&whole, if fault.truncate { half } else { 0 });
        }
        ticket.close(Outcome::Answered);
        response::whole(whole)
    }

    fn finish(&self, fault: &Fault, mut response: Response<Body>) -> Response<Body> {
        self.put_common(response.headers_mut());
        // Those of a fault win over the usual ones.
        for (name, value) in &fault.headers {
            // Both were checked when the fault was set.
            let header = (HeaderName::try_from(name), HeaderValue::try_from(value));
            if let (Ok(name), Ok(value)) = header {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    fn refused(&self, failure: &Failure, mut ticket: Ticket) -> Response<Body> {
        if let Some(read) = &failure.billed {
            ticket.reached = true;
            ticket.usage = **read;
        }
        ticket.status = Some(failure.status.as_u16());
        ticket.close(Outcome::Answered);
        self.refuse(failure)
    }

    /// The response that reports a failure.
    fn refuse(&self, failure: &Failure) -> Response<Body> {
        let body = Bytes::from(self.body(failure));
        let mut response = response::json(failure.status, body);
        self.put_common(response.headers_mut());
        for (name, value) in failure.headers.iter() {
            let is_hidden = self.is_anthropic && name.as_str().starts_with("x-ratelimit-");
            if !is_hidden {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }

    /// The body of a failure, in the shape of the API that was asked.
    fn body(&self, failure: &Failure) -> String {
        if self.is_anthropic {
            let id = self.request_id.to_str().unwrap_or_default();
            failure.anthropic_body(id).to_string()
        } else {
            failure.body.to_string()
        }
    }

    fn put_common(&self, response: &mut HeaderMap) {
        let name = if self.is_anthropic {
            headers::ANTHROPIC_REQUEST_ID
        } else {
            headers::REQUEST_ID
        };
        let id = (name, self.request_id.clone());
        headers::put_common(self.foundry, &self.parts.headers, id, response);
    }
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
