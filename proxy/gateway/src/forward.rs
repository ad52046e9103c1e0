//! The second half of a request's life: choose an endpoint, forward, try another before the first
//! byte, and hand the answer to [`crate::relay`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Response};
use proxy_admin::clock;
use proxy_api::{Body, BoundName, Call, Edit, EndUser, UserMember, UserMembers, splice};
use proxy_core::names::Code;
use proxy_core::table::{Backend, Rule, StreamUsage};
use proxy_core::tokens;

use crate::additions::Additions;
use crate::aftermath;
use crate::answer::{Refusal, refuse};
use crate::bound::Bound;
use crate::credential::Shown;
use crate::endpoint::{Place, Placed};
use crate::exchange::Exchange;
use crate::kept::ResourceId;
use crate::live::{LiveRule, LiveTarget};
use crate::origin::{Destination, Origin, Outgoing};
use crate::proofs::Stranger;
use crate::quirks::{Added, Refused};
use crate::relay::Payload;
use crate::replay::Replay;
use crate::state::Core;
use crate::tail::{Feed, Outbound};
use crate::token;
use crate::trouble::Trouble;
use crate::upstream::{AnswerBody, Failed, Failure, Patience};

mod affinity;
mod hold;
mod judge;
mod relayed;
mod tries;

/// A charged request and everything that its tries need.
pub(crate) struct Sending<'a> {
    pub(crate) core: &'a Core,
    pub(crate) rule: Arc<LiveRule>,
    pub(crate) declared: &'a Rule,
    pub(crate) call: &'static Call,
    pub(crate) method: &'static Method,
    /// What it asks of what backends keep.
    pub(crate) bound: Option<Box<Bound>>,
    /// Empty if it names none.
    pub(crate) model: Arc<str>,
    /// The version of the API that the client speaks.
    pub(crate) version: Option<String>,
    /// What the rule names as the end user of the request.
    pub(crate) end_user: Option<Arc<str>>,
    pub(crate) client: &'a HeaderMap,
    pub(crate) shown: Option<Shown<'a>>,
    pub(crate) stranger: Option<Stranger>,
    pub(crate) replay: Replay,
    /// What follows it, of a body that is too large to be held.
    pub(crate) feed: Option<Box<Feed>>,
    pub(crate) body: Body,
    /// When it was admitted.
    pub(crate) now: Instant,
    pub(crate) deadline: Instant,
}

/// No endpoint answered: the exchange comes back with the refusal.
pub(crate) struct Unserviced {
    pub(crate) exchange: Box<Exchange>,
    pub(crate) refusal: Box<Refusal>,
}

/// An answer, and what is known of it.
struct Answered {
    response: Response<AnswerBody>,
    /// When its head came.
    now: Instant,
    /// The gateway asked for the usage of its stream.
    asked_usage: bool,
    /// Why another endpoint may give a better one.
    trouble: Option<Trouble>,
}

impl Sending<'_> {
    /// Tries endpoints until one answers, the retries are used up, or none is left.
    pub(crate) async fn forward(
        &self,
        mut exchange: Box<Exchange>,
    ) -> Result<Response<Payload>, Box<Unserviced>> {
        exchange.if_left = Some(aftermath::without_head);
        let tried = self.tries(&mut exchange).await;
        exchange.if_left = None;
        match tried {
            Ok((answered, at)) => Ok(self.relay(answered, exchange, at)),
            Err(refusal) => {
                // Of what the client did wrong no backend knows.
                let own = self.feed.as_deref().and_then(Feed::refusal);
                let refusal = own.unwrap_or(refusal);
                Err(Box::new(Unserviced { exchange, refusal }))
            }
        }
    }

    /// Whether another try is possible.
    fn is_kept(&self) -> bool {
        self.replay.is_kept() && self.feed.as_deref().is_none_or(Feed::is_kept)
    }

    /// Why no endpoint could be asked.
    fn untried(&self) -> Box<Refusal> {
        let model = &self.model;
        if !self.model.is_empty() && self.resource().is_some() {
            let message = format!(
                "what the request continues or names is kept by a Foundry resource that the rule does not reach with \
                 model {model:?}; leave it out, or use another model"
            );
            refuse(Code::InvalidRequest, message)
        } else if self.call.has_model() && self.has_no_deployment() {
            let message = format!("no deployment of the rule serves model {model:?}");
            refuse(Code::ModelNotFound, message)
        } else if let Some(version) = self.pinned_version() {
            let path = self.call.upstream.suffix();
            let of_model = if model.is_empty() {
                String::new()
            } else {
                format!(" for model {model:?}")
            };
            let first = self.call.upstream.first_version();
            let first =
                first.map_or_else(String::new, |first| format!(", which came with {first}"));
            let message = format!(
                "version {version} of the API has no {path}{first}, and every backend of the rule{of_model} is \
                 pinned to one without it; remove apiVersion from the AIBackend, or add a backend without it to the \
                 rule"
            );
            refuse(Code::UnsupportedApiVersion, message)
        } else {
            let message = format!("no backend of the rule can be used for model {model:?}");
            refuse(Code::NoBackend, message)
        }
    }

    /// The version that an endpoint for the model is pinned to, if all of them lack the operation by theirs.
    fn pinned_version(&self) -> Option<&str> {
        let targets = 0..self.rule.targets.len();
        let mut origins = targets.filter_map(|target| self.endpoint(target));
        let (_, first) = origins.next()?;
        let version = first.lacks(self.call.upstream)?;
        origins
            .all(|(_, origin)| origin.lacks(self.call.upstream).is_some())
            .then_some(version)
    }

    /// Whether the rule has backends, and none of them a deployment for the model.
    fn has_no_deployment(&self) -> bool {
        let targets = &self.rule.targets;
        let serves = |target: &LiveTarget| target.endpoint(&self.model).is_some();
        !targets.is_empty() && !targets.iter().any(serves)
    }

    /// The endpoint of a target, if it has one for the model and its address can be used.
    fn endpoint(&self, target: usize) -> Option<(&Placed, &Origin)> {
        let target = self.rule.targets.get(target)?;
        let at = if self.model.is_empty() {
            target.any_endpoint()?
        } else {
            target.endpoint(&self.model)?
        };
        let origin = at.place.origin.as_deref()?;
        let is_reached = self.bound.as_deref().is_none_or(|bound| {
            bound.resource.is_none_or(|one| one == origin.resource)
                && (bound.named.project.is_none() || origin.has_projects())
        });
        is_reached.then_some((at, origin))
    }

    /// The one resource that can serve it.
    fn resource(&self) -> Option<ResourceId> {
        self.bound.as_deref()?.resource
    }

    /// Puts the request to an endpoint, and again without what the gateway added to it and the endpoint refuses.
    async fn attempt(
        &self,
        at: &Placed,
        origin: &Origin,
        exchange: &Exchange,
        now: Instant,
    ) -> Result<Answered, Failed> {
        let quirks = &at.endpoint.quirks;
        let mut refused = quirks.known();
        let mut tried = self.call(at, origin, exchange, refused, now).await;
        for _ in Added::ALL {
            let Ok((answered, added)) = &mut tried else {
                break;
            };
            if !self.is_kept() {
                break;
            }
            let Some(member) = added.refused_by(&mut answered.response).await else {
                break;
            };
            refused = refused.with(member);
            let now = clock::instant();
            tried = self.call(at, origin, exchange, refused, now).await;
            if let Ok((answered, _)) = &tried
                && answered.response.status().is_success()
            {
                tracing::info!(
                    backend = &*at.endpoint.backend,
                    deployment = &*at.endpoint.deployment,
                    member = member.name(),
                    "the endpoint refuses a member that the gateway adds; it is left out from now on"
                );
                quirks.learn(refused);
            }
        }
        tried.map(|(answered, _)| answered)
    }

    /// Puts the request to an endpoint, once.
    async fn call(
        &self,
        at: &Placed,
        origin: &Origin,
        exchange: &Exchange,
        refused: Refused,
        began: Instant,
    ) -> Result<(Answered, Additions), Failed> {
        let place = &at.place;
        let deployment = &place.declared.deployment;
        let bound = self.bound.as_deref();
        let destination = origin.destination(
            self.call,
            &deployment.name,
            self.version.as_deref(),
            bound.map(|bound| (&bound.named, &*bound.query)),
        );
        let mut additions = Additions::default();
        let patience = self.patience(&place.declared.backend, began);
        let tried = match destination {
            Ok(destination) => {
                additions = self.additions(&destination, place, refused);
                let edit = Edit {
                    model: (destination.model_in_body && self.call.has_model())
                        .then_some(&*deployment.name),
                    ids: bound.map_or(&[], |bound| &bound.ids),
                    usage: additions.usage,
                    default_bound: additions.bound,
                    max_bound: self.declared.output_tokens.max,
                    end_user: self.end_user.as_deref().map(|id| EndUser {
                        id,
                        added: additions.users,
                    }),
                };
                let Some(body) = self.replay.bytes() else {
                    return Err(Failed::given_up());
                };
                let body = splice(&body, &self.body, edit);
                let rest = self.feed.as_deref();
                let length = body.len().saturating_add(rest.map_or(0, Feed::len));
                // Of a large body nothing is kept here, or it could not be given up.
                let small = self.replay.is_small().then_some(body);
                let spliced = || {
                    let again = || Some(splice(&self.replay.sent()?, &self.body, edit));
                    let pieces = small.clone().or_else(again)?;
                    let tail = match rest {
                        Some(feed) => Some(feed.take()?),
                        None => None,
                    };
                    Some(Outbound { pieces, tail })
                };
                let outgoing = Outgoing {
                    method: self.method,
                    destination,
                    client: self.client,
                    shown: self.shown.as_ref(),
                    bearer: None,
                    request_id: &exchange.record.request_id,
                    length,
                    body: &spliced,
                    goes_once: rest.is_some(),
                };
                let connections = &self.core.connections;
                let sent = token::send(connections, origin, outgoing, patience, &exchange.fate);
                let tried = sent.await;
                if self.declared.first_token_timeout.is_some() {
                    Box::pin(self.begun(tried, exchange, patience)).await
                } else {
                    tried
                }
            }
            Err(error) => Err(Failed {
                how: Failure::Unreachable,
                cause: format!("the request cannot be built: {error}"),
            }),
        };
        let mut answered = self.judged(at, exchange, tried, patience).await?;
        answered.asked_usage = additions.usage && !self.body.asks_usage();
        Ok((answered, additions))
    }

    /// What the gateway adds to the body for this endpoint.
    fn additions(&self, destination: &Destination, place: &Place, refused: Refused) -> Additions {
        let deployment = &place.declared.deployment;
        let wants_usage = destination.asks_usage
            && self.body.stream
            && !self.body.has_data_sources
            && deployment.stream_usage == StreamUsage::Auto;
        let usage = wants_usage && !refused.has(Added::StreamOptions);
        let users = match self.end_user {
            Some(_) => self.added_users(destination, refused),
            None => UserMembers::default(),
        };
        let stated = self.body.max_output_tokens();
        let bound = self.declared.output_tokens.bound(None);
        let Some(bound) = bound.filter(|_| stated.is_none()) else {
            return Additions {
                usage,
                bound: None,
                users,
            };
        };
        let bound = bound.min(place.longest.unwrap_or(u64::MAX));
        let takes = |name: &&BoundName| !refused.has(Added::Bound(**name));
        let mut names = self.call.output_bounds.iter();
        // Models with reasoning take the last of them alone.
        let name = if tokens::is_reasoning(&deployment.model) {
            names.rfind(takes)
        } else {
            names.find(takes)
        };
        Additions {
            usage,
            bound: name.map(|name| (*name, bound)),
            users,
        }
    }

    /// The members in which the gateway names the end user, because the client does not.
    fn added_users(&self, destination: &Destination, refused: Refused) -> UserMembers {
        let members = self.call.users.iter().copied();
        let added = members.filter(|member| {
            let is_known = *member != UserMember::SafetyIdentifier || !destination.is_dated;
            is_known && self.body.users.lacks(*member) && !refused.has(Added::User(*member))
        });
        added.collect()
    }

    /// The wait for the head of an answer: not beyond the request's end, and for that of a stream the backend's
    /// and the rule's time.
    fn patience(&self, backend: &Backend, now: Instant) -> Patience {
        let of_rule = self.declared.first_token_timeout.unwrap_or(Duration::MAX);
        let of_backend = if self.body.stream {
            backend.stream_start_timeout
        } else {
            Duration::MAX
        };
        let rest = self.deadline.saturating_duration_since(now);
        Patience {
            now,
            answer: of_backend.min(of_rule).min(rest),
            until: self.deadline,
        }
    }
}
