//! What a request asks of what backends keep: the ids, the resource that keeps it, and the owner.

use std::ops::Range;
use std::sync::Arc;

use proxy_api::{Kept, Named, Reference};
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

/// The most characters of a client's text that a message repeats.
const SHOWN: usize = 96;

/// A request about what backends keep.
pub(crate) struct Bound {
    /// What its path names, as the backend knows it.
    pub(crate) named: Named,
    /// Its query, without the version.
    pub(crate) query: String,
    /// Where its body names what backends keep, and how they know that; `None` for what they must not see.
    pub(crate) ids: Vec<(Range<usize>, Option<Box<str>>)>,
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

/// What a request names by an id, or shows by a tag.
#[derive(Clone, Copy)]
pub(crate) struct Sought<'a> {
    pub(crate) id: &'a str,
    pub(crate) kept: Kept,
    /// Where it stands; `None` for the path.
    pub(crate) place: Option<&'a str>,
}

impl<'a> From<&'a Reference> for Sought<'a> {
    fn from(reference: &'a Reference) -> Self {
        Self {
            id: &reference.id,
            kept: reference.kept,
            place: Some(&reference.place),
        }
    }
}

/// Whether a rule reaches what is sought, and the caller may have it.
pub(crate) fn reaches(
    keys: &StateKeys,
    live: &Live,
    rule: &LiveRule,
    caller: &Caller,
    sought: Sought<'_>,
) -> bool {
    let Some(owner) = owner(live, rule, caller) else {
        return true;
    };
    let resource = if sought.kept == Kept::Item {
        keys.unseal(sought.id, &owner)
    } else {
        keys.open(sought.id, &owner).map(|(_, resource)| resource)
    };
    let is_shared = is_shared(sought.kept);
    resource.map_or(is_shared, |resource| rule.reaches(resource))
}

/// Whether what has no tag belongs to all callers: vector stores are made at the resource itself, and by no
/// consumer.
fn is_shared(kept: Kept) -> bool {
    kept == Kept::VectorStore
}

/// What a caller shows of what backends keep: all of it must be its own, and of one resource.
struct Proof<'a> {
    keys: &'a StateKeys,
    owner: &'a str,
    /// The resource, and the place that named it first.
    resource: Option<(ResourceId, &'a str)>,
    /// The last tag of something sealed: in a long session all are the same.
    seal: Option<(&'a str, ResourceId)>,
}

impl<'a> Proof<'a> {
    /// The id in a path, as the backend knows it.
    fn named(&mut self, id: &str, kept: Kept) -> Result<Box<str>, Box<Refusal>> {
        let opened = self.keys.open(id, self.owner);
        let place = None;
        let (id, resource) = opened.ok_or_else(|| unknown(Sought { id, kept, place }))?;
        self.resource = Some((resource, "the path"));
        Ok(id.into())
    }

    /// What goes to the backend in place of a reference; `None` for nothing.
    fn reference(&mut self, one: &'a Reference) -> Result<Option<Box<str>>, Box<Refusal>> {
        let refusal = || unknown(one.into());
        if one.kept == Kept::Item {
            let known = self.seal.filter(|(tag, _)| **tag == *one.id);
            let known = known.map(|(_, resource)| resource);
            let resource = known.or_else(|| self.keys.unseal(&one.id, self.owner));
            let resource = resource.ok_or_else(refusal)?;
            self.seal = Some((&one.id, resource));
            self.bind(resource, &one.place)?;
            return Ok(None);
        }
        let opened = self.keys.open(&one.id, self.owner);
        if opened.is_none() && is_shared(one.kept) {
            return Ok(Some(one.id.clone()));
        }
        let (id, resource) = opened.ok_or_else(refusal)?;
        self.bind(resource, &one.place)?;
        Ok(Some(id.into()))
    }

    fn bind(&mut self, resource: ResourceId, place: &'a str) -> Result<(), Box<Refusal>> {
        let (first, by) = *self.resource.get_or_insert((resource, place));
        if first == resource {
            return Ok(());
        }
        let message = format!(
            "{} and {} name what different Foundry resources keep, and none of them can serve both",
            shown(by),
            shown(place)
        );
        Err(refuse(Code::InvalidRequest, message))
    }
}

impl Bound {
    /// Takes the tags off what the request names.
    pub(crate) fn new(
        keys: &StateKeys,
        owner: Option<Arc<str>>,
        kept: Kept,
        named: Option<Box<Named>>,
        references: &[Reference],
    ) -> Result<Self, Box<Refusal>> {
        let mut bound = Self {
            named: named.map_or_else(Named::default, |named| *named),
            query: String::new(),
            ids: Vec::new(),
            resource: None,
            owner,
        };
        let Some(owner) = bound.owner.as_deref() else {
            return Ok(bound);
        };
        let mut proof = Proof {
            keys,
            owner,
            resource: None,
            seal: None,
        };
        if let Some(id) = &mut bound.named.id {
            *id = proof.named(id, kept)?;
        }
        let ids = references
            .iter()
            .map(|one| Ok((one.at.clone(), proof.reference(one)?)));
        bound.ids = ids.collect::<Result<_, Box<Refusal>>>()?;
        bound.resource = proof.resource.map(|(resource, _)| resource);
        Ok(bound)
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

/// What is not the caller's, as `OpenAI` says it.
pub(crate) fn unknown(sought: Sought<'_>) -> Box<Refusal> {
    let id = shown(sought.id);
    let name = sought.kept.as_str();
    let Some(place) = sought.place.map(shown) else {
        return refuse(Code::NotKept, format!("{name} with id '{id}' not found."));
    };
    match sought.kept {
        Kept::Response => {
            let message = format!("Previous response with id '{id}' not found.");
            refuse(Code::PreviousResponseNotFound, message)
        }
        Kept::Item => {
            let message = format!(
                "{place} does not belong to this caller, or its beginning has changed: send it as the answer had it, \
                 or leave the item out"
            );
            refuse(Code::InvalidEncryptedContent, message)
        }
        Kept::Conversation
        | Kept::File
        | Kept::Upload
        | Kept::Part
        | Kept::VectorStore
        | Kept::Container => {
            let message = format!("{name} with id '{id}' not found. It stands in {place}.");
            refuse(Code::NotKept, message)
        }
    }
}

/// As much of a client's text as a message repeats.
fn shown(text: &str) -> &str {
    let end = text.char_indices().nth(SHOWN).map(|(at, _)| at);
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}
