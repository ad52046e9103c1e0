//! A stored response: finished, or under way in the background, which is a question of time alone.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    Owned,
    draft::{Draft, Status},
};
use crate::{clock, deployment::Deployment, limits::Cost, record::Usage};

#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) draft: Arc<Draft>,
    pub(crate) deployment: Arc<Deployment>,
    /// The request's own input items, oldest first.
    pub(crate) input: Vec<Value>,
    pub(crate) project: Option<String>,
    pub(crate) progress: Progress,
}

#[derive(Clone, Debug)]
pub(crate) enum Progress {
    /// Ended, at a moment in seconds since 1970.
    Ended(Status, u64),
    Background(Background),
}

/// A response that outlives its request.
#[derive(Clone, Debug)]
pub(crate) struct Background {
    pub(crate) schedule: Schedule,
    /// Its events can be read again: it was created with `stream`.
    pub(crate) streamed: bool,
    pub(crate) cancelled: Option<Duration>,
    /// Whose bill it is.
    pub(crate) key: Arc<str>,
    /// What the limits were charged.
    pub(crate) cost: Cost,
    pub(crate) billed: bool,
}

/// Half of the time it is queued, the other half it is produced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) start: Duration,
    pub(crate) length: Duration,
}

/// What a response in the background has come to, due to be billed.
#[derive(Debug)]
pub(crate) struct Bill {
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) key: Arc<str>,
    pub(crate) cost: Cost,
    /// None: it was cancelled before a model saw it.
    pub(crate) usage: Option<Usage>,
}

impl Schedule {
    /// When a model takes it up.
    pub(crate) fn taken_up(self) -> Duration {
        self.start.saturating_add(self.length / 2)
    }

    pub(crate) fn end(self) -> Duration {
        self.start.saturating_add(self.length)
    }

    /// When token number `index` of `count` is there, counted from 0.
    pub(crate) fn token(self, index: u64, count: u64) -> Duration {
        let half = (self.length / 2).as_nanos();
        let share =
            half.saturating_mul(u128::from(index.saturating_add(1))) / u128::from(count.max(1));
        let share = Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX));
        self.taken_up().saturating_add(share).min(self.end())
    }
}

impl Stored {
    pub(crate) fn background(&self) -> Option<&Background> {
        match &self.progress {
            Progress::Background(background) => Some(background),
            Progress::Ended(..) => None,
        }
    }

    pub(crate) fn status(&self, now: Duration) -> Status {
        match &self.progress {
            Progress::Ended(status, _) => *status,
            Progress::Background(background) => {
                let schedule = background.schedule;
                if background.cancelled.is_some() {
                    Status::Cancelled
                } else if now < schedule.taken_up() {
                    Status::Queued
                } else if now < schedule.end() {
                    Status::InProgress
                } else {
                    self.draft.ending()
                }
            }
        }
    }

    pub(crate) fn object(&self, now: Duration) -> Value {
        let completed = match &self.progress {
            Progress::Ended(_, at) => *at,
            Progress::Background(background) => self
                .draft
                .created
                .saturating_add(background.schedule.length.as_secs()),
        };
        self.draft.object(self.status(now), completed)
    }

    /// Stops a response in the background that has not ended.
    pub(crate) fn cancel(&mut self, now: Duration) {
        if let Progress::Background(background) = &mut self.progress {
            background.cancelled = background.cancelled.or(Some(now));
        }
    }

    /// What is to be billed now, once.
    pub(crate) fn bill(&mut self, now: Duration) -> Option<Bill> {
        let is_final = self.status(now).is_final();
        let Progress::Background(background) = &mut self.progress else {
            return None;
        };
        if !is_final || std::mem::replace(&mut background.billed, true) {
            return None;
        }
        Some(Bill {
            deployment: Arc::clone(&self.deployment),
            key: Arc::clone(&background.key),
            cost: background.cost,
            usage: consumed(background, &self.draft),
        })
    }
}

/// All of it, or what was produced until it was cancelled.
fn consumed(background: &Background, draft: &Draft) -> Option<Usage> {
    let Some(cancelled) = background.cancelled else {
        return Some(draft.usage);
    };
    let schedule = background.schedule;
    let worked = cancelled.checked_sub(schedule.taken_up())?;
    let half = clock::millis(schedule.length / 2).max(1);
    let share = |tokens: u64| tokens.saturating_mul(clock::millis(worked).min(half)) / half;
    let reasoning = draft.usage.reasoning_tokens;
    Some(Usage {
        completion_tokens: reasoning + share(draft.size.visible),
        audio_tokens: share(draft.usage.audio_tokens),
        ..draft.usage
    })
}

impl Owned for Stored {
    fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }
}

#[cfg(test)]
mod tests;
