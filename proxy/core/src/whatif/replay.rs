//! The replay: logged requests in the order of their starts, against the counters of another table.
//!
//! A log is in the order of ends. Requests wait in a heap until no later line can begin before them;
//! running ones are in another heap until they end. The clock is the log's and never goes back.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::consumer::{ConsumerIndex, admit_any};
use super::tally::{LimitDenial, LimitTally, Tally};
use crate::admit::{Ask, Permit};
use crate::auth::Caller;
use crate::names::{Moment, ObjectName, Operation, Usage};
use crate::quota::{Cost, Counter, Entry, Limit, Mode, Reservation, SubjectKey, Wait, reserve};
use crate::route::HostPattern;
use crate::table::{FlatLimit, Route, Table};

/// Untouched counters of a limit are dropped when it has this many; a counter takes about 600 bytes.
const SWEEP_AT: usize = 4_096;

/// The reason word for a consumer that has neither a Secret nor a fingerprint for a name.
const NO_SUCH_CONSUMER: &str = "no_such_consumer";

/// The host of a request whose log and route name none.
const DEFAULT_HOST: &str = "localhost";

/// What a replay depends on besides the table.
#[derive(Clone, Debug)]
pub struct ReplaySettings {
    /// The host of every request; `None` = one that the logged route serves.
    pub host: Option<String>,
    /// Replicas that share the limits.
    pub replicas: u64,
    /// How many denials are kept.
    pub denials: usize,
    /// How much later in the log an earlier request may come, in microseconds.
    pub lag_us: i64,
}

/// A request as it was served once.
#[derive(Clone, Debug)]
pub struct LoggedRequest {
    /// Its line in the log; orders requests of the same time.
    pub line: u64,
    /// Its id.
    pub request_id: String,
    /// When it began, in microseconds since the Unix epoch.
    pub start_us: i64,
    /// When it ended.
    pub end_us: i64,
    /// The operation.
    pub operation: Operation,
    /// The model that the client named.
    pub model: Option<Arc<str>>,
    /// The consumer's name, or a fingerprint, or `anonymous`.
    pub consumer: Arc<str>,
    /// The route that served it.
    pub route: Option<ObjectName>,
    /// The rule of the route.
    pub rule: Option<String>,
    /// The backend that answered.
    pub backend: Option<ObjectName>,
    /// Its deployment.
    pub deployment: Option<String>,
    /// What it used.
    pub usage: Usage,
    /// What was held for it, which it asks for; `None`: as much as it used.
    pub held: Option<Usage>,
    /// Whether its reservation was given back in the end.
    pub released: bool,
}

/// A log that is being replayed.
#[derive(Debug)]
pub struct Replay<'t> {
    table: &'t Table,
    settings: ReplaySettings,
    consumers: ConsumerIndex,
    limits: Vec<LimitReplay>,
    waiting: BinaryHeap<Next<LoggedRequest>>,
    running: BinaryHeap<Next<Running>>,
    /// The time of the replay; `None` before the first request.
    clock_us: Option<i64>,
    origin_us: i64,
    latest_us: i64,
    tally: Tally,
}

/// One limit of the table and its counters.
#[derive(Debug)]
pub struct LimitReplay {
    /// The limit as it is enforced: divided by the replicas.
    pub limit: Limit,
    /// What it refused.
    pub tally: LimitTally,
    flat: Arc<FlatLimit>,
    /// The same by each override of its quota; `None` where it stays as it is.
    overridden: Vec<Option<Limit>>,
    counters: HashMap<SubjectKey, Counter>,
    sweep_at: usize,
}

/// An event at a time; the earliest is the greatest, as a heap wants it.
#[derive(Debug)]
struct Next<T> {
    at_us: i64,
    /// The line, which decides between equals.
    line: u64,
    event: T,
}

#[derive(Debug)]
struct Running {
    held: Vec<Held>,
    actual: Cost,
    released: bool,
}

/// A reservation in one counter.
#[derive(Debug)]
struct Held {
    counter: CounterId,
    reservation: Reservation,
}

#[derive(Clone, Copy, Debug)]
struct CounterId {
    /// Index of the limit.
    limit: usize,
    /// The place of the override that it counts by.
    place: Option<usize>,
    subject: SubjectKey,
}

// === impl Replay ===

impl<'t> Replay<'t> {
    /// A replay of no request yet.
    #[must_use]
    pub fn new(table: &'t Table, settings: ReplaySettings) -> Self {
        let limits = table.limits().iter();
        Self {
            table,
            consumers: ConsumerIndex::new(table),
            limits: limits
                .map(|flat| LimitReplay::new(flat, settings.replicas))
                .collect(),
            settings,
            waiting: BinaryHeap::new(),
            running: BinaryHeap::new(),
            clock_us: None,
            origin_us: 0,
            latest_us: i64::MIN,
            tally: Tally::default(),
        }
    }

    /// The table's limits, in its order.
    #[must_use]
    pub fn limits(&self) -> &[LimitReplay] {
        &self.limits
    }

    /// The counts so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Adds a request whose line was written at `logged_us`, and replays every request that no later
    /// line can precede.
    pub fn push(&mut self, request: LoggedRequest, logged_us: i64) {
        self.waiting.push(Next {
            at_us: request.start_us,
            line: request.line,
            event: request,
        });
        self.latest_us = self.latest_us.max(logged_us);
        self.run_until(self.latest_us.saturating_sub(self.settings.lag_us));
    }

    /// Replays the remaining requests.
    pub fn finish(&mut self) {
        self.run_until(i64::MAX);
    }

    /// Replays everything before `until_us`; an end comes before a start of the same time.
    fn run_until(&mut self, until_us: i64) {
        loop {
            let start = self.waiting.peek().map_or(i64::MAX, |next| next.at_us);
            let end = self.running.peek().map_or(i64::MAX, |next| next.at_us);
            if start.min(end) >= until_us {
                return;
            }
            if end <= start {
                if let Some(next) = self.running.pop() {
                    let now = self.advance(next.at_us);
                    self.end(next.event, now);
                }
            } else if let Some(next) = self.waiting.pop() {
                if self.clock_us.is_some_and(|clock| next.at_us < clock) {
                    self.tally.late = self.tally.late.saturating_add(1);
                }
                let now = self.advance(next.at_us);
                self.begin(next.event, now);
            }
        }
    }

    /// Moves the clock to `at_us`, never back.
    fn advance(&mut self, at_us: i64) -> Moment {
        if self.clock_us.is_none() {
            self.origin_us = at_us;
        }
        let clock = self.clock_us.map_or(at_us, |clock| clock.max(at_us));
        self.clock_us = Some(clock);
        let since_ms = clock.saturating_sub(self.origin_us).div_euclid(1_000);
        Moment {
            monotonic_ms: u64::try_from(since_ms).unwrap_or(0),
            unix_ms: clock.div_euclid(1_000),
        }
    }

    fn begin(&mut self, request: LoggedRequest, now: Moment) {
        let consumer = Arc::clone(&request.consumer);
        let (caller, permit) = match self.admit(&request, now) {
            Ok(admitted) => admitted,
            Err(reason) => return self.tally.refuse(reason, &consumer),
        };
        match self.reserve(&request, &caller, &permit, now) {
            Ok(held) => {
                let mut shadow_denied = false;
                for one in held.iter().filter(|one| one.reservation.over) {
                    if let Some(limit) = self.limits.get_mut(one.counter.limit)
                        && limit.flat.quota.mode == Mode::Shadow
                    {
                        shadow_denied = true;
                        limit.tally.add(&consumer, now.unix_ms, None);
                    }
                }
                self.tally.admit(shadow_denied);
                let (actual, priced) = actual(&request, &permit);
                if !priced {
                    self.tally.unpriced = self.tally.unpriced.saturating_add(1);
                }
                self.running.push(Next {
                    at_us: request.end_us,
                    line: request.line,
                    event: Running {
                        held,
                        actual,
                        released: request.released,
                    },
                });
            }
            Err((limit, wait)) => {
                if let Some(limit) = self.limits.get_mut(limit) {
                    limit.tally.add(&consumer, now.unix_ms, Some(wait));
                }
                let denial = LimitDenial {
                    line: request.line,
                    at_ms: now.unix_ms,
                    request_id: request.request_id,
                    consumer,
                    model: request.model,
                    limit,
                    wait,
                };
                self.tally.deny(denial, self.settings.denials);
            }
        }
    }

    /// Debits every limit that applies, or returns the one that refuses and the wait.
    fn reserve(
        &mut self,
        request: &LoggedRequest,
        caller: &Caller,
        permit: &Permit<'_>,
        now: Moment,
    ) -> Result<Vec<Held>, (usize, Wait)> {
        let facts = permit.facts(caller, request.model.as_deref());
        let held = request.held.unwrap_or(request.usage);
        let cost = Cost {
            usage: held,
            cost_micros: permit.flat.max_price.hold_micros(held),
        };
        // Limits come in the order of the table, so one pass over it finds them all.
        let mut applicable = permit.limits(facts).peekable();
        let mut ids = Vec::new();
        let mut entries = Vec::new();
        for (index, limit) in self.limits.iter_mut().enumerate() {
            let Some(flat) = applicable.next_if(|flat| Arc::ptr_eq(flat, &limit.flat)) else {
                continue;
            };
            let subject = flat.subject_key(&facts);
            let place = flat.quota.override_of(caller);
            ids.push(CounterId {
                limit: index,
                place,
                subject,
            });
            entries.push(limit.entry(subject, place, now));
        }
        match reserve::<Vec<_>>(&mut entries, &cost, now) {
            Ok(reservations) => Ok(ids
                .into_iter()
                .zip(reservations)
                .map(|(counter, reservation)| Held {
                    counter,
                    reservation,
                })
                .collect()),
            Err(shortfall) => {
                let exceeded = shortfall.exceeded();
                let limit = ids.get(exceeded.entry).map_or(0, |id| id.limit);
                Err((limit, exceeded.wait))
            }
        }
    }

    /// Settles at what was logged.
    fn end(&mut self, running: Running, now: Moment) {
        for held in running.held {
            let Some(limit) = self.limits.get_mut(held.counter.limit) else {
                continue;
            };
            let used = if running.released {
                0
            } else {
                running.actual.of(limit.limit.unit)
            };
            // A missing counter was swept: its reservation had left the window.
            let place = held.counter.place;
            let enforced = enforced(&limit.overridden, place).unwrap_or(&limit.limit);
            if let Some(counter) = limit.counters.get_mut(&held.counter.subject) {
                let mut entry = Entry::own(enforced, Mode::Enforce, counter);
                entry.settle(held.reservation, used, now);
            }
        }
    }

    /// The caller of a request by this table, and the rule that serves it; else a reason word. Of
    /// several keys of a consumer the first that is admitted counts: the log does not have the key.
    fn admit(
        &self,
        request: &LoggedRequest,
        now: Moment,
    ) -> Result<(Arc<Caller>, Permit<'t>), &'static str> {
        let candidates = self.consumers.candidates(self.table, &request.consumer);
        let (host, headers) = host_and_headers(self.table, self.settings.host.as_deref(), request);
        let ask = Ask {
            host: &host,
            operation: request.operation,
            model: request.model.as_deref(),
            headers: &headers,
        };
        match admit_any(self.table, candidates, &ask, now) {
            Some((caller, Ok(permit))) => Ok((caller, permit)),
            Some((_, Err(denial))) => Err(denial.code.as_str()),
            None => Err(NO_SUCH_CONSUMER),
        }
    }
}

/// What the request cost, and whether that is known: by the price of the deployment that answered if
/// the rule still has it, else by the dearest one of the rule.
fn actual(request: &LoggedRequest, permit: &Permit<'_>) -> (Cost, bool) {
    let answered = permit.flat.targets.iter().find_map(|target| {
        let backend = &target.backend;
        (Some(&backend.name) == request.backend.as_ref()).then_some(())?;
        let deployment = request.deployment.as_deref()?;
        let mut all = backend.deployments.iter();
        all.find(|one| *one.name == *deployment)
    });
    let price = match answered {
        Some(deployment) => deployment.price.as_deref(),
        None => Some(&*permit.flat.max_price),
    };
    let cost = Cost {
        usage: request.usage,
        cost_micros: price.map_or(0, |price| price.cost_micros(request.usage, None)),
    };
    (cost, price.is_some())
}

/// A host and headers that lead to the logged rule, if the table still has it. No line has the
/// headers.
fn host_and_headers(
    table: &Table,
    host: Option<&str>,
    request: &LoggedRequest,
) -> (String, HeaderMap) {
    let routes = &table.contents().routes;
    let name = request.route.as_ref();
    let route = name.and_then(|name| routes.iter().find(|route| route.name == *name));
    let host = match (host, route) {
        (Some(host), _) => host.to_owned(),
        (None, Some(route)) => served_host(route),
        (None, None) => DEFAULT_HOST.to_owned(),
    };
    let rule = route.and_then(|route| {
        let mut rules = route.rules.iter();
        rules.find(|rule| Some(&*rule.name) == request.rule.as_deref())
    });
    let alternative = rule.and_then(|rule| {
        rule.matches.iter().find(|one| {
            let of_model = |model: &Arc<str>| one.models.iter().any(|m| m.matches(model));
            (one.models.is_empty() || request.model.as_ref().is_some_and(of_model))
                && (one.operations.is_empty() || one.operations.contains(&request.operation))
        })
    });
    let mut headers = HeaderMap::new();
    for (name, value) in alternative.iter().flat_map(|one| &one.headers) {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name.clone(), value);
        }
    }
    (host, headers)
}

fn served_host(route: &Route) -> String {
    match route.hostnames.first() {
        Some(HostPattern::Exact(host)) => host.to_string(),
        Some(HostPattern::Wildcard(suffix)) => format!("any{suffix}"),
        None => DEFAULT_HOST.to_owned(),
    }
}

// === impl LimitReplay ===

impl LimitReplay {
    fn new(flat: &Arc<FlatLimit>, replicas: u64) -> Self {
        let limit = &flat.limit;
        let overrides = flat.quota.overrides.iter();
        let overridden = overrides.map(|one| {
            let amount = one.amount(&limit.name);
            amount.map(|amount| limit.share(amount, replicas))
        });
        Self {
            overridden: overridden.collect(),
            limit: limit.share(limit.amount, replicas),
            tally: LimitTally::default(),
            flat: Arc::clone(flat),
            counters: HashMap::new(),
            sweep_at: SWEEP_AT,
        }
    }

    /// The declared limit.
    #[must_use]
    pub fn declared(&self) -> &FlatLimit {
        &self.flat
    }

    /// The counter of `subject`, ready for a reservation by the override at `place`.
    fn entry(&mut self, subject: SubjectKey, place: Option<usize>, now: Moment) -> Entry<'_> {
        if self.counters.len() >= self.sweep_at {
            self.counters
                .retain(|_, counter| !counter.is_untouched(now));
            self.sweep_at = self.counters.len().saturating_mul(2).max(SWEEP_AT);
        }
        let counter = self.counters.entry(subject);
        let counter = counter.or_insert_with(|| Counter::new(&self.limit, now));
        let enforced = enforced(&self.overridden, place).unwrap_or(&self.limit);
        Entry::own(enforced, self.flat.quota.mode, counter)
    }
}

fn enforced(overridden: &[Option<Limit>], place: Option<usize>) -> Option<&Limit> {
    overridden.get(place?)?.as_ref()
}

impl<T> Ord for Next<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.line).cmp(&(self.at_us, self.line))
    }
}

impl<T> PartialOrd for Next<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Next<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Next<T> {}
