//! What an API gets, and what it makes of it: a [`Call`] becomes a [`Job`], whose [`Reply`] is made once
//! limits and faults have let it through.

use std::{cell::RefCell, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::{
    deployment::{Deployment, Finish, Size},
    errors::Failure,
    family::{self, Work},
    filter::{self, Filtered},
    foundry::Foundry,
    limits::Cost,
    record::Usage,
    sse::Events,
    surface::{self, Place, Surface},
};

/// The code of one API: it reads a request, and refuses what that API refuses.
pub(crate) type Handler = fn(&Call<'_>) -> Result<Job, Failure>;

/// A request that was routed and authenticated.
pub(crate) struct Call<'a> {
    pub(crate) foundry: &'a Arc<Foundry>,
    pub(crate) place: Place<'a>,
    /// The segments of the path for which the table of routes has `{}`.
    pub(crate) ids: [&'a str; 2],
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
    pub(crate) query: &'a str,
    /// Fingerprint of the accepted key.
    pub(crate) key: Arc<str>,
    pub(crate) received: Duration,
    /// The deployment that was asked for last.
    pub(crate) found: RefCell<Option<Arc<Deployment>>>,
}

/// A request that was understood.
pub(crate) struct Job {
    /// What the deployment's limits are charged, if it is asked at all.
    pub(crate) cost: Option<Cost>,
    /// What a model reads, if one is reached: billed even if the answer is cut.
    pub(crate) input: Option<Usage>,
    /// The answer goes on after the request: it is settled later, by other means.
    pub(crate) deferred: bool,
    /// The names of the body's top-level members.
    pub(crate) members: Vec<String>,
    pub(crate) reply: Box<dyn FnOnce() -> Reply + Send>,
}

/// An answer, before faults.
pub(crate) enum Reply {
    Whole(Whole),
    /// Server-sent events.
    Events(Box<dyn Events>),
    /// Something else, piece by piece.
    Stream {
        content_type: &'static str,
        events: Box<dyn Events>,
    },
}

/// An answer in one piece.
pub(crate) struct Whole {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    /// What was consumed for it.
    pub(crate) usage: Usage,
}

pub(crate) const EVENTS: &str = "text/event-stream; charset=utf-8";
pub(crate) const JSON: &str = "application/json";

impl<'a> Call<'a> {
    pub(crate) fn surface(&self) -> Surface<'a> {
        self.place.surface
    }

    /// The deployment that the path names, if this surface has it there.
    pub(crate) fn named(&self, work: Work) -> Result<Option<Arc<Deployment>>, Failure> {
        match self.surface() {
            Surface::Deployment { name, .. } => self.deployment(name, work).map(Some),
            Surface::V1 | Surface::Dated { .. } | Surface::Anthropic => Ok(None),
        }
    }

    /// The deployment of that name, whose model has to do that work. Whatever comes of the request, its
    /// record has it.
    pub(crate) fn deployment(&self, name: &str, work: Work) -> Result<Arc<Deployment>, Failure> {
        let found = self.foundry.deployments.get(name);
        let found = Arc::clone(found.ok_or_else(Failure::no_deployment)?);
        self.concerns(&found);
        family::check(&found.model, work)?;
        Ok(found)
    }

    /// A parameter of the query, as it stands there.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        surface::parameter(self.query, name)
    }

    /// Notes the deployment to which a stored object belongs.
    pub(crate) fn concerns(&self, deployment: &Arc<Deployment>) {
        *self.found.borrow_mut() = Some(Arc::clone(deployment));
    }

    /// What a model reads of a prompt of this many tokens, by class. `prompt` is its text, in order.
    pub(crate) fn input(&self, deployment: &Deployment, tokens: u64, prompt: &[&Value]) -> Usage {
        let mut read = deployment.input(tokens);
        if deployment.has_cache {
            let cache = &self.foundry.cache;
            let cached = cache.read(&deployment.model, prompt, self.received);
            read.cached_tokens = cached.min(tokens);
        }
        read
    }

    /// What the content filter leaves of an answer. A prompt that it stops is refused, and billed.
    pub(crate) fn filtered(&self, read: Usage, size: Size) -> Result<Size, Failure> {
        match filter::judge(self.body) {
            None => Ok(size),
            Some(Filtered::Prompt) => Err(Failure::content_filter(read)),
            Some(Filtered::Completion) => Ok(size.half(Finish::Filter)),
        }
    }

    /// Arrival in seconds since 1970.
    pub(crate) fn created(&self) -> u64 {
        self.foundry.clock.unix(self.received).as_secs()
    }
}

impl Job {
    /// A job without a model: it costs nothing.
    pub(crate) fn free(reply: impl FnOnce() -> Reply + Send + 'static) -> Self {
        Self {
            cost: None,
            input: None,
            deferred: false,
            members: Vec::new(),
            reply: Box::new(reply),
        }
    }
}

impl Reply {
    /// A JSON answer to which no model contributed.
    pub(crate) fn json(body: impl Into<Bytes>) -> Self {
        Self::produced(body, Usage::default())
    }

    /// A JSON answer of a model.
    pub(crate) fn produced(body: impl Into<Bytes>, usage: Usage) -> Self {
        Self::Whole(Whole {
            status: StatusCode::OK,
            content_type: JSON,
            body: body.into(),
            usage,
        })
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("cost", &self.cost)
            .field("input", &self.input)
            .finish_non_exhaustive()
    }
}
