//! The first half of a request's life: authenticate -> match route -> estimate -> reserve. What is
//! admitted goes on to [`crate::forward`]; what is not is refused here, and nowhere else.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use proxy_admin::clock;
use proxy_api::{Answer, Call, Found, Unserved, find, models};
use proxy_core::admit::{self, Ask};
use proxy_core::auth::Caller;
use proxy_core::names::{Code, Operation};
use proxy_core::tokens::Shape;
use proxy_ledger::{Asking, Subject};

use crate::answer::{self, Refusal, refuse};
use crate::credential::{self, Shown};
use crate::estimate::Estimate;
use crate::exchange::Exchange;
use crate::forward::{Sending, Unserviced};
use crate::intake::{drained, framing_of, host_of, read_body, request_id, version_of};
use crate::live::Live;
use crate::relay::Payload;
use crate::state::Core;

/// A route without a timeout: Azure lets a call last 29 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// A request that may go on.
enum Admitted<'a> {
    /// The gateway answers it: JSON.
    Answered(Vec<u8>),
    /// It is charged, and goes to a backend.
    Charged(Box<Sending<'a>>),
}

/// Answers one request, whatever it is.
pub(crate) async fn handle(core: Arc<Core>, request: Request<Incoming>) -> Response<Payload> {
    let now = clock::instant();
    let mut exchange = Exchange::begin(&core, request_id(request.headers()), now);
    let (parts, mut body) = request.into_parts();
    let live = core.shared.live();
    let arrival = Arrival {
        core: &core,
        live: live.as_deref(),
        parts: &parts,
        now,
    };
    let admitted = arrival.admitted(&mut body, &mut exchange).await;
    let refusal = match admitted {
        Ok(Admitted::Answered(json)) => {
            exchange.record.status = 200;
            exchange.end("ok", clock::instant());
            return answer::json(json).map(Payload::from);
        }
        Ok(Admitted::Charged(sending)) => match sending.forward(exchange).await {
            Ok(answer) => return answer,
            Err(unserviced) => {
                let Unserviced {
                    exchange: unsettled,
                    refusal,
                } = *unserviced;
                exchange = unsettled;
                refusal
            }
        },
        Err(refusal) => refusal,
    };
    refused(exchange, *refusal, &mut body).await
}

async fn refused(
    mut exchange: Box<Exchange>,
    mut refusal: Refusal,
    body: &mut Incoming,
) -> Response<Payload> {
    // A client that timed out while sending would make us wait a second time.
    if refusal.denial.code != Code::RequestTimeout {
        refusal.close |= !drained(body).await;
    }
    let record = &mut exchange.record;
    let answer = answer::error(&refusal, record.dialect(), &record.request_id);
    record.status = answer.status().as_u16();
    let now = clock::instant();
    exchange.released(now);
    exchange.end(refusal.denial.code.as_str(), now);
    answer.map(Payload::from)
}

/// A request whose head has arrived.
struct Arrival<'a> {
    core: &'a Core,
    live: Option<&'a Live>,
    parts: &'a Parts,
    now: Instant,
}

impl<'a> Arrival<'a> {
    async fn admitted(
        self,
        body: &mut Incoming,
        exchange: &mut Exchange,
    ) -> Result<Admitted<'a>, Box<Refusal>> {
        let Self {
            core, parts, now, ..
        } = self;
        framing_of(&parts.headers)?;
        let found = found(core, parts)?;
        exchange.record.api = Some(found.api);
        let host = host_of(parts)?;
        let not_ready = || refuse(Code::NotReady, "the gateway has no routing table yet");
        let live = self.live.ok_or_else(not_ready)?;
        let shown =
            credential::shown(&parts.headers).map_err(|why| refuse(Code::InvalidRequest, why))?;
        let key = shown.as_ref().map(|shown| shown.key);
        let caller = admit::authenticate(&live.table, &host, key, clock::moment(now))
            .map_err(|denial| Box::new(Refusal::from(denial)))?;
        exchange.record.caller = Some(Arc::clone(&caller));
        let head = Head {
            core,
            live,
            parts,
            host,
            caller,
            shown,
            now,
        };
        match &found.api.answer {
            Answer::Models => Ok(Admitted::Answered(models::list(&head.models()))),
            Answer::Model => head.model(found.model.as_deref().unwrap_or("")),
            Answer::Backend(call) => {
                let sending = head.charged(found.api.operation, call, found.model, body, exchange);
                Ok(Admitted::Charged(Box::new(sending.await?)))
            }
        }
    }
}

fn found(core: &Core, parts: &Parts) -> Result<Found, Box<Refusal>> {
    let rows = core.shared.config.apis;
    find(rows, &parts.method, parts.uri.path()).map_err(|why| match why {
        Unserved::Ambiguous => refuse(Code::InvalidRequest, "the path is ambiguous or malformed"),
        Unserved::Unknown => refuse(
            Code::UnknownPath,
            "no API is served here; use /openai/deployments/{model}/..., /openai/v1/... or /v1/...",
        ),
        Unserved::Method(method) => {
            let mut refusal = Refusal::new(Code::MethodNotAllowed, format!("use {method}"));
            refusal.allow = Some(method.clone());
            Box::new(refusal)
        }
    })
}

/// A request whose head is read and whose caller is known.
struct Head<'a> {
    core: &'a Core,
    live: &'a Live,
    parts: &'a Parts,
    host: Cow<'a, str>,
    caller: Arc<Caller>,
    shown: Option<Shown<'a>>,
    now: Instant,
}

impl<'a> Head<'a> {
    /// The models that the caller may name.
    fn models(&self) -> Vec<Arc<str>> {
        let rows = self.core.shared.config.apis.iter();
        let mut operations: Vec<Operation> = rows
            .filter(|row| matches!(row.answer, Answer::Backend(_)))
            .map(|row| row.operation)
            .collect();
        operations.dedup();
        let (table, headers) = (&self.live.table, &self.parts.headers);
        admit::models(table, &self.caller, &self.host, headers, &operations)
    }

    fn model(&self, wanted: &str) -> Result<Admitted<'a>, Box<Refusal>> {
        let names = self.models();
        let known = names.iter().find(|name| ***name == *wanted);
        let known = known.ok_or_else(|| {
            refuse(
                Code::ModelNotFound,
                format!("no rule serves model {wanted:?}"),
            )
        })?;
        Ok(Admitted::Answered(models::one(known)))
    }

    /// Reads the body, finds the rule, and reserves the cost.
    async fn charged(
        self,
        operation: Operation,
        call: &'static Call,
        named: Option<Arc<str>>,
        body: &mut Incoming,
        exchange: &mut Exchange,
    ) -> Result<Sending<'a>, Box<Refusal>> {
        let (config, headers) = (&self.core.shared.config, &self.parts.headers);
        let version = version_of(self.parts)?;
        let (bytes, now) = read_body(headers, body, config.max_body, self.now).await?;
        let kind = headers.get(http::header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok());
        let body = call.scan(kind, &bytes);
        let body = body.map_err(|why| refuse(Code::InvalidRequest, why.0))?;
        let model = named.or_else(|| Some(Arc::clone(&body.model.as_ref()?.0)));
        let model = model.ok_or_else(|| refuse(Code::InvalidRequest, "\"model\" is missing"))?;
        exchange.record.model = Some(Arc::clone(&model));
        exchange.record.streamed = body.stream;
        let ask = Ask {
            host: &self.host,
            operation,
            model: Some(&model),
            headers,
        };
        let permit = admit::admit(&self.live.table, &self.caller, &ask)
            .map_err(|denial| Box::new(Refusal::from(denial)))?;
        let rule = self.live.rule(permit.index);
        let rule = rule.ok_or_else(|| refuse(Code::Internal, "the rule is not in the table"))?;
        exchange.record.rule = Some(Arc::clone(rule));
        exchange.record.shape = Shape {
            body_bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            max_output_tokens: body.max_output_tokens,
            choices: body.choices,
        };
        let ledger = &self.core.shared.ledger;
        let moment = clock::moment(now);
        let account = rule.account(&self.caller);
        let subject = Subject {
            limits: &rule.limits,
            route: permit.route,
            caller: &self.caller,
            model: &model,
        };
        let find = || ledger.counters(&subject, moment);
        let counters = account.counters(&self.caller, &model, find);
        exchange.record.account = Some(account);
        let shape = exchange.record.shape;
        let estimate = Estimate::of(rule, &permit, &model, shape, &bytes, call.prompt);
        let default_output = config.default_output_tokens;
        let asking = Asking {
            counters: &counters,
            cost: estimate.at_first(default_output),
            now: moment,
            clock: clock::now,
        };
        let recount = || estimate.counted(default_output);
        let reserved = ledger.reserve(asking, recount);
        let charge = reserved
            .await
            .map_err(|refused| Box::new(Refusal::from(*refused)))?;
        exchange.charge(charge, permit.flat.max_price);
        let timeout = permit.rule.request_timeout.unwrap_or(DEFAULT_TIMEOUT);
        Ok(Sending {
            core: self.core,
            rule: Arc::clone(rule),
            declared: permit.rule,
            call,
            model,
            version,
            client: headers,
            shown: self.shown,
            bytes,
            body,
            now,
            deadline: now + timeout,
        })
    }
}
