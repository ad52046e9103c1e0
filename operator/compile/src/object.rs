//! The objects of an index, and their names.

use std::fmt;

use crds::{AiBackend, AiQuota, AiRoute};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proxy_core::names::{EntryKind, EntryName, ObjectName};

use crate::grant::Grant;
use crate::namespace;

/// The kinds of objects that are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `tundish.dev` AIBackend.
    AiBackend,
    /// `tundish.dev` AIRoute.
    AiRoute,
    /// `tundish.dev` AIQuota.
    AiQuota,
    /// Core Secret.
    Secret,
    /// `gateway.networking.k8s.io` ReferenceGrant.
    ReferenceGrant,
}

/// One object, by kind and name. Written `AIRoute namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Namespace and name.
    pub name: ObjectName,
}

/// An object of an index. `Debug` shows its name only, since a Secret holds credentials.
#[derive(Clone)]
pub enum Object {
    /// An AIBackend.
    Backend(AiBackend),
    /// An AIRoute.
    Route(AiRoute),
    /// An AIQuota.
    Quota(AiQuota),
    /// A Secret: a consumer's key, a backend's credential or its certificates.
    Secret(Secret),
    /// A ReferenceGrant.
    Grant(Grant),
    /// An object that could not be decoded. It fails closed, alone and visibly.
    Undecodable {
        /// The object.
        object: ObjectRef,
        /// Its generation; 0 if unknown.
        generation: i64,
        /// The problem; never quotes a credential.
        message: String,
        /// Hosts, rules and matches of an AIRoute, as far as they can be read: no broader route of the
        /// namespace may take their traffic.
        remains: Option<Box<AiRoute>>,
    },
}

// === impl Kind ===

impl Kind {
    /// The kind as objects spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AiBackend => "AIBackend",
            Self::AiRoute => "AIRoute",
            Self::AiQuota => "AIQuota",
            Self::Secret => "Secret",
            Self::ReferenceGrant => "ReferenceGrant",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl ObjectRef ===

impl ObjectRef {
    /// Names the object of this kind.
    #[must_use]
    pub const fn new(kind: Kind, name: ObjectName) -> Self {
        Self { kind, name }
    }

    /// The table's entry for this object; `None` for a ReferenceGrant, which has none. Only a
    /// Secret with a consumer's key has one.
    #[must_use]
    pub fn entry(&self) -> Option<EntryName> {
        let kind = match self.kind {
            Kind::AiBackend => EntryKind::Backend,
            Kind::AiRoute => EntryKind::Route,
            Kind::AiQuota => EntryKind::Quota,
            Kind::Secret => EntryKind::Key,
            Kind::ReferenceGrant => return None,
        };
        Some(EntryName::new(kind, self.name.clone()))
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

// === impl Object ===

impl Object {
    /// The name of this object.
    #[must_use]
    pub fn object_ref(&self) -> ObjectRef {
        match self {
            Self::Backend(backend) => {
                ObjectRef::new(Kind::AiBackend, object_name(&backend.metadata))
            }
            Self::Route(route) => ObjectRef::new(Kind::AiRoute, object_name(&route.metadata)),
            Self::Quota(quota) => ObjectRef::new(Kind::AiQuota, object_name(&quota.metadata)),
            Self::Secret(secret) => ObjectRef::new(Kind::Secret, object_name(&secret.metadata)),
            Self::Grant(grant) => ObjectRef::new(Kind::ReferenceGrant, grant.name.clone()),
            Self::Undecodable { object, .. } => object.clone(),
        }
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let undecodable = match self {
            Self::Undecodable { .. } => "undecodable ",
            Self::Backend(_)
            | Self::Route(_)
            | Self::Quota(_)
            | Self::Secret(_)
            | Self::Grant(_) => "",
        };
        write!(f, "Object({undecodable}{})", self.object_ref())
    }
}

pub(crate) fn object_name(metadata: &ObjectMeta) -> ObjectName {
    ObjectName::new(
        metadata.namespace.as_deref().unwrap_or(namespace::DEFAULT),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

/// The creation time in seconds since the Unix epoch; 0 for an object from a file, which has none.
pub(crate) fn created_s(metadata: &ObjectMeta) -> i64 {
    let created = metadata.creation_timestamp.as_ref();
    created.map_or(0, |time| time.0.as_second())
}
