//! Which objects a pass has to look at: those whose inputs have changed since their status was found to be as
//! wanted, and those that wait for proxies or for time. Pure.

use std::collections::BTreeSet;

use operator_compile::{Compiled, Kind, ObjectRef, Verdicts};
use operator_publish::{Fleet, Replica};
use proxy_core::table::{Contents, List, Named};

#[cfg(test)]
mod tests;

/// The objects that are not settled.
#[derive(Debug, Default)]
pub(crate) struct Open {
    objects: BTreeSet<ObjectRef>,
    /// The inputs of the last pass; `None` before the first.
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    verdicts: Verdicts,
    contents: Contents,
    fleet: Fleet,
}

// === impl Open ===

impl Open {
    /// Looks at every object again.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// What a pass has to look at. `touched` are the objects whose stored form has changed since the last one.
    pub(crate) fn review(
        &mut self,
        compiled: &Compiled,
        fleet: &Fleet,
        touched: BTreeSet<ObjectRef>,
    ) -> BTreeSet<ObjectRef> {
        let verdicts = &compiled.verdicts;
        match &self.seen {
            Some(seen) if is_progress(&seen.fleet, fleet) => {
                let (fresh, _) = verdicts.changes(&seen.verdicts);
                self.objects
                    .extend(fresh.into_iter().map(|one| one.object.clone()));
                let (now, before) = (&compiled.contents, &seen.contents);
                changed(
                    Kind::AiRoute,
                    &now.routes,
                    &before.routes,
                    &mut self.objects,
                );
                changed(
                    Kind::AiQuota,
                    &now.quotas,
                    &before.quotas,
                    &mut self.objects,
                );
                self.objects.extend(touched);
                self.objects.retain(|object| verdicts.contains_key(object));
            }
            Some(_) | None => self.objects = verdicts.keys().cloned().collect(),
        }
        self.seen = Some(Seen {
            verdicts: verdicts.clone(),
            contents: compiled.contents.clone(),
            fleet: fleet.clone(),
        });
        self.objects.clone()
    }

    /// The status is as wanted, and no proxy and no time will make it another one by itself.
    pub(crate) fn settle(&mut self, object: &ObjectRef) {
        self.objects.remove(object);
    }
}

/// Adds the objects whose entries in the table have come, gone or changed.
fn changed<T: Named + PartialEq>(
    kind: Kind,
    now: &List<T>,
    before: &List<T>,
    objects: &mut BTreeSet<ObjectRef>,
) {
    let changes = now.changes(before);
    let all = changes.fresh.iter().chain(&changes.gone);
    objects.extend(all.map(|one| ObjectRef::new(kind, one.name().clone())));
}

/// Whether the proxies have only got further: what was in force on all of them still is.
fn is_progress(before: &Fleet, now: &Fleet) -> bool {
    let (before, now) = (&before.replicas, &now.replicas);
    before.len() == now.len()
        && before
            .iter()
            .zip(now)
            .all(|(one, other)| is_further(one, other))
}

fn is_further(before: &Replica, now: &Replica) -> bool {
    let Replica {
        id,
        pod,
        // Of interest to objects that wait for it.
        silent_since_ms: _,
        acked,
        refused: _,
        unsupported,
        store_lost,
        tokenless,
        outages,
    } = before;
    *id == now.id
        && *pod == now.pod
        && *acked <= now.acked
        && *unsupported == now.unsupported
        && *store_lost == now.store_lost
        && *tokenless == now.tokenless
        && *outages == now.outages
}
