//! The three kinds of `tundish.dev/v1alpha1` as stored: [`AiBackend`], [`AiRoute`] and [`AiQuota`].
//!
//! This crate defines the form of an object: its fields, bounds and defaults, and the CEL rules for
//! one object. It refuses to judge what needs a second object; the compiler does that. The doc
//! comments of fields are the users' documentation (`kubectl explain`).
//!
//! Conventions that hold for every field:
//! - An optional string is a `String`; empty and absent mean the same.
//! - An optional object is an `Option` whose schema isn't nullable, so the API server drops a
//!   `null` instead of storing it.
//! - Defaults inside list items live in serde, not in the schema: a default that the API server
//!   writes into a list shows up as drift in GitOps tools.
//! - An unknown field in a spec is an error, not ignored: a misspelt restriction must not widen
//!   what the object allows.
//!
//! `rules/KIND-RULE/` has a case for every CEL rule: `good.yaml` is accepted, `bad.yaml` is refused
//! with the text of `message.txt`. Both have a name of their own, unless the rule judges an update:
//! then they have the same. The tests here check that no rule lacks a case; the API server's
//! answers are checked end to end.

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
mod default;
mod definition;
mod duration;
#[expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function"
)]
mod matching;
mod patterns;

pub use ai_backend::{
    AiBackend, AiBackendSpec, AiBackendStatus, ApiKeyAuth, AuthType, BackendAuth, BackendHealth,
    BackendTimeouts, BackendTls, BackendType, Capacity, CapacityType, CertificateRef,
    ClientSecretAuth, DEFAULT_SCOPE, Deployment, LongContext, ManagedIdentityAuth, Price,
    RoutedPrice, SecretKeyRef, StreamUsage, WorkloadIdentityAuth,
};
pub use ai_quota::{
    AiQuota, AiQuotaSpec, AiQuotaStatus, Limit, LimitUnit, OverriddenLimit, Override, QuotaMatch,
    QuotaMode, SplitBy, StoreLoss, TargetRef, Window,
};
pub use ai_route::{
    Affinity, AffinityType, AiRoute, AiRouteSpec, AiRouteStatus, Anonymous, ApiKeys,
    Authentication, BackendHeaders, BackendRef, Class, Cors, EndUser, HeaderMatch, JwtIssuer, Mcp,
    Operation, OutputTokens, ParentRef, PassThrough, Retry, RetryWhen, RouteMatch,
    RouteParentStatus, RouteRule, RouteTimeouts, SecretSelector, Unmetered,
};
pub use condition::{Condition, ConditionStatus, ConditionType, Reason};
pub use definition::{definitions, manifests};
pub use duration::{Duration, InvalidDuration};
pub use matching::ConsumerMatch;

/// The API group of all three kinds.
pub const GROUP: &str = "tundish.dev";
/// The one version that is served and stored.
pub const VERSION: &str = "v1alpha1";

#[cfg(test)]
mod tests;
