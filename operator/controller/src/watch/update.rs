//! What watches report.

use operator_compile::Kind;
use operator_compile::gateway::Gateways;

use super::observed::Observed;
use crate::config::Scope;

/// A report of a watch.
#[derive(Debug)]
pub(crate) enum Update {
    /// Every object of a kind in a scope, including all changes up to `version`.
    Listed {
        kind: Kind,
        scope: Scope,
        objects: Vec<Observed>,
        version: u64,
    },
    /// An object is new or has changed.
    Applied(Box<Observed>),
    /// An object was deleted.
    Deleted(Box<Observed>),
    /// More or less of a Secret is needed than before; it may be unchanged.
    Reread(Box<Observed>),
    /// The API server forbids to read a kind in a namespace, or knows no such namespace.
    Unreadable {
        kind: Kind,
        namespace: String,
        why: String,
    },
    /// The API server no longer knows the kind: its CRD is gone.
    Unserved { kind: Kind, scope: Scope },
    /// The Gateways as they are now; `None` if the cluster serves none.
    Gateways {
        gateways: Option<Gateways>,
        /// The newest version of one.
        version: u64,
    },
    /// The API server's versions went back, to this one.
    Epoch { epoch: u16, version: u64 },
    /// Whether the cluster serves ReferenceGrants; `true` at most once, before their listing.
    GrantsServed(bool),
}
