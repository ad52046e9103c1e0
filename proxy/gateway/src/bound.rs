//! What a request asks of what backends keep: the ids, the resource that keeps it, and the owner.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use proxy_api::ids::Tag;
use proxy_api::{Answers, Kept, Named, Reference, State, encode, parameter};
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
const PARAMETERS: [&str; 10] = [
    "include",
    "limit",
    "after",
    "before",
    "order",
    "stream",
    "starting_after",
    "include_obfuscation",
    "purpose",
    "filter",
];
/// Those that name an element of a list.
const CURSORS: [&str; 2] = ["after", "before"];

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
    /// Ids as the backend knows them whose tags are of an older key: the answer has them again.
    pub(crate) asked: Vec<(Box<str>, Tag)>,
}

/// By what an id is judged.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) keys: &'a StateKeys,
    pub(crate) live: &'a Live,
    pub(crate) rule: &'a LiveRule,
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
    let is_shared = || sought.place.is_some() && is_shared(live, rule, sought.kept);
    resource.map_or_else(is_shared, |resource| rule.reaches(resource))
}

/// Whether what has no tag belongs to all callers: vector stores where no consumer can make one, so that all are
/// made at the resource itself.
fn is_shared(live: &Live, rule: &LiveRule, kept: Kept) -> bool {
    kept == Kept::VectorStore && live.shares_stores(rule)
}

/// What a caller shows of what backends keep: all of it must be its own, and of one resource.
struct Proof<'a> {
    around: Around<'a>,
    owner: &'a str,
    /// The resource, and the place that named it first.
    resource: Option<(ResourceId, &'a str)>,
    /// The last tag of something sealed: in a long session all are the same.
    seal: Option<(&'a str, ResourceId)>,
    asked: Vec<(Box<str>, Tag)>,
}

impl<'a> Proof<'a> {
    /// The id at a place of the path, as the backend knows it.
    fn named(
        &mut self,
        id: &str,
        kept: Kept,
        place: &'static str,
    ) -> Result<Box<str>, Box<Refusal>> {
        let sought = Sought {
            id,
            kept,
            place: None,
        };
        let opened = self.open(id).ok_or_else(|| unknown(sought));
        let (id, resource) = opened?;
        self.bind(resource, place)?;
        Ok(id.into())
    }

    /// The id as the backend knows it, and where; `None` if it is not the caller's.
    fn open<'i>(&mut self, given: &'i str) -> Option<(&'i str, ResourceId)> {
        let keys = self.around.keys;
        let (id, resource) = keys.open(given, self.owner)?;
        let tag = given.as_bytes().last_chunk::<{ size_of::<Tag>() }>();
        if !keys.is_one()
            && let Some(tag) = tag
            && *tag != keys.tag(id, resource, self.owner)
        {
            self.asked.push((id.into(), *tag));
        }
        Some((id, resource))
    }

    /// What goes to the backend in place of a reference; `None` for nothing.
    fn reference(&mut self, one: &'a Reference) -> Result<Option<Box<str>>, Box<Refusal>> {
        let refusal = || unknown(one.into());
        if one.kept == Kept::Item {
            let known = self.seal.filter(|(tag, _)| **tag == *one.id);
            let known = known.map(|(_, resource)| resource);
            let resource = known.or_else(|| self.around.keys.unseal(&one.id, self.owner));
            let resource = resource.ok_or_else(refusal)?;
            self.seal = Some((&one.id, resource));
            self.bind(resource, &one.place)?;
            return Ok(None);
        }
        let opened = self.open(&one.id);
        let Around { live, rule, .. } = self.around;
        if opened.is_none() && is_shared(live, rule, one.kept) {
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
        around: Around<'_>,
        owner: Option<Arc<str>>,
        state: Option<&State>,
        named: Option<Box<Named>>,
        references: &[Reference],
    ) -> Result<Self, Box<Refusal>> {
        let mut bound = Self {
            named: named.map_or_else(Named::default, |named| *named),
            query: String::new(),
            ids: Vec::new(),
            resource: None,
            owner,
            asked: Vec::new(),
        };
        let Some(owner) = bound.owner.as_deref() else {
            return Ok(bound);
        };
        let mut proof = Proof {
            around,
            owner,
            resource: None,
            seal: None,
            asked: Vec::new(),
        };
        // A path that names something is of a row that says what.
        if let Some(id) = &mut bound.named.id {
            let kept = state.map_or(Kept::Response, |state| state.kept);
            *id = proof.named(id, kept, "the path")?;
        }
        if let Some(item) = &mut bound.named.item
            && let Some(kept) = state.and_then(|state| state.item)
        {
            *item = proof.named(item, kept, "the end of the path")?;
        }
        let ids = references
            .iter()
            .map(|one| Ok((one.at.clone(), proof.reference(one)?)));
        bound.ids = ids.collect::<Result<_, Box<Refusal>>>()?;
        bound.resource = proof.resource.map(|(resource, _)| resource);
        bound.asked = proof.asked;
        Ok(bound)
    }

    /// Takes the parameters that go on: where elements of a list have tags, a place in it without its tag. Returns
    /// whether they ask for a stream.
    pub(crate) fn take_query(
        &mut self,
        keys: &StateKeys,
        state: &State,
        query: &str,
    ) -> Result<bool, Box<Refusal>> {
        let name = |pair: &str| {
            let name = pair.split('=').next().unwrap_or_default();
            let end = name.find(['[', '%']).unwrap_or(name.len());
            PARAMETERS
                .iter()
                .find(|one| Some(**one) == name.get(..end))
                .copied()
        };
        let owner = self.owner.as_deref();
        let owner = owner.filter(|_| state.answers == Answers::List);
        let mut streams = false;
        for pair in query.split('&') {
            let Some(name) = name(pair) else {
                continue;
            };
            streams |= pair == "stream=true";
            let cursor = owner.filter(|_| CURSORS.contains(&name));
            let pair = match cursor {
                Some(owner) => Cow::Owned(cursor_of(keys, owner, name, pair)?),
                None => Cow::Borrowed(pair),
            };
            if !self.query.is_empty() {
                self.query.push('&');
            }
            self.query.push_str(&pair);
        }
        Ok(streams)
    }
}

/// A place in a list, as the backend knows it.
fn cursor_of(
    keys: &StateKeys,
    owner: &str,
    name: &'static str,
    pair: &str,
) -> Result<String, Box<Refusal>> {
    let given = parameter(pair, name).ok().flatten().unwrap_or_default();
    let opened = keys.open(&given, owner);
    let (id, _) = opened.ok_or_else(|| {
        let id = shown(&given);
        refuse(
            Code::NotKept,
            format!("Nothing with id '{id}' found. It stands in {name} of the query."),
        )
    })?;
    Ok(format!("{name}={}", encode(id)))
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
        | Kept::Batch
        | Kept::VectorStore
        | Kept::FileBatch
        | Kept::Container
        | Kept::ContainerFile
        | Kept::Audio => {
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
