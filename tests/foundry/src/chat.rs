//! One chat completion, from its limits to its answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use serde_json::Value;

use crate::{
    answer::{self, Facts},
    auth,
    errors::Failure,
    events::Events,
    faults::Fault,
    foundry::{Deployment, Foundry},
    headers,
    limits::{Cost, Standing},
    record::{Outcome, Usage},
    request::ChatRequest,
    route::{Dialect, is_v1},
    stream::{Body, Pace, Stop, Stream},
    ticket::Ticket,
};

/// A request that was let in.
struct Admitted {
    deployment: Arc<Deployment>,
    request: ChatRequest,
    standing: Standing,
    /// Tokens of each choice.
    tokens: u64,
    finish: &'static str,
}

/// Answers a request that was routed and authenticated.
pub(crate) async fn complete(
    foundry: &Arc<Foundry>,
    dialect: Dialect<'_>,
    named: Option<&str>,
    (parts, body): (&Parts, &Bytes),
    mut ticket: Ticket,
) -> Result<Response<Body>, (Failure, Ticket)> {
    let admitted = match admit(foundry, dialect, named, body, &mut ticket) {
        Ok(admitted) => admitted,
        Err(failure) => return Err((failure, ticket)),
    };
    let key = auth::shown(&parts.headers, is_v1(parts.uri.path())).unwrap_or_default();
    let fault = foundry
        .faults
        .take(&admitted.deployment.name, key)
        .unwrap_or_default();
    if let Some(member) = &fault.refuse
        && admitted.request.members.contains(member)
    {
        let message =
            format!("Unsupported parameter: '{member}' is not supported with this model.");
        let failure = Failure::invalid(&message, Some(member), Some("unsupported_parameter"));
        return Err((failure, ticket));
    }
    let delay = Duration::from_millis(fault.delay_ms.unwrap_or(0));
    if fault.hang && fault.cut_after_chunks.is_none() {
        // Ends when the caller hangs up: the future is dropped, and the ticket with it.
        std::future::pending::<()>().await;
    }
    if fault.status.is_some() {
        wait(delay).await;
        return Ok(scripted(foundry, parts, &fault, ticket));
    }
    ticket.reached = true;
    ticket.usage.prompt_tokens = admitted.request.prompt_tokens;
    wait(foundry.latency.saturating_add(delay)).await;
    let mut response = produce(foundry, dialect, admitted, &fault, ticket);
    headers::put_common(foundry, &parts.headers, response.headers_mut());
    put_scripted(&fault, response.headers_mut());
    Ok(response)
}

async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// Everything that can be refused, in Foundry's order: body, deployment, options, limits.
fn admit(
    foundry: &Foundry,
    dialect: Dialect<'_>,
    named: Option<&str>,
    body: &Bytes,
    ticket: &mut Ticket,
) -> Result<Admitted, Failure> {
    let by_name = |name: &str| {
        foundry
            .deployments
            .get(name)
            .ok_or_else(Failure::no_deployment)
    };
    // The dated surface names the deployment in the path, and ignores the body's model.
    let mut deployment = named.map(by_name).transpose()?;
    let request = ChatRequest::read(body)?;
    if named.is_none() {
        let model = request.model.as_deref().ok_or_else(|| {
            Failure::invalid("you must provide a model parameter", Some("model"), None)
        })?;
        deployment = Some(by_name(model)?);
    }
    let deployment = Arc::clone(deployment.ok_or_else(Failure::no_deployment)?);
    ticket.deployment = Some(Arc::clone(&deployment));
    if request.stream_options.is_some() {
        if !dialect.has_stream_options() {
            let message = "Unrecognized request argument supplied: stream_options";
            return Err(Failure::invalid(message, None, None));
        }
        if !request.stream {
            let message =
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
            return Err(Failure::invalid(message, Some("stream_options"), None));
        }
    }
    let whole = foundry.answer.tokens();
    let cap = request.max_tokens.unwrap_or(whole);
    let cost = Cost {
        input: request.prompt_estimate,
        output: cap.saturating_mul(request.choices),
    };
    let standing = deployment
        .meter
        .charge(ticket.received(), cost)
        .map_err(|refusal| headers::throttled(refusal, dialect.version()))?;
    ticket.charged = Some(cost);
    let finish = if cap < whole { "length" } else { "stop" };
    Ok(Admitted {
        deployment,
        request,
        standing,
        tokens: cap.min(whole),
        finish,
    })
}

/// The model's answer, whole or as a stream.
fn produce(
    foundry: &Arc<Foundry>,
    dialect: Dialect<'_>,
    admitted: Admitted,
    fault: &Fault,
    mut ticket: Ticket,
) -> Response<Body> {
    let Admitted {
        deployment,
        request,
        standing,
        tokens,
        finish,
    } = admitted;
    let facts = Facts {
        id: foundry.fresh_id(),
        created: foundry.clock.unix(ticket.received()).as_secs(),
        model: deployment.model.clone(),
        tokens,
        choices: request.choices,
        finish,
        usage: Usage {
            prompt_tokens: request.prompt_tokens,
            completion_tokens: tokens.saturating_mul(request.choices),
        },
    };
    ticket.status = Some(StatusCode::OK.as_u16());
    let mut response = if request.stream {
        let options = request.stream_options;
        let include_usage = options.and_then(|o| o.include_usage).unwrap_or(false);
        let obfuscate =
            dialect == Dialect::V1 && options.and_then(|o| o.include_obfuscation).unwrap_or(true);
        let events = Events::new(Arc::clone(foundry), facts, include_usage, obfuscate);
        let pace = Pace {
            interval: foundry.token_interval,
            end_delay: foundry.end_delay,
        };
        let stream = Stream::new(events, ticket, pace, Stop::of(fault));
        let mut response = Response::new(Body::Stream(Box::new(stream)));
        let sse = HeaderValue::from_static("text/event-stream; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, sse);
        response
    } else {
        ticket.usage = facts.usage;
        let bytes = Bytes::from(answer::completion(&foundry.answer, &facts));
        if fault.truncate || fault.cut_after_chunks.is_some() {
            ticket.close(Outcome::CutByFault);
            let sent = if fault.truncate { bytes.len() / 2 } else { 0 };
            cut(&bytes, sent)
        } else {
            ticket.close(Outcome::Answered);
            json(StatusCode::OK, bytes)
        }
    };
    headers::put_model(&deployment, request.stream, response.headers_mut());
    headers::put_standing(standing, response.headers_mut());
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
        cut(&bytes, bytes.len() / 2)
    } else {
        ticket.close(Outcome::Answered);
        json(status, bytes)
    };
    *response.status_mut() = status;
    headers::put_common(foundry, &parts.headers, response.headers_mut());
    put_scripted(fault, response.headers_mut());
    response
}

/// A whole JSON response.
pub(crate) fn json(status: StatusCode, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Full::new(bytes)));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A response that promises all of `bytes` and breaks off after `sent` of them.
fn cut(bytes: &Bytes, sent: usize) -> Response<Body> {
    let mut response = Response::new(Body::cut(bytes.slice(..sent.min(bytes.len()))));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, bytes.len().into());
    response
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
