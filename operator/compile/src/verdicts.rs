//! The verdicts on all objects, in lists that the next ones share as far as they do not change.

use std::ops::Index;

use proxy_core::names::ObjectName;
use proxy_core::table::{List, Named};

use crate::diagnostic::Verdict;
use crate::object::{Kind, ObjectRef};

/// One verdict for each AIBackend, AIRoute and AIQuota, including undecodable ones. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    pub(crate) backends: List<ObjectVerdict>,
    pub(crate) routes: List<ObjectVerdict>,
    pub(crate) quotas: List<ObjectVerdict>,
}

/// The verdict on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVerdict {
    /// The object.
    pub object: ObjectRef,
    /// The verdict on it.
    pub verdict: Verdict,
}

impl Named for ObjectVerdict {
    fn name(&self) -> &ObjectName {
        &self.object.name
    }
}

// === impl Verdicts ===

impl Verdicts {
    /// The lists, in the order of kinds.
    const fn lists(&self) -> [&List<ObjectVerdict>; 3] {
        [&self.backends, &self.routes, &self.quotas]
    }

    const fn of_kind(&self, kind: Kind) -> Option<&List<ObjectVerdict>> {
        match kind {
            Kind::AiBackend => Some(&self.backends),
            Kind::AiRoute => Some(&self.routes),
            Kind::AiQuota => Some(&self.quotas),
            Kind::Secret | Kind::ReferenceGrant => None,
        }
    }

    /// The verdict on an object.
    #[must_use]
    pub fn get(&self, object: &ObjectRef) -> Option<&Verdict> {
        let found = self.of_kind(object.kind)?.find(&object.name)?;
        Some(&found.verdict)
    }

    /// Whether there is a verdict on an object.
    #[must_use]
    pub fn contains_key(&self, object: &ObjectRef) -> bool {
        self.get(object).is_some()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lists().into_iter().map(|list| list.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every object with its verdict, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectRef, &Verdict)> {
        self.entries().map(|one| (&one.object, &one.verdict))
    }

    /// Every object with a verdict, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectRef> {
        self.entries().map(|one| &one.object)
    }

    /// Every verdict, sorted by object.
    pub fn values(&self) -> impl Iterator<Item = &Verdict> + Clone {
        self.entries().map(|one| &one.verdict)
    }

    fn entries(&self) -> impl Iterator<Item = &ObjectVerdict> + Clone {
        let all = self.lists().into_iter().flatten();
        all.map(|one| &**one)
    }

    /// The verdicts that are not shared with `before`: those that `before` does not have, and those of
    /// `before` that this does not have. A changed one is among both. Looks at addresses alone.
    #[must_use]
    pub fn changes<'a>(
        &'a self,
        before: &'a Self,
    ) -> (Vec<&'a ObjectVerdict>, Vec<&'a ObjectVerdict>) {
        let (mut fresh, mut gone) = (Vec::new(), Vec::new());
        for (now, then) in self.lists().into_iter().zip(before.lists()) {
            let changes = now.changes(then);
            fresh.extend(changes.fresh.into_iter().map(|one| &**one));
            gone.extend(changes.gone.into_iter().map(|one| &**one));
        }
        (fresh, gone)
    }
}

impl Index<&ObjectRef> for Verdicts {
    type Output = Verdict;

    /// # Panics
    /// There is no verdict on the object.
    fn index(&self, object: &ObjectRef) -> &Verdict {
        self.get(object).expect("the caller knows the object")
    }
}

impl FromIterator<(ObjectRef, Verdict)> for Verdicts {
    /// Verdicts on Secrets and grants are left out: there are none.
    fn from_iter<I: IntoIterator<Item = (ObjectRef, Verdict)>>(all: I) -> Self {
        let mut sorted: Vec<(ObjectRef, Verdict)> = all.into_iter().collect();
        sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut lists: [Vec<_>; 3] = Default::default();
        let [backends, routes, quotas] = &mut lists;
        for (object, verdict) in sorted {
            let list = match object.kind {
                Kind::AiBackend => &mut *backends,
                Kind::AiRoute => &mut *routes,
                Kind::AiQuota => &mut *quotas,
                Kind::Secret | Kind::ReferenceGrant => continue,
            };
            list.push(ObjectVerdict { object, verdict }.into());
        }
        let [backends, routes, quotas] = lists.map(List::from);
        Self {
            backends,
            routes,
            quotas,
        }
    }
}
