//! The answer of an endpoint, on its way to the client.

use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;
use proxy_admin::clock;
use proxy_api::{Answers, Billing, claims};
use proxy_core::quota::Hold;
use proxy_core::table::{BackendKind, QuotaFacts};
use proxy_ledger::{Asking, Subject};

use super::{Answered, Sending};
use crate::answer::{hide_backend, name_request, show_levels, show_warning};
use crate::credential::Shown;
use crate::endpoint::Placed;
use crate::exchange::Exchange;
use crate::follow::Background;
use crate::marking::Marking;
use crate::proofs::Stranger;
use crate::relay::{Limits, Payload, Relay};
use crate::source::Source;
use crate::watch::Watch;

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// The backend's own name of the request.
const X_UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-tundish-upstream-request-id");
/// Says that the rule lowered the bound of the request to this.
const X_MAX_OUTPUT_TOKENS: HeaderName = HeaderName::from_static("x-tundish-max-output-tokens");

impl Sending<'_> {
    /// A backend has accepted the credential of a caller that was not proved, or not for long: from now on it is
    /// who its token claims, and this call counts in full and as its own.
    fn accepted(&self, stranger: &Stranger, at: &Placed, exchange: &mut Exchange, now: Instant) {
        let moment = clock::moment(now);
        if stranger.is_settled(moment) {
            return;
        }
        let backend = &at.place.declared.backend;
        let token = self
            .shown
            .as_ref()
            .filter(|_| backend.kind == BackendKind::Foundry);
        let shared = &self.core.shared;
        let proved = shared.proofs.accept(
            stranger.digest,
            &backend.name,
            token.and_then(|shown| claims(shown.key)),
            moment,
        );
        if !stranger.is_unproved() {
            return;
        }
        let rule = &self.rule;
        let Some(caller) = proved.or_else(|| exchange.record.caller.take()) else {
            return;
        };
        let subject = Subject {
            limits: &rule.limits,
            facts: QuotaFacts {
                caller: &caller,
                route: &rule.route,
                model: Some(&self.model),
                deployed_model: rule
                    .place(&self.model)
                    .map(|place| &*place.declared.deployment.model),
            },
            unproved: false,
        };
        let charge = shared.ledger.charge_anyway(Asking {
            counters: &Arc::new(shared.ledger.counters(&subject, moment)),
            hold: Hold::exact(exchange.held()),
            now: moment,
            clock: clock::now,
        });
        exchange.recharge(charge, now);
        exchange.record.caller = Some(caller);
    }

    /// What marks the ids of an answer.
    fn marking(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        at: &Placed,
    ) -> Option<Box<Marking>> {
        let bound = self.bound.as_deref()?;
        let (state, origin) = (self.call.state, at.place.origin.as_deref()?);
        let is_read = bound.owner.is_some() || self.body.background;
        let has_ids = state.map_or(self.body.speaks, |state| state.answers != Answers::Bytes);
        (status.is_success() && has_ids && is_read).then(|| {
            let keys = &self.core.shared.config.state_keys;
            Box::new(Marking::of(
                headers,
                state.map(|state| state.answers),
                keys,
                origin.resource,
                bound,
            ))
        })
    }

    pub(super) fn relay(
        &self,
        answered: Answered,
        mut exchange: Box<Exchange>,
        at: &Placed,
    ) -> Response<Payload> {
        let Answered {
            response,
            now,
            asked_usage,
            trouble: _,
        } = answered;
        exchange.answered(response.status(), now);
        if response.status().is_success()
            && let Some(stranger) = &self.stranger
        {
            self.accepted(stranger, at, &mut exchange, now);
        }
        let (mut parts, body) = response.into_parts();
        let id = exchange.record.request_id.clone();
        // Ours stands in the log, so it is the one that the client gets.
        let own = name_request(&mut parts.headers, &id, exchange.record.dialect());
        if let Some(detail) = &mut exchange.record.detail {
            detail.answered(&parts.headers, own.as_ref());
        }
        if let Some(own) = own {
            parts.headers.insert(X_UPSTREAM_REQUEST_ID, own);
        }
        if !self.declared.shows_backend {
            hide_backend(&mut parts.headers);
        }
        show_levels(&exchange.levels(), &mut parts.headers);
        show_warning(exchange.warning(), &mut parts.headers);
        if let Some(max) = self.declared.output_tokens.max
            && self
                .body
                .max_output_tokens()
                .is_some_and(|stated| stated > max)
        {
            parts
                .headers
                .insert(X_MAX_OUTPUT_TOKENS, HeaderValue::from(max));
        }
        if body.is_end_stream() {
            exchange.body_ended(!self.call.has_model());
            exchange.empty(now);
            return Response::from_parts(parts, Payload::Own(None));
        }
        let marking = self.marking(parts.status, &mut parts.headers, at);
        let background = exchange.followed.take().map(|place| {
            let bound = self.bound.as_deref();
            Box::new(Background {
                source: Source {
                    at: at.clone(),
                    project: bound.and_then(|one| one.named.project.clone()),
                    version: self.version.clone(),
                    credential: self.shown.as_ref().map(Shown::header),
                },
                is_batch: self.call.billing == Billing::Batch,
                place,
            })
        });
        let watch = Watch::of(self.call, self.body.stream, &parts, asked_usage);
        if watch.is_stream() {
            parts.headers.remove(CONTENT_LENGTH);
            if !watch.keeps_coding() {
                parts.headers.remove(CONTENT_ENCODING);
            }
            parts
                .headers
                .entry(X_ACCEL_BUFFERING)
                .or_insert(HeaderValue::from_static("no"));
        }
        let idle = at.place.declared.backend.idle_timeout;
        let limits = Limits::new(idle, self.deadline, now);
        let relay = Relay::new(body, exchange, watch, limits, marking, background);
        Response::from_parts(parts, Payload::Relayed(Box::new(relay)))
    }
}
