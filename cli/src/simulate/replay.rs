//! The replay: logged requests in the order of their starts, against the counters of another table.
//!
//! A log is in the order of ends. Requests wait in a heap until no later line can begin before them,
//! and those that run are in another until they end. The clock is the log's and never goes back.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use proxy_core::admit::{Ask, Permit, admit};
use proxy_core::auth::Caller;
use proxy_core::names::{Code, Moment, Operation};
use proxy_core::quota::{Cost, Counter, Entry, Limit, Mode, Taken, reserve};
use proxy_core::table::{SubjectPart, Table};

use super::caller::{Callers, NO_SUCH_CONSUMER, clues};
use super::log::Record;
use super::tally::{Denied, Tally};

/// Counters of one limit at which those that count nothing any more are swept out.
const SWEEP_AT: usize = 4_096;

/// What splits a limit's counters, owned.
type Subject = Vec<Box<str>>;

/// What a replay needs to know besides the table.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The host of every request; `None` = one that the logged route serves.
    pub(super) host: Option<String>,
    /// Replicas that the limits are divided among.
    pub(super) replicas: u64,
    /// How many denials are kept.
    pub(super) denials: usize,
    /// How much later in the log an earlier request may come.
    pub(super) lag_us: i64,
}

/// A log that is being replayed.
#[derive(Debug)]
pub(super) struct Replay<'t> {
    table: &'t Table,
    settings: Settings,
    callers: Callers,
    limits: Vec<Limit>,
    /// For each limit, its counters.
    counters: Vec<Subjects>,
    waiting: BinaryHeap<Next<Record>>,
    running: BinaryHeap<Next<Running>>,
    /// Where the replay is; `None` before the first request.
    clock_us: Option<i64>,
    origin_us: i64,
    latest_us: i64,
    pub(super) tally: Tally,
}

/// Something at a time; the earliest is the greatest, as a heap wants it.
#[derive(Debug)]
struct Next<T> {
    at_us: i64,
    /// The line, which decides between equals.
    line: u64,
    what: T,
}

#[derive(Debug)]
struct Running {
    held: Vec<Held>,
    actual: Cost,
    /// Nothing was billed.
    release: bool,
}

#[derive(Debug)]
struct Held {
    limit: usize,
    subject: Subject,
    taken: Taken,
}

#[derive(Debug)]
struct Subjects {
    counters: HashMap<Subject, Counter>,
    sweep_at: usize,
}

impl<'t> Replay<'t> {
    pub(super) fn new(table: &'t Table, settings: Settings) -> Self {
        let divided = |limit: &Limit| Limit {
            // Rounded down, as the gateway does.
            amount: limit
                .amount
                .checked_div(settings.replicas)
                .unwrap_or(limit.amount),
            ..limit.clone()
        };
        let limits: Vec<Limit> = table.limits().iter().map(|f| divided(&f.limit)).collect();
        Self {
            table,
            callers: Callers::new(table),
            counters: limits.iter().map(|_| Subjects::default()).collect(),
            tally: Tally::new(limits.len(), settings.denials),
            limits,
            settings,
            waiting: BinaryHeap::new(),
            running: BinaryHeap::new(),
            clock_us: None,
            origin_us: 0,
            latest_us: i64::MIN,
        }
    }

    /// The limits as they are enforced.
    pub(super) fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Takes a request, and replays what no later line can come before. `seen_us` is when its line
    /// was written.
    pub(super) fn push(&mut self, record: Record, seen_us: i64) {
        self.waiting.push(Next {
            at_us: record.start_us,
            line: record.line,
            what: record,
        });
        self.latest_us = self.latest_us.max(seen_us);
        self.run_until(self.latest_us.saturating_sub(self.settings.lag_us));
    }

    /// Replays the rest.
    pub(super) fn finish(&mut self) {
        self.run_until(i64::MAX);
    }

    /// Everything before `until_us`; an end before a start of the same time.
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
                    self.end(next.what, now);
                }
            } else if let Some(next) = self.waiting.pop() {
                if self.clock_us.is_some_and(|clock| next.at_us < clock) {
                    self.tally.late = self.tally.late.saturating_add(1);
                }
                let now = self.advance(next.at_us);
                self.begin(next.what, now);
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

    fn begin(&mut self, record: Record, now: Moment) {
        let consumer = record.consumer.clone().unwrap_or_default();
        let (caller, permit) = match self.admit(&record, &consumer, now) {
            Ok(admitted) => admitted,
            Err(why) => return self.tally.refused(why, &consumer),
        };
        let asked = asked(self.table, &permit, &caller, record.model.as_deref());
        let hold = Cost {
            usage: record.usage,
            cost_micros: permit.flat.max_price.cost_micros(record.usage),
        };
        match self.reserve(&asked, &hold, now) {
            Ok(all) => {
                let mut shadowed = false;
                let mut held = Vec::with_capacity(asked.len());
                for ((limit, mode, subject), taken) in asked.into_iter().zip(all) {
                    if taken.over && mode == Mode::Shadow {
                        shadowed = true;
                        self.tally.hit(limit, &consumer, now.unix_ms, None);
                    }
                    held.push(Held {
                        limit,
                        subject,
                        taken,
                    });
                }
                self.tally.admitted(shadowed);
                let nothing = record.usage.total_tokens() == 0 && !record.estimated;
                self.running.push(Next {
                    at_us: record.end_us,
                    line: record.line,
                    what: Running {
                        held,
                        actual: self.actual(&record, &permit),
                        release: nothing && record.code != "ok",
                    },
                });
            }
            Err((limit, wait)) => self.tally.denied(Denied {
                line: record.line,
                at_ms: now.unix_ms,
                request_id: record.request_id,
                consumer,
                model: record.model,
                limit,
                wait,
            }),
        }
    }

    /// Debits every limit that applies, or names the one that refuses.
    fn reserve(
        &mut self,
        asked: &[(usize, Mode, Subject)],
        cost: &Cost,
        now: Moment,
    ) -> Result<Vec<Taken>, (usize, proxy_core::quota::Wait)> {
        // Limits come in the order of the table, so one pass over it finds them all.
        let mut wanted = asked.iter().peekable();
        let mut entries = Vec::with_capacity(asked.len());
        for (index, (limit, subjects)) in self.limits.iter().zip(&mut self.counters).enumerate() {
            if let Some((_, mode, subject)) = wanted.next_if(|(wanted, ..)| *wanted == index) {
                let counter = subjects.counter(subject, limit, now);
                entries.push(Entry::own(limit, *mode, counter));
            }
        }
        reserve(&mut entries, cost, now).map_err(|shortfall| {
            let exceeded = shortfall.exceeded();
            let limit = asked.get(exceeded.entry).map_or(0, |(limit, ..)| *limit);
            (limit, exceeded.wait)
        })
    }

    /// Settles at what was logged.
    fn end(&mut self, running: Running, now: Moment) {
        for held in running.held {
            let found = self.limits.get(held.limit).zip(
                self.counters
                    .get_mut(held.limit)
                    .and_then(|subjects| subjects.counters.get_mut(&held.subject)),
            );
            // None was swept out: nothing was held.
            if let Some((limit, counter)) = found {
                let used = if running.release {
                    0
                } else {
                    running.actual.of(limit.unit)
                };
                Entry::own(limit, Mode::Enforce, counter).settle(held.taken, used, now);
            }
        }
    }

    /// What it cost, by the price of the deployment that answered if the rule still has it.
    fn actual(&self, record: &Record, permit: &Permit<'_>) -> Cost {
        let priced = permit.flat.targets.iter().find_map(|target| {
            let backend = &target.backend;
            (Some(&backend.name) == record.backend.as_ref()).then_some(())?;
            let deployment = record.deployment.as_deref()?;
            let mut all = backend.deployments.iter();
            all.find(|one| *one.name == *deployment)
                .map(|one| one.price)
        });
        let price = priced.unwrap_or(permit.flat.max_price);
        Cost {
            usage: record.usage,
            cost_micros: price.cost_micros(record.usage),
        }
    }

    /// Who calls now, and what serves it. Of several Secrets of one consumer the first that is
    /// admitted counts: the log does not tell which it was.
    fn admit(
        &self,
        record: &Record,
        consumer: &Arc<str>,
        now: Moment,
    ) -> Result<(Arc<Caller>, Permit<'t>), &'static str> {
        let operation = record.operation.unwrap_or(Operation::ChatCompletions);
        let (host, headers) = clues(self.table, self.settings.host.as_deref(), record, operation);
        let ask = Ask {
            host: &host,
            operation,
            model: record.model.as_deref(),
            headers: &headers,
        };
        let mut why = None;
        for caller in self.callers.named(consumer, now)? {
            match admit(self.table, &caller, &ask) {
                Ok(permit) => return Ok((caller, permit)),
                Err(denial) => why = why.or(Some(denial.code)),
            }
        }
        Err(why.map_or(NO_SUCH_CONSUMER, Code::as_str))
    }
}

impl Default for Subjects {
    fn default() -> Self {
        Self {
            counters: HashMap::new(),
            sweep_at: SWEEP_AT,
        }
    }
}

impl Subjects {
    fn counter(&mut self, subject: &Subject, limit: &Limit, now: Moment) -> &mut Counter {
        if self.counters.len() >= self.sweep_at {
            self.counters
                .retain(|_, counter| !counter.is_untouched(now));
            self.sweep_at = self.counters.len().saturating_mul(2).max(SWEEP_AT);
        }
        self.counters
            .entry(subject.clone())
            .or_insert_with(|| Counter::new(limit, now))
    }
}

/// The limits that apply, in the order of the table.
fn asked(
    table: &Table,
    permit: &Permit<'_>,
    caller: &Caller,
    model: Option<&str>,
) -> Vec<(usize, Mode, Subject)> {
    let each = permit.limits(caller, model).filter_map(|limit| {
        let mut subject = Subject::new();
        for part in limit.subject(caller, model, permit.route) {
            match part {
                SubjectPart::Consumer(namespace, name) | SubjectPart::Route(namespace, name) => {
                    subject.extend([namespace.into(), name.into()]);
                }
                SubjectPart::Model(text) | SubjectPart::Attribute(text) => {
                    subject.push(text.into());
                }
            }
        }
        let index = table
            .limits()
            .iter()
            .position(|one| Arc::ptr_eq(one, limit))?;
        Some((index, limit.quota.mode, subject))
    });
    each.collect()
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
