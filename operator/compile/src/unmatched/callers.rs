//! Consumers that a quota names and that cannot call the routes which it covers.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use crds::AiQuotaSpec;
use proxy_core::auth::{Caller, Key, Mapping};
use proxy_core::names::{ConsumerMatch, ConsumerName, ObjectName};
use proxy_core::table::{Quota, Route, Scope};

use crate::covered::Routes;
use crate::diagnostic::Findings;
use crate::keys::{Keys, of_namespace};
use crate::near::did_you_mean;
use crate::route::consumer;

/// Who may call the routes of a quota.
struct Callers<'a> {
    quota: &'a Quota,
    routes: &'a [&'a Route],
    /// The keys that may be good there, sorted by Secret.
    keys: &'a [Arc<Key>],
    /// Namespaces with what makes consumers of tokens there.
    tokens: HashSet<(&'a str, &'a Mapping)>,
    /// Some route admits every caller.
    anonymous: bool,
    /// Some route admits credentials that are no key of the gateway.
    pass_through: bool,
    /// The quota is the platform's, which may know of every namespace.
    is_platform: bool,
}

/// What of a quota names consumers.
struct Place<'a> {
    field: String,
    /// Who can match at all.
    within: &'a ConsumerMatch,
    /// The same in words.
    who: &'static str,
    /// What has no effect if one of several conditions can never hold.
    whole: &'static str,
}

/// Warns of the consumers in `match` and `overrides` that can never match, by all `keys`, sorted by Secret.
pub(super) fn judge<'a>(
    (keys, all, own_namespace): (Keys<'a>, Routes<'a>, &str),
    quota: &'a Quota,
    spec: &AiQuotaSpec,
    routes: &'a [&'a Route],
    findings: &mut Findings,
) {
    let is_platform = quota.name.namespace() == own_namespace;
    let anonymous = routes.iter().any(|one| one.authentication.anonymous);
    let namespace = match &quota.scope {
        _ if is_platform && anonymous => None,
        Scope::Gateway | Scope::Namespaces(_) => None,
        Scope::Namespace(namespace) => Some(&**namespace),
        Scope::Targets(_) => Some(quota.name.namespace()),
    };
    let callers = Callers {
        quota,
        routes,
        keys: match namespace {
            Some(namespace) => keys.of_namespace(namespace),
            None => keys.all(),
        },
        tokens: tokens(routes, all),
        anonymous,
        pass_through: routes.iter().any(|one| one.authentication.pass_through),
        is_platform,
    };
    let everyone = ConsumerMatch::default();
    let place = Place {
        field: "spec.match.consumers".to_owned(),
        within: &everyone,
        who: "that can call the covered routes",
        whole: "the quota",
    };
    if !callers.judge(&spec.match_.consumers, &place, findings) {
        return;
    }
    for (i, one) in spec.overrides.iter().enumerate() {
        let place = Place {
            field: format!("spec.overrides[{i}].consumers"),
            within: &quota.consumers,
            who: "that the quota counts",
            whole: "the override",
        };
        callers.judge(&one.consumers, &place, findings);
    }
}

/// What makes consumers of the tokens that routes admit. One for everybody serves the callers of every issuer of
/// its namespace.
fn tokens<'a>(routes: &[&'a Route], all: Routes<'a>) -> HashSet<(&'a str, &'a Mapping)> {
    let mut found = HashSet::new();
    let mut open = BTreeSet::new();
    let mut add = |route: &'a Route| {
        if !route.authentication.pass_through {
            let issuers = route.authentication.issuers.iter();
            let namespace = route.name.namespace();
            found.extend(issuers.map(|issuer| (namespace, &issuer.trust.mapping)));
        }
    };
    for route in routes {
        add(route);
        if route.authentication.anonymous {
            open.insert(route.name.namespace());
        }
    }
    for namespace in open {
        let namespace = Scope::Namespace(namespace.into());
        all.of(&namespace).into_iter().for_each(&mut add);
    }
    found
}

impl Callers<'_> {
    /// Whether some caller may match, as far as that is known.
    fn judge(
        &self,
        declared: &crds::ConsumerMatch,
        place: &Place<'_>,
        findings: &mut Findings,
    ) -> bool {
        let namespace = self.quota.name.namespace();
        let mut matching = declared.names.is_empty();
        for (i, text) in declared.names.iter().enumerate() {
            let name = consumer(text, namespace);
            if self.may_call(&name, place.within) {
                matching = true;
            } else {
                let message = self.unknown_name(text, &name, place);
                findings.note(format!("{}.names[{i}]", place.field), message);
            }
        }
        // A label of another namespace's Secret is not for a tenant to know.
        if declared.attributes.is_empty() || (self.anonymous && !self.is_platform) {
            return matching;
        }
        let mut complete = true;
        for (name, value) in &declared.attributes {
            if let Some(message) = self.unknown_attribute((name, value), place) {
                complete = false;
                findings.note(format!("{}.attributes.{name}", place.field), message);
            }
        }
        if !matching || !complete {
            return false;
        }
        let all = crate::route::consumers(declared, namespace);
        let by_token = || {
            let mut tokens = self.tokens(place.within);
            tokens.any(|(namespace, mapping)| may_be(&all, namespace, mapping))
        };
        let has_all = self.reaching(place.within).any(|key| matches(&all, key)) || by_token();
        if !has_all {
            let Place { who, whole, .. } = place;
            let message = format!(
                "no consumer {who} has all of this, so {whole} has no effect; correct or remove a part"
            );
            findings.note(&place.field, message);
        }
        has_all
    }

    /// The keys that are good on one of the routes, of consumers `within` a match.
    fn reaching<'a>(&'a self, within: &'a ConsumerMatch) -> impl Iterator<Item = &'a Key> {
        let keys = self.keys.iter().map(|key| &**key);
        keys.filter(move |key| matches(within, key) && self.reaches(key))
    }

    /// What makes consumers `within` a match of tokens, as far as tokens are known before they come.
    fn tokens<'a>(
        &'a self,
        within: &'a ConsumerMatch,
    ) -> impl Iterator<Item = (&'a str, &'a Mapping)> {
        let all = self.tokens.iter().copied();
        all.filter(|(namespace, mapping)| may_be(within, namespace, mapping))
    }

    fn reaches(&self, key: &Key) -> bool {
        let namespace = key.secret.namespace();
        self.anonymous
            || match &self.quota.scope {
                // A key is in the table because a route of its namespace selects it.
                Scope::Gateway => true,
                Scope::Namespace(one) => **one == *namespace,
                Scope::Namespaces(all) => all.iter().any(|one| **one == *namespace),
                Scope::Targets(_) => self.routes.iter().any(|route| {
                    let accepted = &route.authentication;
                    !accepted.pass_through && accepted.keys.binary_search(&key.secret).is_ok()
                }),
            }
    }

    /// Whether the consumer may call; also if that is not for this quota to know.
    fn may_call(&self, name: &ConsumerName, within: &ConsumerMatch) -> bool {
        let namespace = name.namespace.as_deref().unwrap_or_default();
        if namespace.is_empty() {
            let is_open = if Caller::is_stranger(&name.name) {
                self.pass_through
            } else {
                self.anonymous
            };
            return is_open && within.matches("", &name.name, &Vec::new());
        }
        if self.is_foreign(namespace) && self.anonymous {
            return true;
        }
        let is_within = || {
            let mut names = within.names.iter();
            within.names.is_empty() || names.any(|one| one.matches(namespace, &name.name))
        };
        if self.tokens(within).any(|(of, _)| of == namespace) && is_within() {
            return true;
        }
        let is_meant = |key: &Key| {
            name.matches(key.secret.namespace(), &key.consumer)
                && matches(within, key)
                && self.reaches(key)
        };
        // Most consumers are called as their Secrets.
        let usual = ObjectName::new(namespace, &*name.name);
        let usual = self.keys.binary_search_by(|key| key.secret.cmp(&usual));
        let usual = usual.ok().and_then(|place| self.keys.get(place));
        let mut of_namespace = of_namespace(self.keys, namespace).iter();
        usual.is_some_and(|key| is_meant(key)) || of_namespace.any(|key| is_meant(key))
    }

    /// Whether a namespace is another one than the tenant's whose quota it is.
    fn is_foreign(&self, namespace: &str) -> bool {
        !self.is_platform && namespace != self.quota.name.namespace()
    }

    fn unknown_name(&self, text: &str, name: &ConsumerName, place: &Place<'_>) -> String {
        const SO: &str = "so the name has no effect";
        let namespace = name.namespace.as_deref().unwrap_or_default();
        if namespace.is_empty() && Caller::is_stranger(&name.name) {
            return format!("no covered route has passThrough, {SO}; remove it");
        }
        if namespace.is_empty() {
            return format!("no covered route has anonymous, {SO}; remove it");
        }
        if self.is_foreign(namespace) {
            return format!(
                "the covered routes admit no consumer of namespace {namespace}, {SO}; remove it"
            );
        }
        let own = self.quota.name.namespace();
        let shown = |key: &Key| {
            if key.secret.namespace() == own {
                key.consumer.to_string()
            } else {
                format!("{}/{}", key.secret.namespace(), key.consumer)
            }
        };
        let reaching = self.reaching(place.within);
        let same = |key: &&Key| *key.consumer == *name.name;
        let elsewhere = self.reaching(place.within).find(same).map(shown);
        let hint = match elsewhere {
            Some(elsewhere) => format!(" (did you mean {elsewhere}?)"),
            None => {
                let known: BTreeSet<String> = reaching.map(shown).collect();
                did_you_mean(text, known.iter().map(String::as_str))
            }
        };
        format!(
            "{text} is no consumer {}{hint}, {SO}; correct it, or give its Secret the labels that a \
             route selects",
            place.who
        )
    }

    /// Why no consumer has this attribute, if none has.
    fn unknown_attribute(&self, (name, value): (&str, &str), place: &Place<'_>) -> Option<String> {
        let mut values: BTreeSet<&str> = BTreeSet::new();
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for (other, has) in self.reaching(place.within).flat_map(|key| &key.attributes) {
            if **other == *name {
                if **has == *value {
                    return None;
                }
                values.insert(has);
            }
            names.insert(other);
        }
        let mut other_way = "";
        for (_, mapping) in self.tokens(place.within) {
            if mapping.attributes.iter().any(|(other, _)| **other == *name) {
                return None;
            }
            names.extend(mapping.attributes.iter().map(|(other, _)| &**other));
            other_way = ", or name its claim in attributeClaims of an issuer";
        }
        let Place { who, whole, .. } = place;
        let (what, hint): (&dyn fmt::Display, _) = if values.is_empty() {
            (&name, did_you_mean(name, names))
        } else {
            (&format!("{name}: {value}"), did_you_mean(value, values))
        };
        Some(format!(
            "no consumer {who} has the attribute {what}{hint}, so {whole} has no effect; correct it, or \
             label a Secret attributes.tundish.dev/{name}: {value}{other_way}"
        ))
    }
}

/// Whether a token may be that of a consumer `within` a match: it says its name and the values, not here.
fn may_be(within: &ConsumerMatch, namespace: &str, mapping: &Mapping) -> bool {
    let is_there =
        |name: &ConsumerName| name.namespace.as_deref().is_none_or(|one| one == namespace);
    let has = |wanted: &str| mapping.attributes.iter().any(|(name, _)| **name == *wanted);
    (within.names.is_empty() || within.names.iter().any(is_there))
        && within.attributes.iter().all(|(name, _)| has(name))
}

fn matches(within: &ConsumerMatch, key: &Key) -> bool {
    within.matches(key.secret.namespace(), &key.consumer, &key.attributes)
}
