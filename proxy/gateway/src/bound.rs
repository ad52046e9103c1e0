//! What a request asks of what backends keep: the ids, the resource that keeps it, and the owner.

use std::ops::Range;
use std::sync::Arc;

use proxy_api::{Kept, Named, Reference, State};
use proxy_core::auth::{Caller, CallerKind};
use proxy_core::names::Code;

use crate::answer::{Refusal, refuse};
use crate::kept::{ResourceId, StateKeys};
use crate::live::{Live, LiveRule};

#[cfg(test)]
mod tests;

/// The owner of what callers with a backend's own credential make: the backend tells them apart.
const PASS_THROUGH: &str = "pass-through";
/// That of callers without a credential.
const ANONYMOUS: &str = "anonymous";

/// The query parameters that go on to a backend, besides the version.
const PARAMETERS: [&str; 9] = [
    "include",
    "limit",
    "after",
    "before",
    "order",
    "stream",
    "starting_after",
    "include_obfuscation",
    "purpose",
];

/// The longest part of an unknown id that a message repeats.
const SHOWN: usize = 96;

/// A request about what backends keep.
pub(crate) struct Bound {
    /// What its path names, as the backend knows it.
    pub(crate) named: Named,
    /// Its query, without the version.
    pub(crate) query: String,
    /// Where its body names what it continues, and how the backend knows that.
    pub(crate) ids: Vec<(Range<usize>, Box<str>)>,
    /// The one resource that can serve it.
    pub(crate) resource: Option<ResourceId>,
    /// The owner of what the backend makes; `None`: ids go as they are.
    pub(crate) owner: Option<Arc<str>>,
}

/// The owner of what a caller makes by a rule; `None` if the backend alone decides that.
pub(crate) fn owner(live: &Live, rule: &LiveRule, caller: &Caller) -> Option<Arc<str>> {
    let is_passed = rule.route.authentication.pass_through;
    match &caller.kind {
        CallerKind::Unknown if is_passed && !live.is_spread(rule) => None,
        CallerKind::Unknown if is_passed => Some(PASS_THROUGH.into()),
        CallerKind::Unknown => Some(ANONYMOUS.into()),
        CallerKind::Known(_) | CallerKind::Token(_) | CallerKind::Anonymous => {
            Some(Arc::clone(&caller.full_name))
        }
    }
}

/// Whether a rule reaches what has this id, and the caller may have it.
pub(crate) fn reaches(
    keys: &StateKeys,
    live: &Live,
    rule: &LiveRule,
    caller: &Caller,
    id: &str,
) -> bool {
    let Some(owner) = owner(live, rule, caller) else {
        return true;
    };
    let opened = keys.open(id, &owner);
    opened.is_some_and(|(_, resource)| rule.reaches(resource))
}

impl Bound {
    pub(crate) fn new(
        keys: &StateKeys,
        owner: Option<Arc<str>>,
        state: &State,
        named: Option<Box<Named>>,
        references: &[Reference],
    ) -> Result<Self, Box<Refusal>> {
        let mut named = named.map_or_else(Named::default, |named| *named);
        let mut resource = None;
        let mut open = |id: &str, refusal: fn(&str, Kept) -> Box<Refusal>, kept: Kept| {
            let Some(owner) = &owner else {
                return Ok(id.into());
            };
            let opened = keys.open(id, owner);
            let (id, kept_by) = opened.ok_or_else(|| refusal(id, kept))?;
            match resource.replace(kept_by) {
                Some(other) if other != kept_by => Err(refuse(
                    Code::InvalidRequest,
                    "the request names what different Foundry resources keep",
                )),
                Some(_) | None => Ok(Box::<str>::from(id)),
            }
        };
        if let Some(id) = &mut named.id {
            *id = open(id, unknown, state.kept)?;
        }
        let ids = references.iter().map(|one| {
            let id = open(&one.id, unknown_reference, one.kept)?;
            Ok((one.at.clone(), id))
        });
        Ok(Self {
            ids: ids.collect::<Result<_, Box<Refusal>>>()?,
            named,
            query: String::new(),
            resource,
            owner,
        })
    }

    /// Takes the parameters that go on. Returns whether they ask for a stream.
    pub(crate) fn take_query(&mut self, query: &str) -> bool {
        let name = |pair: &str| {
            let name = pair.split('=').next().unwrap_or_default();
            let end = name.find(['[', '%']).unwrap_or(name.len());
            PARAMETERS
                .iter()
                .find(|one| Some(**one) == name.get(..end))
                .copied()
        };
        let passed: Vec<&str> = query
            .split('&')
            .filter(|pair| name(pair).is_some())
            .collect();
        self.query = passed.join("&");
        passed.contains(&"stream=true")
    }
}

/// An id that is not the caller's, as `OpenAI` says it.
pub(crate) fn unknown(id: &str, kept: Kept) -> Box<Refusal> {
    let shown: String = id.chars().take(SHOWN).collect();
    let message = format!("{} with id '{shown}' not found.", kept.as_str());
    refuse(Code::NotKept, message)
}

fn unknown_reference(id: &str, kept: Kept) -> Box<Refusal> {
    match kept {
        Kept::Response => {
            let shown: String = id.chars().take(SHOWN).collect();
            let message = format!("Previous response with id '{shown}' not found.");
            refuse(Code::PreviousResponseNotFound, message)
        }
        Kept::Conversation | Kept::File | Kept::Upload | Kept::Part => unknown(id, kept),
    }
}
