//! A batch, which is a question of time alone: validated in the first quarter of its time, run in the next half,
//! finalised in the last.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{Owned, file::StoredFile};
use crate::{clock, deployment::Deployment, record::Usage};

#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) id: String,
    /// In seconds since 1970.
    pub(crate) created: u64,
    pub(crate) start: Duration,
    pub(crate) length: Duration,
    pub(crate) endpoint: String,
    pub(crate) input: String,
    pub(crate) window: String,
    pub(crate) metadata: Value,
    pub(crate) project: Option<String>,
    /// Whose bill it is.
    pub(crate) key: Arc<str>,
    /// That of all lines; `None` if the file is refused.
    pub(crate) deployment: Option<Arc<Deployment>>,
    pub(crate) lines: Vec<Line>,
    /// Why the file is refused.
    pub(crate) errors: Vec<Value>,
    pub(crate) cancelled: Option<Duration>,
    /// The ids of the files with its outputs and its errors.
    pub(crate) files: [String; 2],
    pub(crate) is_settled: bool,
}

/// What a line of the input comes to.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) written: String,
    pub(crate) is_error: bool,
    /// `None`: no model has read it.
    pub(crate) usage: Option<Usage>,
}

/// How far a batch has come (Azure, "Batch object", `status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Validating,
    Failed,
    InProgress,
    Finalizing,
    Completed,
    Cancelling,
    Cancelled,
}

/// What a batch leaves at its end.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) files: [StoredFile; 2],
    pub(crate) bills: Vec<(Arc<Deployment>, Arc<str>, Usage)>,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::Failed => "failed",
            Self::InProgress => "in_progress",
            Self::Finalizing => "finalizing",
            Self::Completed => "completed",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether its files are there.
    fn has_files(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

impl Batch {
    pub(crate) fn status(&self, now: Duration) -> Status {
        if let Some(at) = self.cancelled {
            return if now <= at {
                Status::Cancelling
            } else {
                Status::Cancelled
            };
        }
        let quarters = self.quarters(now);
        match quarters {
            0 => Status::Validating,
            _ if !self.errors.is_empty() => Status::Failed,
            1 | 2 => Status::InProgress,
            3 => Status::Finalizing,
            _ => Status::Completed,
        }
    }

    /// The quarters of its time that are over.
    fn quarters(&self, now: Duration) -> u128 {
        let passed = now.saturating_sub(self.start).as_nanos();
        passed.saturating_mul(4) / self.length.as_nanos().max(1)
    }

    /// The lines that have been run.
    fn done(&self, now: Duration) -> &[Line] {
        let now = self.cancelled.map_or(now, |at| at.min(now));
        let passed = now.saturating_sub(self.start).as_nanos();
        let length = self.length.as_nanos().max(1);
        let count = u128::try_from(self.lines.len()).unwrap_or(u128::MAX);
        // None in the first quarter, all of them after the third.
        let share = passed.saturating_mul(4).saturating_sub(length);
        let done = (share.saturating_mul(count) / length.saturating_mul(2)).min(count);
        let done = usize::try_from(done).unwrap_or(usize::MAX);
        self.lines.get(..done).unwrap_or(&self.lines)
    }

    pub(crate) fn object(&self, now: Duration) -> Value {
        let status = self.status(now);
        let done = self.done(now);
        let failed = done.iter().filter(|line| line.is_error).count();
        let second = |quarter: u32| self.created + (self.length * quarter / 4).as_secs();
        let at = |is_past: bool, quarter| is_past.then(|| second(quarter));
        let quarters = self.quarters(now);
        let is_run = self.cancelled.is_none() && self.errors.is_empty();
        let [output, error] = &self.files;
        let file = |id: &String| status.has_files().then(|| id.clone());
        let stopped = self
            .cancelled
            .map(|at| self.created + clock::millis(at.saturating_sub(self.start)) / 1_000);
        let errors = (status == Status::Failed)
            .then(|| json!({"object": "list", "data": self.errors.clone()}));
        json!({
            "id": self.id, "object": "batch", "endpoint": self.endpoint, "errors": errors,
            "input_file_id": self.input, "completion_window": self.window,
            "status": status.as_str(), "output_file_id": file(output), "error_file_id": file(error),
            "created_at": self.created, "in_progress_at": at(is_run && quarters > 0, 1),
            "expires_at": self.created + 86_400, "finalizing_at": at(is_run && quarters > 2, 3),
            "completed_at": at(status == Status::Completed, 4),
            "failed_at": at(status == Status::Failed, 1), "expired_at": null,
            "cancelling_at": stopped,
            "cancelled_at": stopped.filter(|_| status == Status::Cancelled),
            "request_counts": {
                "total": self.lines.len(), "completed": done.len() - failed, "failed": failed,
            },
            "metadata": self.metadata,
        })
    }

    /// Stops a batch that has not ended.
    pub(crate) fn cancel(&mut self, now: Duration) {
        if matches!(
            self.status(now),
            Status::Validating | Status::InProgress | Status::Finalizing
        ) {
            self.cancelled = Some(now);
        }
    }

    /// What it leaves, once, when it has ended.
    pub(crate) fn settle(&mut self, now: Duration) -> Option<Outcome> {
        if !self.status(now).has_files() || std::mem::replace(&mut self.is_settled, true) {
            return None;
        }
        let done = self.done(now);
        let [output, error] = &self.files;
        let file = |id: &String, name: &str, is_error: bool| {
            let lines = done.iter().filter(|line| line.is_error == is_error);
            let text: String = lines.map(|line| format!("{}\n", line.written)).collect();
            StoredFile {
                id: id.clone(),
                created: self.created,
                name: format!("{}_{name}.jsonl", self.id),
                purpose: "batch_output".to_owned(),
                data: text.into(),
                project: self.project.clone(),
            }
        };
        let files = [file(output, "output", false), file(error, "error", true)];
        let deployment = self.deployment.as_ref()?;
        let used = done.iter().filter_map(|line| line.usage);
        let bills = used.map(|usage| (Arc::clone(deployment), Arc::clone(&self.key), usage));
        Some(Outcome {
            files,
            bills: bills.collect(),
        })
    }
}

impl Owned for Batch {
    fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }
}
