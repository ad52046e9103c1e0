//! The three kinds of `tundish.dev/v1alpha1` as stored: [`AiBackend`], [`AiRoute`] and [`AiQuota`].
//!
//! This crate says what an object may look like: its fields, bounds and defaults, and what one
//! object can tell about itself in CEL. It never judges what needs a second object; that is the
//! compiler's work. The doc comments of fields are the users' documentation (`kubectl explain`).
//!
//! Conventions that hold for every field:
//! - An optional string is a `String`; empty and absent mean the same.
//! - An optional object is an `Option` whose schema isn't nullable, so the API server drops a
//!   `null` instead of storing it.
//! - Defaults inside list items live in serde, not in the schema: a default that the API server
//!   writes into a list shows up as drift in GitOps tools.
//! - An unknown field in a spec is an error, not ignored: a misspelt restriction must not widen
//!   what the object allows.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

#[expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function"
)]
mod ai_backend;
#[expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function"
)]
mod ai_quota;
#[expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function"
)]
mod ai_route;
#[expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function"
)]
mod condition;
mod duration;
#[expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function"
)]
mod matching;
mod patterns;

pub use ai_backend::{
    AiBackend, AiBackendSpec, AiBackendStatus, ApiKeyAuth, AuthType, BackendAuth, BackendTimeouts,
    BackendTls, BackendType, Capacity, CapacityType, CertificateRef, ClientSecretAuth,
    DEFAULT_SCOPE, Deployment, ManagedIdentityAuth, Price, SecretKeyRef, WorkloadIdentityAuth,
};
pub use ai_quota::{
    AiQuota, AiQuotaSpec, AiQuotaStatus, Limit, LimitUnit, QuotaMatch, QuotaMode, SplitBy,
    StoreLoss, TargetRef, Window,
};
pub use ai_route::{
    AiRoute, AiRouteSpec, AiRouteStatus, Anonymous, ApiKeys, Authentication, BackendRef,
    HeaderMatch, JwtIssuer, Operation, ParentRef, PassThrough, Retry, RetryOn, RouteMatch,
    RouteRule, RouteTimeouts, SecretSelector,
};
pub use condition::{Condition, ConditionStatus, ConditionType, Reason};
pub use duration::{Duration, InvalidDuration};
pub use matching::ConsumerMatch;

/// The API group of all three kinds.
pub const GROUP: &str = "tundish.dev";
/// The one version that is served and stored.
pub const VERSION: &str = "v1alpha1";

/// The definitions of all three kinds, in the order in which their file names sort.
pub fn definitions() -> [CustomResourceDefinition; 3] {
    [AiBackend::crd(), AiQuota::crd(), AiRoute::crd()]
}

/// The committed form of [`definitions`]: file name to YAML. The same types give the same bytes.
///
/// # Errors
/// Fails only when a definition can't be written as YAML, which the tests rule out.
pub fn manifests() -> Result<BTreeMap<String, String>, serde_saphyr::SerializeError> {
    definitions()
        .into_iter()
        .map(|definition| {
            let file = format!("{}.yaml", definition.spec.names.plural);
            Ok((file, serde_saphyr::to_string(&definition)?))
        })
        .collect()
}

/// True for a value that serde may leave out, since reading gives it back.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
