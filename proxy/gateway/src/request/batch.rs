//! A new batch: its requests stand in a file that the backend has, so the gateway reads that first. Each line must
//! be a request that the caller could make by itself, and what all of them may cost is reserved at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proxy_admin::clock;
use proxy_admin::memory::Purpose;
use proxy_api::batches::{self, Asked, INPUT};
use proxy_api::{Api, Billing, Body, Call, Found, Reference};
use proxy_core::admit::Permit;
use proxy_core::auth::CallerKind;
use proxy_core::names::{Code, Operation};
use proxy_core::quota::{Hold, Wait};
use proxy_core::tokens::Price;
use proxy_ledger::Refused;

use super::{Head, servers, version_of};
use crate::answer::{Refusal, refuse};
use crate::bound::{self, Sought};
use crate::estimate::Estimate;
use crate::exchange::Exchange;
use crate::fields::Field;
use crate::live::LiveRule;
use crate::slot::Slots;
use crate::source::{FileBounds, FileLines, Source, Unread};

/// Azure takes 200 MB, and 100,000 requests ("Batch limits").
const MOST_BYTES: usize = 200 << 20;
const MOST_LINES: u64 = 100_000;
/// How much of a file is tokenised: some 0.1 s. The rest is estimated by its text.
const COUNTED: usize = 1 << 20;
/// How long the file may take to come.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most files that the process reads at one time: each is a look at up to 200 MB.
const READ_AT_ONCE: usize = 8;
/// The most names that a message lists.
const LISTED: usize = 8;

static READERS: Slots = Slots::new(READ_AT_ONCE);

/// A new batch that may be made.
pub(super) struct Batched<'a> {
    /// That of all lines; `None` if only the backend knows.
    pub(super) model: Option<Arc<str>>,
    pub(super) permit: Permit<'a>,
    pub(super) hold: Hold,
    /// When all of it was read.
    pub(super) now: Instant,
}

/// What all lines have in common.
struct Kind<'a> {
    url: Box<str>,
    api: &'static Api,
    call: &'static Call,
    model: Arc<str>,
    permit: Permit<'a>,
    rule: &'a Arc<LiveRule>,
    /// That of the deployment, if a limit counts money.
    price: Option<Price>,
}

/// What the lines come to.
struct Tally<'a> {
    asked: Asked,
    /// The model that the path names.
    of_path: Option<Arc<str>>,
    source: Source,
    kind: Option<Kind<'a>>,
    hold: Hold,
    /// The bytes that were tokenised.
    counted: usize,
    /// The most choices and texts of a line.
    choices: u64,
    texts: u64,
}

impl<'a> Head<'a> {
    /// Reads the file of a new batch.
    pub(super) async fn batched(
        &self,
        found: &Found,
        bytes: &Bytes,
        body: &mut Body,
        exchange: &mut Exchange,
    ) -> Result<Box<Batched<'a>>, Box<Refusal>> {
        let malformed = |why: proxy_api::Malformed| refuse(Code::InvalidRequest, why.0);
        let asked = batches::asked(bytes).map_err(malformed)?;
        let operation = found.api.operation;
        if let Some(member) = asked.elsewhere {
            return self.elsewhere(member, operation);
        }
        let input = input(body)?;
        let permit = self.permit_by_id(operation, Some(Sought::from(input)))?;
        exchange.record.rule = self.live.rule(permit.index).cloned();
        let (source, id) = self.source(&permit, found, input)?;
        let mut tally = Tally {
            asked,
            of_path: found.model.clone(),
            source,
            kind: None,
            hold: Hold::default(),
            counted: 0,
            choices: 1,
            texts: 1,
        };
        let busy = || {
            let message =
                "the gateway reads the files of as many new batches as it can; retry later";
            Box::new(Refusal::new(Code::Overloaded, message).waiting(Wait::Millis(10_000)))
        };
        let reader = READERS.take().ok_or_else(busy)?;
        let shared = &self.core.shared;
        let bounds = FileBounds {
            size: MOST_BYTES,
            line: shared.config.max_body,
            until: clock::instant() + PATIENCE.min(self.live.longest),
            hold: shared.memory.hold(Purpose::Body, &self.caller, 0)?,
        };
        let request_id = &exchange.record.request_id;
        let lines = tally.source.lines(self.core, &id, request_id, bounds).await;
        let mut lines = lines.map_err(unread)?;
        self.tally(&mut tally, &mut lines).await?;
        drop(reader);
        let empty = || refuse(Code::InvalidRequest, "the file of the batch has no line");
        let kind = tally.kind.ok_or_else(empty)?;
        body.background = true;
        // The length of this body tells nothing of what the model reads.
        body.has_item_references = true;
        (body.choices, body.texts) = (tally.choices, tally.texts);
        Ok(Box::new(Batched {
            model: Some(kind.model),
            permit: kind.permit,
            hold: tally.hold,
            now: clock::instant(),
        }))
    }

    /// A batch of what the gateway cannot read: only where the rule lets any model be called without a meter.
    fn elsewhere(
        &self,
        member: &str,
        operation: Operation,
    ) -> Result<Box<Batched<'a>>, Box<Refusal>> {
        let permit = self.permit_by_id(operation, None)?;
        let is_open = permit.rule.matches.iter().all(|one| one.models.is_empty());
        if !permit.rule.allows_unmetered || !is_open {
            let message = format!(
                "the gateway cannot read what \"{member}\" names, neither its models nor what it costs: upload the file and \
                 send its \"{INPUT}\", or the rule must say unmetered: Allow, and name no models"
            );
            return Err(refuse(Code::Unmetered, message));
        }
        Ok(Box::new(Batched {
            model: None,
            permit,
            hold: Hold::default(),
            now: clock::instant(),
        }))
    }

    /// Where the file is, and its id there.
    fn source(
        &self,
        permit: &Permit<'a>,
        found: &Found,
        input: &Reference,
    ) -> Result<(Source, Box<str>), Box<Refusal>> {
        let unknown = || bound::unknown(Sought::from(input));
        let rule = self.live.rule(permit.index).ok_or_else(unknown)?;
        let (id, resource) = match bound::owner(self.live, rule, &self.caller) {
            Some(owner) => {
                let keys = &self.core.shared.config.state_keys;
                let (id, resource) = keys.open(&input.id, &owner).ok_or_else(unknown)?;
                (id.into(), Some(resource))
            }
            None => (input.id.clone(), None),
        };
        let project = found.named.as_ref().and_then(|named| named.project.clone());
        let mut placed = rule
            .targets
            .iter()
            .filter_map(|target| target.any_endpoint());
        let at = placed.find(|at| {
            at.place.origin.as_deref().is_some_and(|origin| {
                resource.is_none_or(|resource| resource == origin.resource)
                    && (project.is_none() || origin.has_projects())
            })
        });
        // A key of the gateway goes to no backend.
        let is_passed =
            self.caller.kind == CallerKind::Unknown && permit.route.authentication.pass_through;
        let shown = self.shown.as_ref().filter(|_| is_passed);
        let source = Source {
            at: at.ok_or_else(unknown)?.clone(),
            project,
            version: version_of(self.parts)?,
            credential: shown.map(crate::credential::Shown::header),
        };
        Ok((source, id))
    }

    async fn tally(
        &self,
        tally: &mut Tally<'a>,
        lines: &mut FileLines,
    ) -> Result<(), Box<Refusal>> {
        let mut count = 0;
        while let Some((number, line)) = lines.next(&self.caller).await.map_err(unread)? {
            count += 1;
            if count > MOST_LINES {
                let message = format!("the file of the batch has more than {MOST_LINES} lines");
                return Err(refuse(Code::InvalidRequest, message));
            }
            let added = self.line(tally, &line).await;
            added.map_err(|mut refusal| {
                let message = &refusal.denial.message;
                refusal.denial.message = format!("line {number} of the file: {message}");
                refusal
            })?;
        }
        Ok(())
    }

    /// Judges a line, and adds what it may cost.
    async fn line(&self, tally: &mut Tally<'a>, line: &Bytes) -> Result<(), Box<Refusal>> {
        let invalid = |message: String| refuse(Code::InvalidRequest, message);
        let read = batches::line(line).map_err(|why| invalid(why.0))?;
        let bytes = line.slice(read.body);
        let api = match &tally.kind {
            Some(kind) if kind.url != read.url => {
                let before = &kind.url;
                let message = format!(
                    "its url is {:?}, and that of the lines before {before:?}: a batch has one of them",
                    read.url
                );
                return Err(invalid(message));
            }
            Some(kind) => kind.api,
            None => self.operation(&tally.asked, &read.url)?,
        };
        // A row that is found by its url is of a backend.
        let call = api.answer.call().ok_or_else(|| invalid(String::new()))?;
        let scans = &self.core.shared.scans;
        let body = scans.body(call, Field::Absent, &bytes, false).await?;
        let missing = || invalid("\"model\" is missing in its body".to_owned());
        let model = body.model.as_ref().ok_or_else(missing)?;
        match &tally.kind {
            Some(kind) if kind.model != *model => {
                let before = &kind.model;
                let message = format!(
                    "its model is {model:?}, and that of the lines before {before:?}: a batch has one model"
                );
                return Err(invalid(message));
            }
            Some(_) => {}
            None => tally.kind = Some(self.kind(tally, read.url, (api, call), model)?),
        }
        let Some(kind) = &tally.kind else {
            return Err(missing());
        };
        sendable(kind, &body)?;
        let permit = &kind.permit;
        let of_model = || (permit.deployed_model(model), kind.rule.window(model));
        let shape = self.shape(call, permit, (&bytes, &body), of_model).await?;
        let billing = Billing::Metered;
        let estimate = Estimate::of(kind.rule, permit, model, shape, &bytes, call, billing);
        let default = self.core.shared.config.default_output_tokens;
        let hold = if tally.counted < COUNTED {
            tally.counted += bytes.len();
            estimate.at_first(default)
        } else {
            estimate.by_size(default)
        };
        tally.hold = tally.hold.plus(priced(hold, kind.price.as_ref()));
        tally.choices = tally.choices.max(shape.choices);
        tally.texts = tally.texts.max(shape.texts);
        Ok(())
    }

    /// The operation of the lines, which is that of the batch.
    fn operation(&self, asked: &Asked, url: &str) -> Result<&'static Api, Box<Refusal>> {
        let rows = self.core.shared.config.apis;
        let unserved = || {
            let message = format!(
                "its url {url:?} is none that a batch may ask for: write \"/v1/responses\", \"/v1/chat/completions\", \
                 \"/v1/embeddings\" or \"/v1/completions\""
            );
            refuse(Code::InvalidRequest, message)
        };
        let api = batches::row(rows, url).ok_or_else(unserved)?;
        let Some(endpoint) = asked.endpoint.as_deref() else {
            return Ok(api);
        };
        if batches::row(rows, endpoint).is_none_or(|of_batch| !std::ptr::eq(of_batch, api)) {
            let message = format!(
                "its url is {url:?}, and the \"endpoint\" of the batch is {endpoint:?}: write the same operation"
            );
            return Err(refuse(Code::InvalidRequest, message));
        }
        Ok(api)
    }

    /// Judges the model of the lines: one rule must serve it, for the batch and for the call that a line stands for,
    /// and by the name that it has at the resource of the file.
    fn kind(
        &self,
        tally: &Tally<'a>,
        url: Box<str>,
        (api, call): (&'static Api, &'static Call),
        model: &Arc<str>,
    ) -> Result<Kind<'a>, Box<Refusal>> {
        if let Some(of_path) = tally.of_path.as_ref().filter(|of_path| *of_path != model) {
            let message =
                format!("its model is {model:?}, and the path of the batch names {of_path:?}");
            return Err(refuse(Code::InvalidRequest, message));
        }
        let permit = self.permit(Operation::Batches, model)?;
        let direct = self.permit(api.operation, model)?;
        if direct.index != permit.index {
            let message = format!(
                "model {model:?} is served by rule \"{}\" for {} and by rule \"{}\" for Batches: a batch needs one rule \
                 that serves both",
                direct.rule.name,
                api.operation.as_str(),
                permit.rule.name
            );
            return Err(refuse(Code::Forbidden, message));
        }
        let rule = self.live.rule(permit.index);
        let rule = rule.ok_or_else(|| refuse(Code::Internal, "the rule is not in the table"))?;
        let price = self.price(tally, rule, model)?;
        Ok(Kind {
            url,
            api,
            call,
            model: Arc::clone(model),
            permit,
            rule,
            price: price.filter(|_| rule.counts_money),
        })
    }

    /// The price of the model at the resource of the file, which must have it by its own name: nothing rewrites a
    /// file that is stored.
    fn price(
        &self,
        tally: &Tally<'a>,
        rule: &LiveRule,
        model: &Arc<str>,
    ) -> Result<Option<Price>, Box<Refusal>> {
        let of_file = tally.source.at.place.origin.as_deref();
        let here = |at: &&crate::endpoint::Placed| {
            let origin = at.place.origin.as_deref();
            let both = origin.zip(of_file);
            both.is_some_and(|(origin, of_file)| origin.resource == of_file.resource)
        };
        let targets = rule.targets.iter();
        let reached = targets.filter_map(|target| target.endpoint(model));
        let reached = reached.filter(here);
        let reached: Vec<_> = reached.map(|at| &at.place.declared.deployment).collect();
        if let Some(other) = reached.iter().find(|one| one.name != *model) {
            let name = &other.name;
            let message = format!(
                "model {model:?} is the deployment {name:?} there, and nothing rewrites a file that is stored: write \
                 \"model\": {name:?}, which the rule's models must admit, too"
            );
            return Err(refuse(Code::InvalidRequest, message));
        }
        if !reached.is_empty() {
            let prices: Option<Vec<_>> = reached.iter().map(|one| one.price.as_deref()).collect();
            let dearest = |prices: Vec<&Price>| {
                let prices = prices.into_iter().cloned();
                prices.reduce(|one, other| one.max(&other))
            };
            return Ok(prices.and_then(dearest));
        }
        let targets = rule.targets.iter();
        let targets = targets.filter(|target| target.any_endpoint().as_ref().is_some_and(here));
        let names = targets.flat_map(|target| target.flat.endpoints());
        let names = names.map(|one| &one.deployment.name);
        let names = names.filter(|name| self.permit(Operation::Batches, name).is_ok());
        let mut names: Vec<&str> = names.map(|name| &**name).collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(LISTED);
        let message = format!(
            "model {model:?} is no deployment of the resource that has the file; the rule reaches there: {}",
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        );
        Err(refuse(Code::InvalidRequest, message))
    }
}

/// A hold at the price of the one deployment that a line can go to, in place of the dearest of the rule.
fn priced(mut hold: Hold, price: Option<&Price>) -> Hold {
    if let Some(price) = price {
        for cost in [&mut hold.cost, &mut hold.most] {
            cost.cost_micros = price.hold_micros(cost.usage);
        }
    }
    hold
}

/// Whether a body can go to the backend as it stands in the file.
fn sendable(kind: &Kind<'_>, body: &Body) -> Result<(), Box<Refusal>> {
    let invalid = |message: String| Err(refuse(Code::InvalidRequest, message));
    let rule = kind.permit.rule;
    if let Some(allowed) = &rule.mcp_servers {
        servers::judge(allowed, &body.servers, &rule.name)?;
    }
    if let Some(reference) = body.references.first() {
        return invalid(format!(
            "{} names what a backend keeps, whose id has a tag here, and nothing takes it off in a file that is stored: \
             send what it stands for, or leave it out",
            reference.place
        ));
    }
    if body.stream || body.background {
        return invalid(
            "leave out \"stream\" and \"background\": its answer comes in a file".to_owned(),
        );
    }
    let stated = body.max_output_tokens();
    match rule.output_tokens.bound(stated) {
        Some(bound) if stated != Some(bound) && !kind.call.output_bounds.is_empty() => {
            let name = kind
                .call
                .output_bounds
                .last()
                .map_or("", |name| name.as_str());
            invalid(format!(
                "rule \"{}\" bounds answers, and nothing rewrites a file that is stored: write \"{name}\": {bound}",
                rule.name
            ))
        }
        Some(_) | None => Ok(()),
    }
}

/// The one thing that a new batch names.
fn input(body: &Body) -> Result<&Reference, Box<Refusal>> {
    match &*body.references {
        [input] if *input.place == *INPUT => Ok(input),
        _ => {
            let message = format!(
                "\"{INPUT}\" must be the id of the file with the requests, and the only id"
            );
            Err(refuse(Code::InvalidRequest, message))
        }
    }
}

fn unread(why: Unread) -> Box<Refusal> {
    match why {
        Unread::Gone => refuse(
            Code::InvalidRequest,
            "the file of the batch is not there any more",
        ),
        Unread::Failed => refuse(
            Code::UpstreamFailed,
            "the backend does not give the file of the batch; retry later",
        ),
        Unread::Throttled(wait) => {
            let message =
                "the backend takes no question for the file of the batch now; retry later";
            let refusal = Refusal::new(Code::BackendThrottled, message);
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            Box::new(refusal.waiting(Wait::Millis(millis)))
        }
        Unread::Late => refuse(
            Code::UpstreamTimeout,
            "the backend takes too long to give the file of the batch",
        ),
        Unread::Large => {
            let message = format!("the file of the batch is larger than {MOST_BYTES} bytes");
            refuse(Code::RequestTooLarge, message)
        }
        Unread::Long(number) => {
            let message = format!("line {number} of the file is longer than a request may be");
            refuse(Code::RequestTooLarge, message)
        }
        Unread::Full(full) => full.into(),
    }
}

/// Why a batch is not reserved: what never fits needs more than patience.
pub(super) fn refused(refused: Refused) -> Box<Refusal> {
    let wait = refused.wait;
    let mut refusal = Refusal::from(refused);
    if let (Wait::Never, Some(spent)) = (wait, &refusal.limit)
        && spent.limit.limit.amount > 0
    {
        let limit = &spent.limit.limit;
        refusal.denial.message = format!(
            "limit {} allows {} {} in all, and the lines of this batch may need {}: split the file, set max_tokens in \
             its lines, or ask for batches to have a limit of a longer window",
            spent.limit.flat.name,
            limit.amount,
            limit.unit.as_str(),
            spent.asked
        );
    }
    Box::new(refusal)
}
