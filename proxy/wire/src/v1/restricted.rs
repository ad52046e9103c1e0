//! What is kept of an entry that needs an unknown feature: a route keeps its hosts and matches and
//! serves nothing, a quota keeps its scope and admits nothing.
//!
//! A part that cannot be read widens to "any": the entry then refuses more than was declared, and
//! never less. Parts that can be read stay as specific as they were, or a broader route would win
//! against them.

use std::sync::Arc;

use http::HeaderName;
use proxy_core::names::{Class, ConsumerMatch, ModelPattern, ObjectName};
use proxy_core::quota::{Mode, OnStoreLoss, WarnAt};
use proxy_core::route::{HostPattern, Match};
use proxy_core::table::{Affinity, Authentication, OutputTokens, Quota, Retry, Route, Rule, Scope};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fields::{Text, Word, values};
use super::issuer::Issuer;
use super::{object, quota};

/// The elements of a list that could be read, and whether others could not.
struct Elements<T> {
    read: Vec<T>,
    lossy: bool,
}

/// The route `name` of `entry`, refusing every request for `reason`.
pub(super) fn route(name: ObjectName, entry: &Value, reason: &str) -> Route {
    let rules = entry.get("rules").and_then(Value::as_array);
    let mut rules: Vec<Arc<Rule>> = rules
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, found)| Arc::new(rule(index, found)))
        .collect();
    if rules.is_empty() {
        rules.push(Arc::new(rule(0, &Value::Null)));
    }
    Route {
        name,
        // The oldest route wins a tie, and this one must not lose its traffic to another.
        created_s: read(entry, "createdS").unwrap_or(i64::MIN),
        hostnames: hostnames(entry),
        authentication: authentication(entry),
        cors: None,
        rejected: Some(reason.into()),
        rules,
    }
}

/// The quota `name` of `entry`, refusing every request of its scope for `reason`.
pub(super) fn quota(name: ObjectName, entry: &Value, reason: &str) -> Quota {
    let scope: Option<quota::Scope> = read(entry, "scope");
    let namespaces = elements::<Arc<str>>(entry, "namespaces");
    let namespaces = if namespaces.lossy {
        Vec::new()
    } else {
        namespaces.read
    };
    let models = words(entry, "models");
    Quota {
        name,
        scope: scope.map_or(Scope::Gateway, |scope| scope.into_core(namespaces)),
        models: if models.lossy {
            Vec::new()
        } else {
            models.read
        },
        consumers: consumers(entry).unwrap_or_default(),
        per: words(entry, "per").read,
        attribute: read(entry, "attribute").unwrap_or_else(|| "".into()),
        mode: read(entry, "mode").map_or(Mode::Enforce, |Text(mode)| mode),
        on_store_loss: read(entry, "onStoreLoss").map_or(OnStoreLoss::Deny, |Text(loss)| loss),
        limits: elements::<quota::Limit>(entry, "limits")
            .read
            .into_iter()
            .map(quota::Limit::into_core)
            .collect(),
        warn_at: WarnAt::default(),
        overrides: Vec::new(),
        unsupported: Some(reason.into()),
    }
}

fn hostnames(entry: &Value) -> Vec<HostPattern> {
    let Elements { mut read, lossy } = words(entry, "hostnames");
    if lossy {
        // Every host, after the more specific ones. An empty list means the same, but a route with
        // any wildcard would win against it.
        read.push(HostPattern::Wildcard("".into()));
    }
    read
}

/// Only what can be read; the rest may admit any consumer of the namespace.
fn authentication(entry: &Value) -> Authentication {
    let known = entry.get("authentication").unwrap_or(&Value::Null);
    Authentication {
        keys: words(known, "keys").read.into(),
        issuers: elements::<Issuer>(known, "issuers")
            .read
            .into_iter()
            .map(Issuer::into_core)
            .collect(),
        anonymous: read(known, "anonymous").unwrap_or_default(),
        pass_through: read(known, "passThrough").unwrap_or_default(),
        unreadable: true,
    }
}

fn rule(index: usize, entry: &Value) -> Rule {
    let matches = entry.get("matches").and_then(Value::as_array);
    Rule {
        name: read(entry, "name").unwrap_or_else(|| index.to_string().into()),
        matches: matches
            .into_iter()
            .flatten()
            .flat_map(alternatives)
            .collect(),
        targets: Vec::new(),
        output_tokens: OutputTokens::default(),
        retry: Retry::default(),
        request_timeout: None,
        first_token_timeout: None,
        allows_unmetered: false,
        shows_backend: false,
        names_end_user: false,
        mcp_servers: None,
        affinity: Affinity::default(),
        // What cannot be read yields to no one.
        class: Class::default(),
    }
}

/// The match as far as it can be read, and the same with any value for what cannot.
fn alternatives(entry: &Value) -> Vec<Match> {
    let models = words::<ModelPattern>(entry, "models");
    let operations = words(entry, "operations");
    let headers = elements::<(Text<HeaderName>, Arc<str>)>(entry, "headers").read;
    let narrow = Match {
        models: models.read,
        operations: operations.read,
        // All of them must hold: without one, more requests match.
        headers: headers
            .into_iter()
            .map(|(Text(name), value)| (name, value))
            .collect(),
        consumers: consumers(entry).unwrap_or_default(),
    };
    let mut wide = narrow.clone();
    if models.lossy {
        wide.models.clear();
    }
    if operations.lossy {
        wide.operations.clear();
    }
    if wide == narrow {
        return vec![narrow];
    }
    vec![narrow, wide]
}

fn consumers(entry: &Value) -> Option<ConsumerMatch> {
    read(entry, "consumers").map(object::ConsumerMatch::into_core)
}

/// A member, if it is there and can be read.
fn read<T: DeserializeOwned>(entry: &Value, member: &str) -> Option<T> {
    T::deserialize(entry.get(member)?).ok()
}

fn words<T: Word>(entry: &Value, member: &str) -> Elements<T> {
    let Elements { read, lossy } = elements::<Text<T>>(entry, member);
    Elements {
        read: values(read),
        lossy,
    }
}

fn elements<T: DeserializeOwned>(entry: &Value, member: &str) -> Elements<T> {
    let none = Elements {
        read: Vec::new(),
        lossy: false,
    };
    match entry.get(member) {
        None => none,
        Some(Value::Array(list)) => {
            let read: Vec<T> = list
                .iter()
                .filter_map(|one| T::deserialize(one).ok())
                .collect();
            let lossy = read.len() < list.len();
            Elements { read, lossy }
        }
        Some(_) => Elements {
            lossy: true,
            ..none
        },
    }
}
