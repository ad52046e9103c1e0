//! Who and what a logged request is by another table: its caller, and the host and headers that the log
//! does not hold.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use proxy_core::auth::{Caller, KeyDigest, Standing};
use proxy_core::names::{Code, Moment, Operation};
use proxy_core::route::HostPattern;
use proxy_core::table::{Route, Table};

use super::log::Record;

/// For a consumer whom neither a Secret names nor a fingerprint.
pub(super) const NO_SUCH_CONSUMER: &str = "no_such_consumer";

/// Callers by consumer and by fingerprint: a stranger of the log may have a Secret now.
#[derive(Debug)]
pub(super) struct Callers {
    known: HashMap<Arc<str>, Vec<Known>>,
}

/// A caller whom a Secret names.
#[derive(Debug)]
struct Known {
    caller: Arc<Caller>,
    /// When its key ends.
    expires_ms: Option<i64>,
}

impl Callers {
    pub(super) fn new(table: &Table) -> Self {
        let mut known: HashMap<Arc<str>, Vec<Known>> = HashMap::new();
        for key in &table.contents().keys {
            let caller = Arc::new(Caller::of(key));
            for name in [Arc::clone(&key.consumer), key.digest.fingerprint().into()] {
                let of_name = known.entry(name).or_default();
                of_name.push(Known {
                    caller: Arc::clone(&caller),
                    expires_ms: key.expires_ms,
                });
            }
        }
        Self { known }
    }

    /// Who `consumer` of the log is now, or why nobody.
    pub(super) fn named(
        &self,
        consumer: &Arc<str>,
        now: Moment,
    ) -> Result<Vec<Arc<Caller>>, &'static str> {
        if let Some(known) = self.known.get(consumer) {
            let valid = |one: &Known| {
                let valid = one.expires_ms.is_none_or(|end| now.unix_ms < end);
                valid.then(|| Arc::clone(&one.caller))
            };
            let valid: Vec<_> = known.iter().filter_map(valid).collect();
            return if valid.is_empty() {
                Err(Code::ExpiredCredential.as_str())
            } else {
                Ok(valid)
            };
        }
        let stranger = if &**consumer == "anonymous" {
            Caller::anonymous()
        } else if KeyDigest::is_fingerprint(consumer) {
            Caller {
                name: Arc::clone(consumer),
                standing: Standing::Unknown,
                ..Caller::anonymous()
            }
        } else {
            return Err(NO_SUCH_CONSUMER);
        };
        Ok(vec![Arc::new(stranger)])
    }
}

/// A host and headers with which the logged rule is found, if the table still has it: the log
/// holds neither.
pub(super) fn clues(
    table: &Table,
    host: Option<&str>,
    record: &Record,
    operation: Operation,
) -> (String, HeaderMap) {
    let routes = &table.contents().routes;
    let name = record.route.as_ref();
    let route = name.and_then(|name| routes.iter().find(|route| route.name == *name));
    let host = match (host, route) {
        (Some(host), _) => host.to_owned(),
        (None, route) => route.map_or_else(|| "localhost".to_owned(), |route| served_host(route)),
    };
    let rule = route.and_then(|route| {
        let mut rules = route.rules.iter();
        rules.find(|rule| Some(&*rule.name) == record.rule.as_deref())
    });
    let alternative = rule.and_then(|rule| {
        rule.matches.iter().find(|one| {
            let of_model = |model: &Arc<str>| one.models.iter().any(|m| m.matches(model));
            (one.models.is_empty() || record.model.as_ref().is_some_and(of_model))
                && (one.operations.is_empty() || one.operations.contains(&operation))
        })
    });
    let mut headers = HeaderMap::new();
    for (name, value) in alternative.iter().flat_map(|one| &one.headers) {
        if let Ok(value) = http::HeaderValue::from_str(value) {
            headers.insert(name.clone(), value);
        }
    }
    (host, headers)
}

fn served_host(route: &Route) -> String {
    match route.hostnames.first() {
        Some(HostPattern::Exact(host)) => host.to_string(),
        Some(HostPattern::Wildcard(suffix)) => format!("any{suffix}"),
        None => "localhost".to_owned(),
    }
}
