//! Compiles an index into a table and verdicts: all of it, or again what a change can have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proxy_core::names::ObjectName;
use proxy_core::table::{Contents, List, Named, Route};

use crate::backend::{self, Backends};
use crate::consumer::{Keyring, UnusableKey};
use crate::covered::Routes;
use crate::diagnostic::Verdict;
use crate::grant::Permissions;
use crate::host_claim::{HostClaims, is_needed};
use crate::index::{Index, Stored};
use crate::keys::Keys;
use crate::listener::{GatewayVerdicts, Listeners};
use crate::mixed::MixedRules;
use crate::object::{Kind, ObjectRef};
use crate::reads::{Changes, Readers, Reads, Subject};
use crate::reference::References;
use crate::route::{Drafts, Sources};
use crate::settings::Settings;
use crate::unmatched::Unmatched;
use crate::unpriced::{Prices, any_missing};
use crate::verdicts::{ObjectVerdict, Verdicts};
use crate::{attachment, quota, retirement};

/// A table, and the verdicts on its objects. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The table.
    pub contents: Contents,
    /// One for each AIBackend, AIRoute and AIQuota, including undecodable ones.
    pub verdicts: Verdicts,
    /// Secrets that routes select, and whose keys admit no caller.
    pub unusable_keys: Arc<BTreeSet<UnusableKey>>,
    /// Of the class and the Gateways of the installation.
    pub gateways: Arc<GatewayVerdicts>,
}

/// Compiles `index`. Cost: linear in the objects and in the keys that routes select.
#[must_use]
pub fn compile(index: &Index, settings: &Settings) -> Compiled {
    let facts = Facts::new(index, settings);
    Made::default().update(&facts, &index.objects().collect())
}

/// What a compile has to go by.
pub(crate) struct Facts<'a> {
    index: &'a Index,
    settings: &'a Settings,
    /// Whether some namespace could take the callers of another.
    pub(crate) is_shared: bool,
}

/// What was made of an index, and of what it was made.
#[derive(Default)]
pub(crate) struct Made {
    compiled: Compiled,
    backends: Readers,
    /// Verdicts on backends with deployments that retire soon, as they are without that.
    retiring: BTreeMap<ObjectName, Verdict>,
    drafts: Drafts,
    keyring: Keyring,
    mixed: MixedRules,
    /// Whether some deployment has no price.
    is_unpriced: bool,
    quotas: Readers,
}

/// One compile: what it has found to have changed.
#[derive(Default)]
struct Pass {
    changes: Changes,
    reads: Reads,
    /// Verdicts on backends, but for their retirement.
    judged: BTreeMap<ObjectName, Option<Verdict>>,
    /// Some route is attached to other listeners, or no more.
    attachments_differ: bool,
}

// === impl Facts ===

impl<'a> Facts<'a> {
    pub(crate) fn new(index: &'a Index, settings: &'a Settings) -> Self {
        Self {
            index,
            settings,
            is_shared: is_needed(index, settings),
        }
    }
}

// === impl Made ===

impl Made {
    /// Makes again what the `changed` objects can change. All objects must be among them the first time; then
    /// the settings must stay the same, what the facts say besides the objects, and the grants where Gateways
    /// are followed.
    pub(crate) fn update(&mut self, facts: &Facts<'_>, changed: &BTreeSet<ObjectRef>) -> Compiled {
        let of_kind = |kind: Kind| -> BTreeSet<ObjectName> {
            let all = changed.iter().filter(|object| object.kind == kind);
            all.map(|object| object.name.clone()).collect()
        };
        let index = facts.index;
        let mut pass = Pass::default();
        for name in of_kind(Kind::Secret) {
            self.keyring.put(&name, index.secrets.get(&name));
            pass.changes.add(Subject::Secret, &name);
        }
        for name in of_kind(Kind::ReferenceGrant) {
            pass.changes.add(Subject::Grant, &name);
        }
        self.compile_backends(facts, &of_kind(Kind::AiBackend), &mut pass);
        let settings = facts.settings;
        let gateways = settings.gateways.as_ref();
        let listeners =
            gateways.map(|all| Listeners::new(all, &settings.own_namespace, &index.grants));
        let routes = of_kind(Kind::AiRoute);
        self.draft_routes(facts, listeners.as_ref(), &routes, &mut pass);
        self.finish_routes(facts, &mut pass);
        self.judge_retirements(facts, &mut pass);
        self.compile_quotas(facts, &of_kind(Kind::AiQuota), &mut pass);
        if let Some(listeners) = listeners
            && (pass.attachments_differ || self.compiled.gateways.class.is_none())
        {
            let attached = attachment::attached(&self.compiled.verdicts.routes);
            self.compiled.gateways = Arc::new(listeners.verdicts(attached));
        }
        self.compiled.clone()
    }

    fn compile_backends(
        &mut self,
        facts: &Facts<'_>,
        changed: &BTreeSet<ObjectName>,
        pass: &mut Pass,
    ) {
        let mut due = self.backends.of(&pass.changes);
        due.extend(changed.iter().cloned());
        let mut edits = BTreeMap::new();
        for name in due {
            let stored = facts.index.backends.get(&name);
            let made = stored.map(|stored| {
                backend::compile(&name, stored, (facts.index, facts.settings), &pass.reads)
            });
            self.backends.record(&name, &pass.reads);
            let (compiled, verdict) = made.unzip();
            edits.insert(name.clone(), compiled.flatten());
            pass.judged.insert(name, verdict);
        }
        let recompiled = edit(&mut self.compiled.contents.backends, edits);
        // The rules of routes look at what is declared, too.
        for name in recompiled.iter().chain(changed) {
            pass.changes.add(Subject::Backend, name);
        }
    }

    fn draft_routes(
        &mut self,
        facts: &Facts<'_>,
        listeners: Option<&Listeners<'_>>,
        changed: &BTreeSet<ObjectName>,
        pass: &mut Pass,
    ) {
        let mut due = self.drafts.readers_of(&pass.changes);
        due.extend(changed.iter().cloned());
        let (index, settings) = (facts.index, facts.settings);
        let usable = &self.compiled.contents.backends;
        let backends = Backends::new(index, usable, &pass.reads);
        let permissions = Permissions::new(index.grants.values(), &pass.reads);
        let sources = Sources {
            references: References {
                backends: &backends,
                permissions: &permissions,
                grants_served: settings.grants_served,
            },
            hosts: HostClaims::new(settings, listeners, facts.is_shared),
            reads: &pass.reads,
        };
        for name in due {
            let stored = index.routes.get(&name);
            if stored.is_some() != self.drafts.contains(&name) {
                pass.changes.add(Subject::RouteName, &name);
            }
            let keyring = &mut self.keyring;
            self.drafts.put(&name, stored, &sources, keyring);
        }
        for name in changed {
            pass.changes.add(Subject::Route, name);
        }
    }

    fn finish_routes(&mut self, facts: &Facts<'_>, pass: &mut Pass) {
        let reselected = self.keyring.judge(&mut pass.changes);
        let own_namespace = &facts.settings.own_namespace;
        if let Some(unusable) = self.keyring.unusable() {
            self.compiled.unusable_keys = Arc::new(unusable);
        }
        let due = self.drafts.settle(own_namespace, reselected);
        // The drafts have read the same.
        let reads = Reads::default();
        let contents = &self.compiled.contents;
        let backends = Backends::new(facts.index, &contents.backends, &reads);
        let (mut edits, mut verdicts) = (BTreeMap::new(), BTreeMap::new());
        for name in due {
            let (route, verdict) = self.drafts.finish(&name, &self.keyring).unzip();
            let route = route.flatten();
            if self.mixed.set(&name, route.as_ref(), &backends) {
                pass.changes.add(Subject::Mixed, &name);
            }
            if !self.retiring.is_empty() {
                let before = contents.routes.find(&name).map(|route| &**route);
                self.touch_retiring(before, route.as_ref(), pass);
            }
            edits.insert(name.clone(), route);
            verdicts.insert(name, verdict);
        }
        for name in edit(&mut self.compiled.contents.routes, edits) {
            pass.changes.add(Subject::Route, &name);
        }
        let before = self.compiled.verdicts.routes.clone();
        judge(&mut self.compiled.verdicts.routes, Kind::AiRoute, verdicts);
        let changes = self.compiled.verdicts.routes.changes(&before);
        let mut changed = changes.fresh.iter().chain(&changes.gone);
        pass.attachments_differ = changed.any(|one| !one.verdict.parents.is_empty());
    }

    /// Backends that name a route among those that use what retires.
    fn touch_retiring(&self, before: Option<&Route>, now: Option<&Route>, pass: &mut Pass) {
        let routes = before.into_iter().chain(now);
        let targets = routes.flat_map(|route| &route.rules);
        for target in targets.flat_map(|rule| &rule.targets) {
            if let Some(verdict) = self.retiring.get(&target.backend) {
                let judged = pass.judged.entry(target.backend.clone());
                judged.or_insert_with(|| Some(verdict.clone()));
            }
        }
    }

    fn judge_retirements(&mut self, facts: &Facts<'_>, pass: &mut Pass) {
        let today = facts.settings.today;
        let mut judged = std::mem::take(&mut pass.judged);
        for (name, verdict) in &mut judged {
            let stored = facts.index.backends.get(name).and_then(Stored::decoded);
            let retiring = stored.filter(|backend| retirement::is_soon(&backend.spec, today));
            let Some((backend, verdict)) = retiring.zip(verdict.as_mut()) else {
                self.retiring.remove(name);
                continue;
            };
            self.retiring.insert(name.clone(), verdict.clone());
            let routes = &self.compiled.contents.routes;
            retirement::judge(name, &backend.spec, routes, today, verdict);
        }
        judge(
            &mut self.compiled.verdicts.backends,
            Kind::AiBackend,
            judged,
        );
    }

    fn compile_quotas(
        &mut self,
        facts: &Facts<'_>,
        changed: &BTreeSet<ObjectName>,
        pass: &mut Pass,
    ) {
        let contents = &self.compiled.contents;
        let is_unpriced = any_missing(&contents.backends);
        if self.is_unpriced != is_unpriced {
            self.is_unpriced = is_unpriced;
            pass.changes.add_all(Subject::Unpriced);
        }
        let mut due = self.quotas.of(&pass.changes);
        due.extend(changed.iter().cloned());
        let (index, settings, reads) = (facts.index, facts.settings, &pass.reads);
        let backends = Backends::new(index, &contents.backends, reads);
        let routes = Routes::new(&contents.routes, reads);
        let priced = (&backends, is_unpriced);
        let keys = Keys::new(self.keyring.list(), reads);
        let reach = quota::Reach {
            index,
            own_namespace: &settings.own_namespace,
            prices: Prices::new(routes, priced, &settings.own_namespace, reads),
            mixed: &self.mixed,
            unmatched: Unmatched::new((index, settings), routes, &backends, keys),
            reads,
        };
        let (mut edits, mut verdicts) = (BTreeMap::new(), BTreeMap::new());
        for name in due {
            let stored = index.quotas.get(&name);
            let made = stored.map(|stored| quota::compile(&name, stored, &reach));
            self.quotas.record(&name, reads);
            let (quota, verdict) = made.unzip();
            edits.insert(name.clone(), quota);
            verdicts.insert(name, verdict);
        }
        edit(&mut self.compiled.contents.quotas, edits);
        judge(&mut self.compiled.verdicts.quotas, Kind::AiQuota, verdicts);
        self.compiled.contents.keys = self.keyring.list().clone();
    }
}

/// Puts other entries of these names into a list, or none. Returns the names of those that differ.
fn edit<T: Named + PartialEq>(
    list: &mut List<T>,
    mut edits: BTreeMap<ObjectName, Option<T>>,
) -> BTreeSet<ObjectName> {
    edits.retain(|name, now| list.find(name).map(|before| &**before) != now.as_ref());
    let changed = edits.keys().cloned().collect();
    let edits = edits.into_iter();
    *list = list.edited(edits.map(|(name, now)| (name, now.map(Arc::new))).collect());
    changed
}

fn judge(
    list: &mut List<ObjectVerdict>,
    kind: Kind,
    verdicts: BTreeMap<ObjectName, Option<Verdict>>,
) {
    let edits = verdicts.into_iter().map(|(name, verdict)| {
        let judged = verdict.map(|verdict| ObjectVerdict {
            object: ObjectRef::new(kind, name.clone()),
            verdict,
        });
        (name, judged)
    });
    edit(list, edits.collect());
}

#[cfg(test)]
mod tests;
