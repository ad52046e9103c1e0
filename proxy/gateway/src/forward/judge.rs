//! What an answer tells: of the request, whether another endpoint may do better, and of the endpoint, whether
//! others should come to it.

use http::{Response, StatusCode};
use proxy_admin::clock;
use proxy_core::balance::Outcome;
use proxy_core::names::Code;
use proxy_core::table::BackendAuth;

use super::{Answered, Sending};
use crate::endpoint::{Ended, Place, Placed};
use crate::exchange::Exchange;
use crate::pressure;
use crate::token;
use crate::trouble::{Trouble, named_wait};
use crate::upstream::{AnswerBody, Failed, Failure, Patience};

/// The words by which backends say that they have no such deployment. Other errors with 404 are of the path.
const NOT_THERE: [&str; 3] = ["DeploymentNotFound", "model_not_found", "unknown_model"];

impl Sending<'_> {
    /// Takes note of what a try came to, for the endpoint and in the metrics.
    pub(super) async fn judged(
        &self,
        at: &Placed,
        exchange: &Exchange,
        tried: Result<Response<AnswerBody>, Failed>,
        patience: Patience,
    ) -> Result<Answered, Failed> {
        let Placed { endpoint, place } = at;
        let mut tried = tried.and_then(|response| {
            let status = response.status();
            let is_final = status.is_success() || matches!(status.as_u16(), 400..600);
            is_final
                .then_some(response)
                .ok_or_else(|| Failed::stray(status))
        });
        let now = clock::instant();
        let trouble = match &mut tried {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Box::pin(self.trouble_of(response)).await,
            Err(failed) => Some(Trouble::Failed(failed.how)),
        };
        // Where there is no choice, and no one to give way to, no look at the headers is needed.
        let is_provisioned = place.declared.deployment.capacity.is_provisioned;
        if let Ok(response) = &tried
            && (self.rule.targets.len() > 1 || is_provisioned)
            && let Some(free) = pressure::free(response.headers())
        {
            endpoint.tells_room(free, clock::moment(now), place);
        }
        let metrics = &self.core.shared.metrics;
        let tries = |status| metrics.tries(&endpoint.backend, &endpoint.deployment, status);
        let outcome = self.outcome(&tried, trouble, place, patience);
        // A credential that was refused may have been replaced meanwhile.
        let outcome = outcome.filter(|one| !one.is_by_hand() || endpoint.is_still_at(place));
        if outcome.as_ref().is_some_and(|one| one.is_by_hand()) {
            endpoint.refuses(place);
        }
        let ended = Ended {
            result: tried.as_ref().map(Response::status),
            outcome,
            request_id: &exchange.record.request_id,
            demand: exchange.demand(),
            began: patience.now,
            now,
        };
        endpoint.tried(&ended, &place.declared.backend.health, metrics);
        match &tried {
            // Counted by the endpoint, without a look at labels.
            Ok(response) if response.status() == StatusCode::OK => {}
            Ok(response) => drop(tries(response.status().as_str()).inc()),
            Err(failed) => drop(tries(failed.how.code().as_str()).inc()),
        }
        Ok(Answered {
            response: tried?,
            now,
            asked_usage: false,
            trouble,
        })
    }

    /// Why another endpoint may give a better answer than this one, which is no success.
    async fn trouble_of(&self, answer: &mut Response<AnswerBody>) -> Option<Trouble> {
        let names_model = self.call.has_model() && self.resource().is_none();
        match answer.status().as_u16() {
            400 if self.body.has_bare_seals && self.resource().is_none() => {
                let word = token::word_of(answer).await?;
                (word == Code::InvalidEncryptedContent.as_str()).then_some(Trouble::Sealed)
            }
            429 => Some(Trouble::Throttled),
            408 | 421 | 424 | 500.. => Some(Trouble::ServerError),
            410 if names_model => Some(Trouble::NotThere),
            404 if names_model => {
                let word = token::word_of(answer).await?;
                NOT_THERE.contains(&&*word).then_some(Trouble::NotThere)
            }
            _ => None,
        }
    }

    /// What a try tells of the endpoint, for all requests.
    fn outcome(
        &self,
        tried: &Result<Response<AnswerBody>, Failed>,
        trouble: Option<Trouble>,
        place: &Place,
        patience: Patience,
    ) -> Option<Outcome> {
        let backend = &place.declared.backend;
        let Some(trouble) = trouble else {
            let status = tried.as_ref().map(Response::status);
            let is_good = status.is_ok_and(|status| status.is_success());
            return Some(if is_good {
                Outcome::Begun
            } else {
                Outcome::Answered
            });
        };
        match trouble {
            // The limit may be that of the caller whose credential was passed on.
            Trouble::Throttled if backend.auth == BackendAuth::PassThrough => None,
            Trouble::Throttled => {
                let headers = tried.as_ref().ok().map(Response::headers);
                let wait = headers.and_then(|headers| named_wait(headers, clock::now()));
                Some(Outcome::Throttled(wait))
            }
            Trouble::NotThere => Some(Outcome::NotThere),
            Trouble::Sealed => Some(Outcome::Answered),
            Trouble::Failed(Failure::Refused) => Some(Outcome::CredentialRefused),
            Trouble::Failed(Failure::OutOfReach) => Some(Outcome::OutOfReach),
            // The identity knows it; or the gateway itself lacks something.
            Trouble::Failed(Failure::NoToken | Failure::Local) => None,
            Trouble::Failed(Failure::Timeout) => {
                // A rule's patience is its own, unless the backend's owner wrote it. The request's end tells
                // nothing.
                let is_slow =
                    patience.answer < patience.until.saturating_duration_since(patience.now);
                let is_own = backend.name.namespace() == self.rule.route.name.namespace();
                let is_declared = patience.answer >= backend.stream_start_timeout;
                (is_slow && (is_own || is_declared)).then_some(Outcome::Failed)
            }
            // What failed may be a tool server that the request names.
            Trouble::ServerError
                if tried
                    .as_ref()
                    .is_ok_and(|one| one.status() == StatusCode::FAILED_DEPENDENCY) =>
            {
                None
            }
            Trouble::ServerError
            | Trouble::Failed(Failure::Unreachable | Failure::BrokeOff | Failure::Stray) => {
                Some(Outcome::Failed)
            }
        }
    }
}
