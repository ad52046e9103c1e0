//! Features: what an entry asks of the proxy that reads it.
//!
//! An entry names the features that it needs in its member `needs`. A proxy that lacks one of them
//! cannot enforce the entry, so it makes the entry stricter than it was meant, never laxer, applies
//! the rest of the table and says so in its acknowledgement ([`Unsupported`]).

use std::fmt;

use proxy_core::auth::Key;
use proxy_core::names::Operation;
use proxy_core::quota::Per;
use proxy_core::table::{Backend, BackendAuth, OutputTokens, Quota, Route};
use serde::{Deserialize, Serialize};

/// A declared object, to judge which features it needs.
#[derive(Clone, Copy, Debug)]
pub enum Declared<'a> {
    /// An AIBackend.
    Backend(&'a Backend),
    /// An AIRoute.
    Route(&'a Route),
    /// An AIQuota.
    Quota(&'a Quota),
    /// A consumer's key.
    Key(&'a Key),
}

/// Something that a declared object can use and that older proxies of this version lack.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Its name on the wire; never changes.
    pub name: &'static str,
    /// Whether an object uses it. Looks at that object only.
    pub needed_by: fn(Declared<'_>) -> bool,
}

/// The features that one side knows: an operator writes their names, a proxy enforces them.
#[derive(Clone, Copy, Debug)]
pub struct Features(pub &'static [Feature]);

/// Bounds on the output tokens of a rule: a proxy that overlooks them lets longer answers through.
const OUTPUT_TOKENS: Feature = Feature {
    name: "outputTokens",
    needed_by: |declared| {
        matches!(declared, Declared::Route(route) if route.rules.iter().any(|rule| {
            rule.output_tokens != OutputTokens::default()
        }))
    },
};

/// The MCP servers of a rule: a proxy that overlooks them lets requests name others.
const MCP_SERVERS: Feature = Feature {
    name: "mcpServers",
    needed_by: |declared| matches!(declared, Declared::Route(route) if route.rules.iter().any(|rule| rule.mcp_servers.is_some())),
};

/// Rules for consumers of one namespace: a proxy that compares names only takes those of any namespace
/// for them, where the route admits any.
const CONSUMER_NAMESPACES: Feature = Feature {
    name: "consumerNamespaces",
    needed_by: |declared| {
        matches!(declared, Declared::Route(route) if {
            let admits_any = route.authentication.anonymous || route.authentication.pass_through;
            let matches = route.rules.iter().flat_map(|rule| &rule.matches);
            let mut names = matches.flat_map(|one| &one.consumers.names);
            admits_any && names.any(|name| name.namespace.is_some())
        })
    },
};

/// Rules for moderations, a word that an older proxy cannot read.
const MODERATIONS: Feature = Feature {
    name: "moderations",
    needed_by: |declared| matches_operation(declared, Operation::Moderations),
};

/// Rules for vector stores, another such word.
const VECTOR_STORES: Feature = Feature {
    name: "vectorStores",
    needed_by: |declared| matches_operation(declared, Operation::VectorStores),
};

/// Rules for containers.
const CONTAINERS: Feature = Feature {
    name: "containers",
    needed_by: |declared| matches_operation(declared, Operation::Containers),
};

/// Whether a rule of a route names this operation.
fn matches_operation(declared: Declared<'_>, operation: Operation) -> bool {
    matches!(declared, Declared::Route(route) if {
        let mut matches = route.rules.iter().flat_map(|rule| &rule.matches);
        matches.any(|one| one.operations.contains(&operation))
    })
}

/// A counter for each namespace, which an older proxy cannot read.
const PER_NAMESPACE: Feature = Feature {
    name: "perNamespace",
    needed_by: |declared| matches!(declared, Declared::Quota(quota) if quota.per.contains(&Per::Namespace)),
};

/// A smaller amount for some consumers: a proxy that overlooks it admits them more. Larger ones need
/// nothing, since such a proxy admits less.
const SMALLER_OVERRIDES: Feature = Feature {
    name: "smallerOverrides",
    needed_by: |declared| {
        matches!(declared, Declared::Quota(quota) if quota.limits.iter().any(|limit| {
            let mut overrides = quota.overrides.iter();
            overrides.any(|one| one.amount(&limit.name).is_some_and(|amount| amount < limit.amount))
        }))
    },
};

/// Identities at Entra, which an older proxy cannot read.
const IDENTITIES: Feature = Feature {
    name: "identities",
    needed_by: |declared| {
        matches!(declared, Declared::Backend(backend) if {
            matches!(backend.auth, BackendAuth::Identity(_))
        })
    },
};

/// Callers by token: a proxy that overlooks the issuers takes a token that is not good for a stranger's
/// credential. Beside pass-through they only prove what it believes later.
const JWT: Feature = Feature {
    name: "jwt",
    needed_by: |declared| {
        matches!(declared, Declared::Route(route) if {
            let accepted = &route.authentication;
            !accepted.issuers.is_empty() && !accepted.pass_through
        })
    },
};

/// A certificate that is not checked. An older proxy would check it, and say no more than that the backend
/// cannot be reached.
const INSECURE_SKIP_VERIFY: Feature = Feature {
    name: "insecureSkipVerify",
    needed_by: |declared| matches!(declared, Declared::Backend(backend) if backend.skips_verification),
};

/// An entry that a proxy cannot enforce as declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsupported {
    /// The key of the entry, such as `route/team-a/chat`.
    pub entry: String,
    /// The features that the entry needs and the proxy lacks.
    pub needs: Vec<String>,
}

/// An entry together with what it needs.
#[derive(Serialize)]
pub(super) struct Needing<'a, W> {
    #[serde(flatten)]
    pub(super) object: W,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) needs: Vec<&'a str>,
}

/// Reads what an entry needs, whatever else is in it.
#[derive(Deserialize)]
struct Needs {
    #[serde(default)]
    needs: Vec<String>,
}

/// What the entry of this JSON needs. Most entries need nothing and lack the word, which every writer spells
/// like this: a look for it is cheaper than reading them.
pub(super) fn needs(json: &str) -> Result<Vec<String>, serde_json::Error> {
    if !json.contains("\"needs\"") {
        return Ok(Vec::new());
    }
    serde_json::from_str(json).map(|Needs { needs }| needs)
}

// === impl Features ===

impl Features {
    /// What this build knows. A restriction that older proxies would overlook is added here, with a
    /// line in the fixtures' README.
    pub const KNOWN: Self = Self(&[
        OUTPUT_TOKENS,
        MCP_SERVERS,
        CONSUMER_NAMESPACES,
        MODERATIONS,
        VECTOR_STORES,
        CONTAINERS,
        PER_NAMESPACE,
        SMALLER_OVERRIDES,
        IDENTITIES,
        JWT,
        INSECURE_SKIP_VERIFY,
    ]);

    /// The names of the features that an object uses.
    pub(super) fn needed_by(self, declared: Declared<'_>) -> Vec<&'static str> {
        let needed = self.0.iter().filter(|one| (one.needed_by)(declared));
        needed.map(|one| one.name).collect()
    }

    /// What an entry needs and is not known here.
    pub(super) fn missing(self, json: &str) -> Result<Vec<String>, serde_json::Error> {
        let mut needs = needs(json)?;
        needs.retain(|name| self.0.iter().all(|known| known.name != name));
        Ok(needs)
    }
}

// === impl Unsupported ===

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} needs {}", self.entry, self.needs.join(", "))
    }
}

impl Unsupported {
    /// The reason, for the caller of a refused request and for the log.
    pub(super) fn reason(&self) -> String {
        let plural = if self.needs.len() == 1 { "" } else { "s" };
        format!(
            "it needs the feature{plural} {}, which this version of the proxy lacks",
            self.needs.join(", ")
        )
    }
}
