//! Routes and keys as they travel: mirrors of the domain's types, which have no serde. An
//! object's name is in its key, not in its entry.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use proxy_core::auth::{self, KeyDigest};
use proxy_core::names::{self, Class, ConsumerName, ModelPattern, ObjectName, Operation};
use proxy_core::route::{self, HostPattern};
use proxy_core::table;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fields::{Millis, Text, is_false, texts, values};
use super::issuer::Issuer;

type Pairs = Vec<(Arc<str>, Arc<str>)>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Route {
    created_s: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hostnames: Vec<Text<HostPattern>>,
    authentication: Authentication,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cors: Option<Cors>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rejected: Option<Arc<str>>,
    rules: Vec<Rule>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cors {
    allow_origins: Vec<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authentication {
    /// A list of names, as text: see [`SecretLists`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    issuers: Vec<Issuer>,
    #[serde(default)]
    anonymous: bool,
    #[serde(default)]
    pass_through: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    unreadable: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: Arc<str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    matches: Vec<Match>,
    targets: Vec<Target>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_output_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    retry: Retry,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_timeout_ms: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_token_timeout_ms: Option<Millis>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unmetered: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shows_backend: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    names_end_user: bool,
    /// `None` = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mcp_servers: Option<Vec<Text<HostPattern>>>,
    /// `None` = by the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    affinity: Option<Affinity>,
    /// A class that is unknown here is Standard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Affinity {
    /// `None` = no affinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<Text<HeaderName>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Match {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    models: Vec<Text<ModelPattern>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    operations: Vec<Text<Operation>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(Text<HeaderName>, Arc<str>)>,
    #[serde(default, skip_serializing_if = "ConsumerMatch::is_empty")]
    consumers: ConsumerMatch,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConsumerMatch {
    /// Without their namespaces: all that the first release compares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<Arc<str>>,
    /// The same as `namespace/name`, if one of them has a namespace. These count, then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    full_names: Vec<Text<ConsumerName>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attributes: Pairs,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    backend: Text<ObjectName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deployment: Option<Arc<str>>,
    weight: u32,
    priority: u8,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Retry {
    attempts: u8,
    on_too_many_requests: bool,
    on_server_error: bool,
    on_connect_failure: bool,
    on_timeout: bool,
    /// The first release always tried another backend then.
    #[serde(skip_serializing_if = "is_false")]
    credential_refused_ends: bool,
    #[serde(skip_serializing_if = "is_false")]
    on_not_there: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Key {
    consumer: Arc<str>,
    digest: Text<KeyDigest>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attributes: Pairs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_ms: Option<i64>,
}

/// Lists of Secrets that were read, by their text. Most routes of a namespace have one list, which may be long,
/// so it is read once.
#[derive(Default)]
pub(super) struct SecretLists(BTreeMap<Box<str>, table::Secrets>);

// === impl SecretLists ===

impl SecretLists {
    fn read(&mut self, list: Box<RawValue>) -> Result<table::Secrets, serde_json::Error> {
        if let Some(known) = self.0.get(list.get()) {
            return Ok(known.clone());
        }
        let names: Vec<Text<ObjectName>> = serde_json::from_str(list.get())?;
        let secrets: table::Secrets = values(names).into();
        self.0.insert(list.into(), secrets.clone());
        Ok(secrets)
    }
}

// === impl Route ===

impl From<&table::Route> for Route {
    fn from(route: &table::Route) -> Self {
        Self {
            created_s: route.created_s,
            hostnames: texts(&route.hostnames),
            authentication: Authentication {
                keys: list_of(&route.authentication.keys),
                issuers: route
                    .authentication
                    .issuers
                    .iter()
                    .map(Issuer::from)
                    .collect(),
                anonymous: route.authentication.anonymous,
                pass_through: route.authentication.pass_through,
                unreadable: route.authentication.unreadable,
            },
            cors: route.cors.as_ref().map(|cors| Cors {
                allow_origins: cors.allow_origins.clone(),
            }),
            rejected: route.rejected.clone(),
            rules: route.rules.iter().map(|rule| Rule::from(&**rule)).collect(),
        }
    }
}

impl Route {
    /// # Errors
    /// A Secret has no name.
    pub(super) fn into_core(
        self,
        name: ObjectName,
        lists: &mut SecretLists,
    ) -> Result<table::Route, serde_json::Error> {
        let keys = self.authentication.keys.map(|list| lists.read(list));
        let issuers = self.authentication.issuers.into_iter();
        Ok(table::Route {
            name,
            created_s: self.created_s,
            hostnames: values(self.hostnames),
            authentication: table::Authentication {
                keys: keys.transpose()?.unwrap_or_default(),
                issuers: issuers.map(Issuer::into_core).collect(),
                anonymous: self.authentication.anonymous,
                pass_through: self.authentication.pass_through,
                unreadable: self.authentication.unreadable,
            },
            cors: self.cors.map(|cors| table::Cors {
                allow_origins: cors.allow_origins,
            }),
            rejected: self.rejected,
            rules: self
                .rules
                .into_iter()
                .map(|rule| Arc::new(rule.into_core()))
                .collect(),
        })
    }
}

/// `None` for no Secret; no list of names fails to be written.
fn list_of(secrets: &table::Secrets) -> Option<Box<RawValue>> {
    let list = (!secrets.is_empty()).then(|| texts(secrets))?;
    serde_json::value::to_raw_value(&list).ok()
}

impl From<&table::Rule> for Rule {
    fn from(rule: &table::Rule) -> Self {
        let target = |target: &table::Target| Target {
            backend: Text(target.backend.clone()),
            deployment: target.deployment.clone(),
            weight: target.weight,
            priority: target.priority,
        };
        Self {
            name: Arc::clone(&rule.name),
            matches: rule.matches.iter().map(Match::from).collect(),
            targets: rule.targets.iter().map(target).collect(),
            default_output_tokens: rule.output_tokens.default,
            max_output_tokens: rule.output_tokens.max,
            retry: Retry {
                attempts: rule.retry.attempts,
                on_too_many_requests: rule.retry.on_too_many_requests,
                on_server_error: rule.retry.on_server_error,
                on_connect_failure: rule.retry.on_connect_failure,
                on_timeout: rule.retry.on_timeout,
                credential_refused_ends: !rule.retry.on_credential_refused,
                on_not_there: rule.retry.on_not_there,
            },
            request_timeout_ms: rule.request_timeout.map(Millis),
            first_token_timeout_ms: rule.first_token_timeout.map(Millis),
            unmetered: rule.allows_unmetered,
            shows_backend: rule.shows_backend,
            names_end_user: rule.names_end_user,
            mcp_servers: rule.mcp_servers.as_deref().map(texts),
            affinity: Affinity::of(&rule.affinity),
            class: (rule.class != Class::Standard).then(|| rule.class.as_str().into()),
        }
    }
}

impl Affinity {
    fn of(affinity: &table::Affinity) -> Option<Self> {
        match affinity {
            table::Affinity::Conversation => None,
            table::Affinity::None => Some(Self { header: None }),
            table::Affinity::Header(name) => Some(Self {
                header: Some(Text(name.clone())),
            }),
        }
    }

    fn into_core(self) -> table::Affinity {
        let header = self.header.map(|name| table::Affinity::Header(name.0));
        header.unwrap_or(table::Affinity::None)
    }
}

impl Rule {
    fn into_core(self) -> table::Rule {
        let target = |target: Target| table::Target {
            backend: target.backend.0,
            deployment: target.deployment,
            weight: target.weight,
            priority: target.priority,
        };
        table::Rule {
            name: self.name,
            matches: self.matches.into_iter().map(Match::into_core).collect(),
            targets: self.targets.into_iter().map(target).collect(),
            output_tokens: table::OutputTokens {
                default: self.default_output_tokens,
                max: self.max_output_tokens,
            },
            retry: table::Retry {
                attempts: self.retry.attempts,
                on_too_many_requests: self.retry.on_too_many_requests,
                on_server_error: self.retry.on_server_error,
                on_connect_failure: self.retry.on_connect_failure,
                on_timeout: self.retry.on_timeout,
                on_credential_refused: !self.retry.credential_refused_ends,
                on_not_there: self.retry.on_not_there,
            },
            request_timeout: self.request_timeout_ms.map(|millis| millis.0),
            first_token_timeout: self.first_token_timeout_ms.map(|millis| millis.0),
            allows_unmetered: self.unmetered,
            shows_backend: self.shows_backend,
            names_end_user: self.names_end_user,
            mcp_servers: self.mcp_servers.map(values),
            affinity: self
                .affinity
                .map_or(table::Affinity::Conversation, Affinity::into_core),
            class: self
                .class
                .and_then(|class| class.parse().ok())
                .unwrap_or_default(),
        }
    }
}

impl From<&route::Match> for Match {
    fn from(from: &route::Match) -> Self {
        let header =
            |(name, value): &(HeaderName, Arc<str>)| (Text(name.clone()), Arc::clone(value));
        Self {
            models: texts(&from.models),
            operations: texts(&from.operations),
            headers: from.headers.iter().map(header).collect(),
            consumers: ConsumerMatch::from(&from.consumers),
        }
    }
}

impl Match {
    fn into_core(self) -> route::Match {
        let headers = self.headers.into_iter();
        route::Match {
            models: values(self.models),
            operations: values(self.operations),
            headers: headers.map(|(name, value)| (name.0, value)).collect(),
            consumers: self.consumers.into_core(),
        }
    }
}

impl From<&names::ConsumerMatch> for ConsumerMatch {
    fn from(from: &names::ConsumerMatch) -> Self {
        let has_namespace = from.names.iter().any(|one| one.namespace.is_some());
        let full_names: &[ConsumerName] = if has_namespace { &from.names } else { &[] };
        Self {
            names: from.names.iter().map(|one| Arc::clone(&one.name)).collect(),
            full_names: texts(full_names),
            attributes: from.attributes.clone(),
        }
    }
}

impl ConsumerMatch {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.full_names.is_empty() && self.attributes.is_empty()
    }

    pub(super) fn into_core(self) -> names::ConsumerMatch {
        let names = if self.full_names.is_empty() {
            self.names.into_iter().map(ConsumerName::anywhere).collect()
        } else {
            values(self.full_names)
        };
        names::ConsumerMatch {
            names,
            attributes: self.attributes,
        }
    }
}

// === impl Key ===

impl From<&auth::Key> for Key {
    fn from(key: &auth::Key) -> Self {
        Self {
            consumer: Arc::clone(&key.consumer),
            digest: Text(key.digest),
            attributes: key.attributes.clone(),
            expires_ms: key.expires_ms,
        }
    }
}

impl Key {
    pub(super) fn into_core(self, secret: ObjectName) -> auth::Key {
        auth::Key {
            secret,
            consumer: self.consumer,
            digest: self.digest.0,
            attributes: self.attributes,
            expires_ms: self.expires_ms,
        }
    }
}
