//! The endpoints of one request, one after the other, until one answers.
//!
//! An endpoint that did not work on the request costs its caller nothing, so all of them are asked. Tries that
//! a backend may have worked on are limited: by the rule's attempts, in each tier, and by its budget.

use std::time::Duration;

use http::StatusCode;
use http::header::HeaderName;
use proxy_admin::clock;
use proxy_api::Billing;
use proxy_core::auth::Caller;
use proxy_core::balance::{Candidate, Demand, Key, OutReason, Turn, choose, prefer};
use proxy_core::names::{Code, Moment};
use proxy_core::quota::Wait;
use smallvec::SmallVec;

use super::{Answered, Sending};
use crate::answer::{Refusal, refuse};
use crate::endpoint::Placed;
use crate::exchange::Exchange;
use crate::origin::Origin;
use crate::trouble::Trouble;
use crate::upstream::{Failed, Failure};

/// How often the client's SDK has sent the same call before.
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");
/// A wait that no endpoint names.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// The endpoints that a request may use, parallel to the rule's targets.
struct Choice {
    candidates: SmallVec<[Candidate; 4]>,
    /// By which one is preferred.
    affinity: Option<Key>,
    demand: Demand,
    now: Moment,
}

/// What the tries so far came to.
#[derive(Default)]
struct Tried {
    troubles: SmallVec<[Trouble; 4]>,
    /// The status of the first answer.
    status: Option<StatusCode>,
    /// Not all tries came to the same.
    differs: bool,
    /// The last failure.
    failed: Option<Failed>,
    /// The tier of the last try.
    tier: u8,
    /// Tries of that tier that a backend may have worked on.
    worked_on: u8,
    /// An endpoint is kept for requests of a higher class.
    yields: bool,
}

impl Sending<'_> {
    /// Tries endpoints until one answers, or none is left that may be tried.
    pub(super) async fn tries(
        &self,
        exchange: &mut Exchange,
    ) -> Result<(Answered, &Placed), Box<Refusal>> {
        let caller = exchange.record.caller.as_deref();
        let mut choice = self.choice(exchange.demand(), caller);
        let mut tried = Tried {
            yields: choice.yields(),
            ..Tried::default()
        };
        if tried.yields {
            self.count_yields(&choice);
        }
        self.rule.retries.request(choice.now);
        while let Some((index, at, origin)) = self.next(&mut choice) {
            let now = if tried.troubles.is_empty() {
                self.now
            } else {
                clock::instant()
            };
            exchange.placed(at, now);
            let attempt = self.attempt(at, origin, exchange, now).await;
            let trouble = match &attempt {
                Ok(answered) => answered.trouble,
                Err(failed) => Some(Trouble::Failed(failed.how)),
            };
            if let (Some(trouble), Some(candidate)) = (trouble, choice.candidates.get(index)) {
                tried.add(trouble, candidate.priority);
            }
            if trouble == Some(Trouble::Sealed) {
                self.forget_resource(origin, &mut choice);
            }
            let goes_on = trouble.is_some_and(|one| self.goes_on(one, &mut tried, &mut choice));
            match attempt {
                Ok(answered) => {
                    let status = answered.response.status();
                    tried.answered(status);
                    if !goes_on && self.is_for_client(trouble, &tried, &choice) {
                        return Ok((answered, at));
                    }
                    let why = (trouble.map_or("", Trouble::word), "");
                    exchange.failed(Some(status), why, answered.now);
                }
                Err(failed) => {
                    if matches!(failed.how, Failure::BrokeOff | Failure::Timeout) {
                        exchange.unconfirmed();
                    }
                    let why = (failed.how.code().as_str(), &*failed.cause);
                    exchange.failed(None, why, clock::instant());
                    tried.failed = Some(failed);
                }
            }
            if !goes_on {
                break;
            }
            let (metrics, endpoint) = (&self.core.shared.metrics, &at.endpoint);
            let word = trouble.map_or("", Trouble::word);
            metrics.retried(&endpoint.backend, &endpoint.deployment, word);
        }
        Err(self.unserved(exchange, &tried))
    }

    fn choice(&self, demand: Demand, caller: Option<&Caller>) -> Choice {
        let now = clock::moment(self.now);
        let is_bound = self.resource().is_some();
        let needs_cache_key = self.needs_cache_key();
        let targets = self.rule.targets.iter().enumerate();
        let candidates = targets.map(|(index, target)| {
            let usable = self.endpoint(index);
            let usable = usable.filter(|(at, origin)| {
                let takes = at.place.takes_cache_key || !needs_cache_key;
                takes && origin.lacks(self.call.upstream).is_none()
            });
            Candidate {
                priority: target.flat.priority,
                // What is drained still has what it keeps.
                weight: target.flat.weight.max(u32::from(is_bound)),
                turn: usable.map_or(Turn::Never, |(at, _)| self.turn(at, demand, now)),
                load: usable.map_or(0, |(at, _)| at.endpoint.load()),
                first_byte_us: usable.map_or(0, |(at, _)| at.endpoint.first_byte_us()),
            }
        });
        Choice {
            candidates: candidates.collect(),
            affinity: self.affinity(caller),
            demand,
            now,
        }
    }

    /// Whether only models are tried that take the `prompt_cache_key` of the body. Others refuse it; where the rule
    /// has no other, the client gets their answer.
    fn needs_cache_key(&self) -> bool {
        let has_key = self.body.beginning.cache_key.is_some();
        has_key && self.endpoints().any(|at| at.place.takes_cache_key)
    }

    fn count_yields(&self, choice: &Choice) {
        let metrics = &self.core.shared.metrics;
        for (index, one) in choice.candidates.iter().enumerate() {
            if one.turn == Turn::Yields
                && let Some((at, _)) = self.endpoint(index)
            {
                let (backend, deployment) = (&at.endpoint.backend, &at.endpoint.deployment);
                metrics.yielded(backend, deployment, choice.demand.class);
            }
        }
    }

    fn turn(&self, at: &Placed, demand: Demand, now: Moment) -> Turn {
        at.endpoint
            .turn(demand, now, &at.place, &self.core.shared.metrics)
    }

    /// The endpoint for the next try, which is not chosen again.
    fn next(&self, choice: &mut Choice) -> Option<(usize, &Placed, &Origin)> {
        loop {
            let preferred = self.preferred(choice);
            let index = preferred.or_else(|| choose(&choice.candidates, &mut rand::rng()))?;
            let candidate = choice.candidates.get_mut(index)?;
            let turn = std::mem::replace(&mut candidate.turn, Turn::Never);
            let (at, origin) = self.endpoint(index)?;
            if turn == Turn::Last {
                // An SDK that tries again must not make a fault worse.
                if self.is_sent_again() {
                    continue;
                }
            } else if !at.endpoint.admits(choice.demand, choice.now) {
                // It went out meanwhile, or another call is the probe.
                candidate.turn = self.turn(at, choice.demand, choice.now);
                continue;
            }
            return Some((index, at, origin));
        }
    }

    /// The endpoint that the request prefers of those that take their usual share.
    fn preferred(&self, choice: &Choice) -> Option<usize> {
        let by_resource = self.is_put_together();
        let identity = |index| match self.endpoint(index) {
            // Another rule may reach the resource by another deployment.
            Some((_, origin)) if by_resource => origin.resource.key(),
            Some((at, _)) => at.endpoint.identity,
            None => Key::new(),
        };
        prefer(&choice.candidates, choice.affinity?, identity)
    }

    /// Leaves out all that one resource has: none of its endpoints opens what another has sealed.
    fn forget_resource(&self, origin: &Origin, choice: &mut Choice) {
        for (index, candidate) in choice.candidates.iter_mut().enumerate() {
            let other = self.endpoint(index);
            if other.is_some_and(|(_, other)| other.resource == origin.resource) {
                candidate.turn = Turn::Never;
            }
        }
    }

    /// Whether another endpoint is tried after this trouble.
    fn goes_on(&self, trouble: Trouble, tried: &mut Tried, choice: &mut Choice) -> bool {
        let now = clock::instant();
        let retry = self.declared.retry;
        // A batch that may have been made must not be made twice: the first one would cost its caller nothing.
        let may_repeat = self.call.billing != Billing::Batch || !trouble.was_worked_on();
        let may = retry.attempts > 0 && trouble.is_retried(retry) && self.is_kept() && may_repeat;
        if tried.troubles.len() == 1 {
            if self.is_sent_again() {
                self.rule.retries.retried(choice.now);
            }
            // Once is enough for an endpoint that fails.
            choice.forget(|one| one.turn == Turn::Last);
        }
        if tried.worked_on > retry.attempts {
            let tier = tried.tier;
            choice.forget(|one| one.priority == tier);
        }
        choice.now = clock::moment(now);
        may && now < self.deadline
            && choice.has_more()
            && (!trouble.was_worked_on() || self.rule.retries.take(choice.now))
    }

    /// Whether the last answer is the one for the client. It is if the client would have got it from the only
    /// endpoint, or from any of them.
    fn is_for_client(&self, trouble: Option<Trouble>, tried: &Tried, choice: &Choice) -> bool {
        match trouble {
            None => true,
            Some(trouble) if !trouble.is_retried(self.declared.retry) => true,
            // What is missing may be something else that the request names.
            Some(Trouble::NotThere) => {
                !tried.differs && tried.status == Some(StatusCode::NOT_FOUND)
            }
            Some(Trouble::Sealed) => !tried.differs,
            Some(Trouble::Throttled) => self.rule.targets.len() == 1,
            Some(Trouble::ServerError | Trouble::Failed(_)) => {
                let (demand, now) = (choice.demand, choice.now);
                !tried.differs && self.outs(demand, now).all(|(why, _)| why.leaves_hope())
            }
        }
    }

    /// Whether the client's SDK has sent the call before.
    fn is_sent_again(&self) -> bool {
        let count = self.client.get(RETRY_COUNT);
        count.is_some_and(|count| count != "0")
    }

    /// Why each endpoint of the rule is out that could serve the request, and for how long still.
    fn outs(&self, demand: Demand, now: Moment) -> impl Iterator<Item = (OutReason, Duration)> {
        let endpoints = self.endpoints();
        endpoints.filter_map(move |at| at.endpoint.out(demand, now))
    }

    /// The endpoints of the rule that could serve the request.
    fn endpoints(&self) -> impl Iterator<Item = &Placed> {
        let targets = 0..self.rule.targets.len();
        targets.filter_map(|index| self.endpoint(index).map(|(at, _)| at))
    }

    /// The shortest wait of all endpoints that are throttled.
    fn throttled(&self, demand: Demand, now: Moment) -> Option<Duration> {
        let throttled = self
            .outs(demand, now)
            .filter(|(why, _)| *why == OutReason::Throttled);
        let wait = throttled.map(|(_, left)| left).min()?;
        Some(if wait.is_zero() { SHORT_WAIT } else { wait })
    }

    /// The answer if no endpoint gave one. It depends on what the endpoints are in, and not on the order in which
    /// they were tried.
    fn unserved(&self, exchange: &mut Exchange, tried: &Tried) -> Box<Refusal> {
        let (demand, now) = (exchange.demand(), clock::now());
        if let Some(wait) = self.throttled(demand, now) {
            return throttled(wait);
        }
        if tried.yields {
            return self.gives_way(demand, now);
        }
        let mut troubles = tried.troubles.clone();
        let is_tried = !troubles.is_empty();
        let outs = self.outs(demand, now).map(|(reason, _)| reason);
        // One that fails would have been tried if none else had.
        let others = outs.filter(|reason| !(is_tried && reason.leaves_hope()));
        troubles.extend(others.map(Trouble::from));
        if troubles.contains(&Trouble::Throttled) {
            // It named no wait that counts, or has let go of it since.
            return throttled(SHORT_WAIT);
        }
        let Some(first) = troubles.first().copied() else {
            return self.untried();
        };
        if let Some(failed) = &tried.failed {
            self.note(exchange, failed);
            if !tried.differs && troubles.iter().all(|one| *one == first) {
                return refuse(failed.how.code(), failed.message());
            }
        }
        if troubles.iter().all(|one| one.is_lasting()) {
            return self.lasting(&troubles, demand, now);
        }
        let model = &self.model;
        let message = format!("no deployment of the rule for model {model:?} answers; retry later");
        let left = self.outs(demand, now).map(|(_, left)| left).min();
        let wait = left.unwrap_or(SHORT_WAIT).max(SHORT_WAIT);
        let refusal = Refusal::new(Code::NoBackend, message).waiting(millis(wait));
        Box::new(refusal)
    }

    /// The answer if what is left of the endpoints is for others.
    fn gives_way(&self, demand: Demand, now: Moment) -> Box<Refusal> {
        let (model, class) = (&self.model, demand.class.as_str());
        let is_back = |at: &Placed| at.endpoint.is_returning(demand, now);
        let why = if self.endpoints().any(is_back) {
            "have come back and take a growing part of their requests"
        } else {
            "are nearly full"
        };
        let message = format!(
            "the deployments of the rule for model {model:?} {why}, and requests of class {class} give way to higher \
             ones; retry later"
        );
        let refusal = Refusal::new(Code::BackendThrottled, message);
        Box::new(refusal.waiting(millis(SHORT_WAIT)))
    }

    /// The answer if a person must mend each of the endpoints.
    fn lasting(&self, troubles: &[Trouble], demand: Demand, now: Moment) -> Box<Refusal> {
        let is_credential = |trouble: &Trouble| {
            let how = [Failure::Refused, Failure::NoToken].map(Trouble::Failed);
            how.contains(trouble)
        };
        let how = if troubles.iter().any(is_credential) {
            Failure::Refused
        } else if troubles.contains(&Trouble::Failed(Failure::OutOfReach)) {
            Failure::OutOfReach
        } else {
            let model = &self.model;
            let message = format!(
                "no backend of the rule has the deployment for model {model:?}: it was deleted, or the model has \
                 retired"
            );
            return refuse(Code::ModelNotFound, message);
        };
        let mut endpoints = self.endpoints();
        let refusing = endpoints.find(|at| {
            let out = at.endpoint.out(demand, now).map(|(reason, _)| reason);
            out == Some(OutReason::CredentialRefused)
        });
        let cause = refusing.filter(|_| how == Failure::Refused);
        let cause = cause.map(|at| at.endpoint.cause());
        refuse(
            how.code(),
            cause.as_deref().unwrap_or_else(|| how.message()),
        )
    }

    fn note(&self, exchange: &mut Exchange, failed: &Failed) {
        tracing::debug!(
            request_id = exchange.record.request_id.to_str().ok(),
            route = &*self.rule.metrics.route,
            backend = exchange.record.endpoint.as_deref().map(|one| &*one.backend),
            code = failed.how.code().as_str(),
            cause = failed.cause,
            "a backend did not answer"
        );
        if matches!(failed.how, Failure::Stray | Failure::Refused) {
            // It was answered, so it counts as a request.
            exchange.refused(clock::instant());
        }
    }
}

// === impl Choice ===

impl Choice {
    fn forget(&mut self, is_over: impl Fn(&Candidate) -> bool) {
        let over = self.candidates.iter_mut().filter(|one| is_over(one));
        over.for_each(|one| one.turn = Turn::Never);
    }

    fn has_more(&self) -> bool {
        let mut all = self.candidates.iter();
        all.any(|one| one.turn.is_chosen() && one.weight > 0)
    }

    /// Whether an endpoint is kept for requests of a higher class.
    fn yields(&self) -> bool {
        self.candidates.iter().any(|one| one.turn == Turn::Yields)
    }
}

// === impl Tried ===

impl Tried {
    fn add(&mut self, trouble: Trouble, tier: u8) {
        self.differs |= self.troubles.last().is_some_and(|last| *last != trouble);
        self.troubles.push(trouble);
        if tier != self.tier {
            (self.tier, self.worked_on) = (tier, 0);
        }
        self.worked_on = self
            .worked_on
            .saturating_add(u8::from(trouble.was_worked_on()));
    }

    fn answered(&mut self, status: StatusCode) {
        self.differs |= *self.status.get_or_insert(status) != status;
    }
}

fn throttled(wait: Duration) -> Box<Refusal> {
    let wait = millis(wait);
    let message = format!("every backend of the rule is throttled or fails; retry in {wait}");
    let refusal = Refusal::new(Code::BackendThrottled, message);
    Box::new(refusal.waiting(wait))
}

fn millis(wait: Duration) -> Wait {
    Wait::Millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1))
}
