//! Requests about what backends keep: the rule that reaches it, and what goes on to the backend.

use proxy_api::{Body, Call, Named};
use proxy_core::admit::{self, Ask, Permit};
use proxy_core::names::{Code, Operation};
use proxy_core::quota::Wait;

use super::Head;
use crate::answer::{Refusal, refuse};
use crate::bound::{self, Around, Bound, Sought};
use crate::exchange::Exchange;
use crate::live::LiveRule;
use crate::slot::Place;

impl<'a> Head<'a> {
    /// The rule that serves a request which names no model: one that reaches what it names.
    pub(super) fn permit_by_id(
        &self,
        operation: Operation,
        sought: Option<Sought<'_>>,
    ) -> Result<Permit<'a>, Box<Refusal>> {
        let ask = Ask {
            host: &self.host,
            operation,
            model: None,
            headers: &self.parts.headers,
        };
        let keys = &self.core.shared.config.state_keys;
        let reaches = |index| {
            let rule = self.live.rule(index);
            rule.is_some_and(|rule| match sought {
                Some(sought) => bound::reaches(keys, self.live, rule, &self.caller, sought),
                None => true,
            })
        };
        let found = admit::admit_for_some_model(&self.live.table, &self.caller, &ask, reaches);
        let found = found.map_err(|denial| Box::new(Refusal::from(denial)))?;
        found.ok_or_else(|| match sought {
            Some(sought) => bound::unknown(sought),
            None => refuse(
                Code::ModelNotFound,
                format!("no rule serves {}", operation.as_str()),
            ),
        })
    }

    /// What the request asks of what backends keep; `None` for nothing.
    #[inline]
    pub(super) fn bound(
        &self,
        call: &Call,
        named: Option<Box<Named>>,
        rule: &LiveRule,
        body: &mut Body,
        exchange: &mut Exchange,
    ) -> Result<Option<Box<Bound>>, Box<Refusal>> {
        let state = call.state.as_ref();
        if state.is_none() && body.references.is_empty() && !body.speaks {
            return Ok(None);
        }
        let keys = &self.core.shared.config.state_keys;
        let owner = bound::owner(self.live, rule, &self.caller);
        if let Some(state) = state.filter(|state| state.lists && owner.is_some()) {
            let message = format!(
                "a list is not served of what backends keep ({}): it would show that of other consumers, too. Keep \
                 the ids of what you make",
                state.kept.as_str()
            );
            return Err(refuse(Code::OperationNotServed, message));
        }
        let around = Around {
            keys,
            live: self.live,
            rule,
        };
        let mut bound = Bound::new(around, owner, state, named, &body.references)?;
        if let Some(state) = state.filter(|state| state.without_model) {
            let query = self.parts.uri.query().unwrap_or_default();
            body.stream = bound.take_query(keys, state, query)?;
            exchange.record.streamed = body.stream;
        }
        if body.background {
            let message = "the gateway follows as many batches and responses in the background as it can; wait for \
                           one to end, or ask for a stream";
            let full = Refusal::new(Code::Overloaded, message).waiting(Wait::Millis(10_000));
            let place = Place::take(&self.caller.full_name);
            exchange.followed = Some(place.ok_or_else(|| Box::new(full))?);
        }
        Ok(Some(Box::new(bound)))
    }
}
