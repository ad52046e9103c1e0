//! The first half of a request's life: authenticate -> match route -> estimate -> reserve. What is
//! admitted goes on to [`crate::forward`]; what is not is refused here, and nowhere else.

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use proxy_admin::clock;
use proxy_admin::connection::Leash;
use proxy_api::{Answer, Billing, Body, Call, Found, models};
use proxy_core::admit::{self, Ask, Permit, Reachable};
use proxy_core::auth::{Caller, CallerKind, KeyDigest};
use proxy_core::names::{Code, Operation};
use proxy_ledger::Subject;

use crate::answer::{self, Refusal, name_request, refuse};
use crate::bound::Sought;
use crate::client;
use crate::cors;
use crate::credential::{Identified, Shown};
use crate::detail::Detail;
use crate::estimate::Estimate;
use crate::exchange::Exchange;
use crate::fields::Fields;
use crate::forward::Sending;
use crate::intake::{head_of, host_of, is_complete, keep_unread, request_id, version_of};
use crate::live::{DEFAULT_TIMEOUT, Live, LiveRule};
use crate::proofs::Stranger;
use crate::relay::Payload;
use crate::resource;
use crate::state::Core;
use crate::surface::{dialect_of, found};

mod batch;
mod caller;
mod cost;
mod cut;
mod kept;
mod metered;
mod received;
mod servers;
mod unread;

use cut::{Forwarded, forwarded, shutting_down, unless_cut};
use metered::metered;
pub(crate) use unread::{unreadable, without_descriptor, without_room};

/// What load balancers ask on the port of the traffic. Only a process that serves answers, and one that is about
/// to stop says so.
const HEALTH: &str = "/healthz";

/// Base URLs of clients. Claude Code asks for the head of its own when it starts, to open a connection.
const BASES: [&str; 2] = ["/", "/anthropic"];

/// A request that may go on.
enum Admitted<'a> {
    /// The gateway answers it.
    Answered(Response<Payload>),
    /// It is charged, and goes to a backend.
    Charged(Box<Sending<'a>>),
}

/// Answers one request, whatever it is.
pub(crate) async fn handle(
    core: Arc<Core>,
    peer: IpAddr,
    request: Request<Incoming>,
    leash: Arc<Leash>,
) -> Response<Payload> {
    let path = request.uri().path();
    if path == HEALTH || (request.method() == Method::HEAD && BASES.contains(&path)) {
        return healthy(request.method(), core.closing.is_leaving());
    }
    let now = clock::instant();
    let (parts, body) = request.into_parts();
    let mut body = Some(body);
    let fields = Fields::of(&parts.headers);
    let mut exchange = Exchange::begin(&core, request_id(fields.request_id), now);
    if let Some(log) = &core.log {
        let client = client::address(peer, &parts.headers, core.shared.config.trusted_hops);
        exchange.record.detail = Some(Detail::of(&parts, &fields, client, log.format()));
    }
    let live = core.shared.live();
    let arrival = Arrival {
        core: &core,
        live: live.as_deref(),
        parts: &parts,
        fields: &fields,
        leash: &leash,
        now,
    };
    let admitted = unless_cut(&core, pin!(arrival.admitted(&mut body, &mut exchange))).await;
    let refusal = match admitted.unwrap_or_else(|| Err(shutting_down())) {
        Ok(Admitted::Answered(mut answer)) => {
            let id = exchange.record.request_id.clone();
            let dialect = dialect_of(exchange.record.api, &parts.headers);
            name_request(answer.headers_mut(), &id, dialect);
            exchange.record.status = answer.status().as_u16();
            exchange.record.passed(size_for(&parts, answer.body()));
            let rule = exchange.record.rule.clone();
            exchange.end("ok", clock::instant());
            return finished(answer, rule.as_deref(), &parts, &fields, live.as_deref());
        }
        Ok(Admitted::Charged(sending)) => match forwarded(&core, &sending, exchange).await {
            Forwarded::Answered(mut answer) => {
                if let Some(origin) = fields.origin.first()
                    && let Payload::Relayed(relay) = answer.body()
                    && let Some(rule) = relay.rule()
                    && cors::allows(rule.route.cors.as_ref(), origin)
                {
                    cors::expose(answer.headers_mut(), origin);
                }
                return answer;
            }
            Forwarded::Unserviced(unserviced) => {
                exchange = unserviced.exchange;
                unserviced.refusal
            }
            Forwarded::Cut(answer) => {
                let rule = Some(&*sending.rule);
                return finished(answer, rule, &parts, &fields, live.as_deref());
            }
        },
        Err(refusal) => refusal,
    };
    let rule = exchange.record.rule.clone();
    let mut refusal = *refusal;
    if refusal.denial.code.status() == StatusCode::UNAUTHORIZED.as_u16()
        && let Some(live) = &live
        && let Ok(host) = host_of(&parts.uri, fields.host)
    {
        let (table, code) = (&live.table, refusal.denial.code);
        let is_tls = core.shared.config.tls.is_some();
        refusal.challenge = resource::challenge(table, &host, &parts, &fields, is_tls, code);
    }
    let dialect = || dialect_of(exchange.record.api, &parts.headers);
    refusal.dialect = Some(refusal.dialect.unwrap_or_else(dialect));
    refusal.close |= must_close(&parts, body).await;
    let answer = refused(exchange, refusal, &parts.method).map(Payload::from);
    finished(answer, rule.as_deref(), &parts, &fields, live.as_deref())
}

/// Whether the connection of a refused request cannot go on, for what is left of its body.
async fn must_close(parts: &Parts, body: Option<Incoming>) -> bool {
    let is_http2 = parts.version == Version::HTTP_2;
    // It may have gone to a backend, and not to its end.
    let Some(mut body) = body else {
        return !is_http2;
    };
    if is_complete(&parts.headers, &mut body).await {
        return false;
    }
    if is_http2 {
        keep_unread(body);
    }
    !is_http2
}

fn healthy(method: &Method, leaves: bool) -> Response<Payload> {
    let word: &[u8] = if leaves { b"shutting down\n" } else { b"ok\n" };
    let mut answer = Response::new(Payload::from(Bytes::from_static(word)));
    if leaves {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    match *method {
        Method::GET => {}
        Method::HEAD => bodiless(&mut answer),
        _ => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            *answer.body_mut() = Payload::Own(None);
        }
    }
    answer
}

/// Adds what an answer of the gateway itself owes to a page of another origin, and takes its body if the
/// client asked for the head alone.
fn finished(
    mut answer: Response<Payload>,
    rule: Option<&LiveRule>,
    parts: &Parts,
    fields: &Fields<'_>,
    live: Option<&Live>,
) -> Response<Payload> {
    if let Some(origin) = fields.origin.first() {
        let on_host = || {
            let host = host_of(&parts.uri, fields.host).ok();
            host.zip(live)
                .is_some_and(|(host, live)| cors::allows_on_host(&live.table, &host, origin))
        };
        let allows = |rule: &LiveRule| cors::allows(rule.route.cors.as_ref(), origin);
        if rule.map_or_else(on_host, allows) {
            cors::expose(answer.headers_mut(), origin);
        }
    }
    if parts.method == Method::HEAD {
        bodiless(&mut answer);
    }
    answer
}

/// How much of an answer's body the client gets.
fn size_for(parts: &Parts, body: &Payload) -> usize {
    if parts.method == Method::HEAD {
        return 0;
    }
    let size = body.size_hint().exact().unwrap_or(0);
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Leaves the head of the answer as it is.
fn bodiless(answer: &mut Response<Payload>) {
    let size = answer.body().size_hint().exact().unwrap_or(0);
    answer
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(size));
    *answer.body_mut() = Payload::Own(None);
}

fn refused(mut exchange: Box<Exchange>, refusal: Refusal, method: &Method) -> Response<Bytes> {
    let record = &mut exchange.record;
    let dialect = refusal.dialect.unwrap_or_else(|| record.dialect());
    let answer = answer::error(&refusal, dialect, &record.request_id);
    record.status = answer.status().as_u16();
    record.passed(if *method == Method::HEAD {
        0
    } else {
        answer.body().len()
    });
    record.limit = refusal.limit.map(|spent| spent.limit.flat.name.clone());
    let now = clock::instant();
    exchange.released(now);
    exchange.end(refusal.denial.code.as_str(), now);
    answer
}

/// A request whose head has arrived.
struct Arrival<'a> {
    core: &'a Core,
    live: Option<&'a Live>,
    parts: &'a Parts,
    fields: &'a Fields<'a>,
    leash: &'a Arc<Leash>,
    now: Instant,
}

impl<'a> Arrival<'a> {
    async fn admitted(
        self,
        body: &mut Option<Incoming>,
        exchange: &mut Exchange,
    ) -> Result<Admitted<'a>, Box<Refusal>> {
        let Self {
            core,
            parts,
            fields,
            leash,
            now,
            ..
        } = self;
        head_of(parts, fields)?;
        if let Some(answer) = self.preflight()? {
            return Ok(Admitted::Answered(answer));
        }
        if let Some(answer) = self.description()? {
            return Ok(Admitted::Answered(answer));
        }
        let found = found(core.shared.config.apis, parts)?;
        exchange.record.api = Some(found.api);
        let host = host_of(&parts.uri, fields.host)?;
        let not_ready = || refuse(Code::NotReady, "the gateway has no routing table yet");
        let live = self.live.ok_or_else(not_ready)?;
        if let Some(class) = live.classes.only() {
            core.overload.admit(class, now).await?;
        }
        let Identified {
            caller,
            shown,
            unknown,
        } = self.identified(live, &host).await?;
        exchange.record.caller = Some(Arc::clone(&caller));
        let head = Head {
            core,
            live,
            parts,
            fields,
            leash,
            host,
            caller,
            shown,
            unknown,
            now,
        };
        let dialect = || dialect_of(Some(found.api), &parts.headers);
        let wanted = || found.model.as_deref().unwrap_or("");
        match &found.api.answer {
            Answer::Models => Ok(answered(models::list(&head.models(), dialect()))),
            Answer::Model => {
                let model = head.model(wanted())?;
                Ok(answered(models::one(&model, dialect())))
            }
            Answer::Deployments => Ok(answered(models::deployments(&head.models()))),
            Answer::Deployment => {
                let model = head.model(wanted())?;
                Ok(answered(models::deployment(&model)))
            }
            Answer::Backend(call) => {
                let sending = head.charged(found, call, body, exchange);
                Ok(Admitted::Charged(Box::new(sending.await?)))
            }
        }
    }
}

impl Arrival<'_> {
    /// The answer to a browser that asks if a page may call.
    fn preflight(&self) -> Result<Option<Response<Payload>>, Box<Refusal>> {
        let Some(origin) = cors::asks(self.parts, self.fields.origin) else {
            return Ok(None);
        };
        let host = host_of(&self.parts.uri, self.fields.host)?;
        let live = self.live;
        if live.is_some_and(|live| cors::allows_on_host(&live.table, &host, origin)) {
            return Ok(Some(cors::preflight(&self.parts.headers, origin)));
        }
        let message = "no route of this host lets pages of this origin call; add the origin to its \
                       cors.allowOrigins";
        Err(refuse(Code::Forbidden, message))
    }
}

fn answered<'a>(json: Vec<u8>) -> Admitted<'a> {
    Admitted::Answered(answer::json(json).map(Payload::from))
}

/// A request whose head is read and whose caller is known.
struct Head<'a> {
    core: &'a Core,
    live: &'a Live,
    parts: &'a Parts,
    fields: &'a Fields<'a>,
    leash: &'a Arc<Leash>,
    host: Cow<'a, str>,
    caller: Arc<Caller>,
    shown: Option<Shown<'a>>,
    /// Of a credential that is no key of the gateway.
    unknown: Option<KeyDigest>,
    now: Instant,
}

impl<'a> Head<'a> {
    /// The models that the caller may name.
    fn models(&self) -> Vec<Reachable> {
        let rows = self.core.shared.config.apis.iter();
        let mut operations: Vec<Operation> = rows
            .filter(|row| matches!(row.answer, Answer::Backend(_)))
            .map(|row| row.operation)
            .collect();
        operations.dedup();
        let (table, headers) = (&self.live.table, &self.parts.headers);
        admit::models(table, &self.caller, &self.host, headers, &operations)
    }

    fn model(&self, wanted: &str) -> Result<Reachable, Box<Refusal>> {
        let mut models = self.models().into_iter();
        models.find(|one| *one.name == *wanted).ok_or_else(|| {
            refuse(
                Code::ModelNotFound,
                format!("no rule serves model {wanted:?}"),
            )
        })
    }

    /// Reads the body, finds the rule, and reserves the cost.
    async fn charged(
        self,
        found: Found,
        call: &'static Call,
        body: &mut Option<Incoming>,
        exchange: &mut Exchange,
    ) -> Result<Sending<'a>, Box<Refusal>> {
        let shared = &self.core.shared;
        let version = version_of(self.parts)?;
        let received = self.received(body, call, &found, exchange).await?;
        let (bytes, mut now, mut body) = (received.bytes, received.now, received.body);
        let batch = if call.billing == Billing::Batch {
            let batch = Box::pin(self.batched(&found, &bytes, &mut body, exchange));
            let batch = batch.await?;
            now = batch.now;
            Some(batch)
        } else {
            None
        };
        let (model, permit) = match &batch {
            Some(batch) => (batch.model.clone(), batch.permit),
            None => self.chosen(call, &found, &body)?,
        };
        exchange.record.model.clone_from(&model);
        let model = model.unwrap_or_default();
        self.begins(&permit).await?;
        let deadline = self.deadline(&permit, now)?;
        let moment = clock::moment(now);
        let stranger = self.stranger(&permit, moment).await;
        let proved = stranger.as_ref().and_then(Stranger::claimed);
        let caller = permit.caller(&self.live.table, proved.unwrap_or(&self.caller));
        exchange.record.caller = Some(Arc::clone(caller));
        let rule = self.live.rule(permit.index);
        let rule = rule.ok_or_else(|| refuse(Code::Internal, "the rule is not in the table"))?;
        exchange.record.rule = Some(Arc::clone(rule));
        exchange.record.class = permit.class(caller);
        if let Some(allowed) = &permit.rule.mcp_servers {
            servers::judge(allowed, &body.servers, &permit.rule.name)?;
        }
        let bound = self.bound(call, found.named, rule, &mut body, exchange)?;
        let of_model = || (permit.deployed_model(&model), rule.window(&model));
        let shape = self.shape(call, &permit, (&bytes, &body), of_model).await?;
        exchange.record.shape = shape;
        let (ledger, account) = (&shared.ledger, rule.account(caller));
        let find = || {
            let subject = Subject {
                limits: &rule.limits,
                facts: permit.facts(caller, Some(&model)),
                unproved: stranger.as_ref().is_some_and(Stranger::is_unproved),
            };
            ledger.counters(&subject, moment)
        };
        let billing = call.billing_of(body.stream);
        let counters = account.counters(caller, rule.counted_model(&model), billing, find);
        metered(found.api.operation, call, billing, &counters, permit.rule)?;
        let end_user = permit.rule.names_end_user.then(|| account.end_user(caller));
        exchange.record.account = Some(account);
        let estimate = Estimate::of(rule, &permit, &model, shape, &bytes, call, billing);
        let charge = self.reserved(&counters, &estimate, batch.as_deref(), now);
        let charge = charge.await?;
        self.leash.end_at(deadline);
        // The backend's time to answer begins when it is asked.
        let now = if charge.waited { clock::instant() } else { now };
        exchange.charge(charge, &permit.flat.max_price);
        Ok(Sending {
            core: self.core,
            rule: Arc::clone(rule),
            declared: permit.rule,
            call,
            method: &found.api.method,
            bound,
            model,
            version,
            end_user,
            client: &self.parts.headers,
            // A key of the gateway goes to no backend.
            shown: self.shown.filter(|_| caller.kind == CallerKind::Unknown),
            stranger,
            replay: received.replay,
            feed: received.feed,
            body,
            now,
            deadline,
        })
    }

    /// Waits until it may begin, by its class. Where all rules have the same one, that was as soon as its head was
    /// there.
    async fn begins(&self, permit: &Permit<'_>) -> Result<(), Box<Refusal>> {
        let class = permit.class(&self.caller);
        if self.live.classes.only() == Some(class) {
            return Ok(());
        }
        self.core.overload.admit(class, self.now).await
    }

    /// The model that the client names, and the rule that serves it.
    fn chosen(
        &self,
        call: &Call,
        found: &Found,
        body: &Body,
    ) -> Result<(Option<Arc<str>>, Permit<'a>), Box<Refusal>> {
        let operation = found.api.operation;
        if let Some(state) = call.state.filter(|state| state.without_model) {
            let id = found.named.as_ref().and_then(|named| named.id.as_deref());
            let kept = state.kept;
            let place = None;
            let named = id.map(|id| Sought { id, kept, place });
            let first = body.references.first().map(Sought::from);
            return Ok((None, self.permit_by_id(operation, named.or(first))?));
        }
        let named = found.model.as_ref().or(body.model.as_ref()).cloned();
        let model = named.or_else(|| call.default_model.map(Arc::from));
        let model = model.ok_or_else(|| refuse(Code::InvalidRequest, "\"model\" is missing"))?;
        let permit = self.permit(operation, &model)?;
        Ok((Some(model), permit))
    }

    /// The rule that serves it.
    fn permit(&self, operation: Operation, model: &str) -> Result<Permit<'a>, Box<Refusal>> {
        let ask = Ask {
            host: &self.host,
            operation,
            model: Some(model),
            headers: &self.parts.headers,
        };
        let admitted = admit::admit(&self.live.table, &self.caller, &ask);
        admitted.map_err(|denial| Box::new(Refusal::from(denial)))
    }

    /// When the request ends at the latest.
    fn deadline(&self, permit: &Permit<'_>, now: Instant) -> Result<Instant, Box<Refusal>> {
        let timeout = permit.rule.request_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let deadline = self.now + timeout;
        if now >= deadline {
            let message = "the body took as long as the request may";
            return Err(refuse(Code::RequestTimeout, message));
        }
        Ok(deadline)
    }
}
