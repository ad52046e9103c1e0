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
//!
//! `rules/KIND-RULE/` has a case for every CEL rule: `good.yaml` is accepted, `bad.yaml` is refused
//! with the text of `message.txt`. Both have a name of their own, unless the rule judges an update:
//! then they have the same. The tests here check that no rule lacks a case; the API server's
//! answers are checked end to end.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
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
    [AiBackend::crd(), AiQuota::crd(), AiRoute::crd()].map(|mut definition| {
        let schemas = definition
            .spec
            .versions
            .iter_mut()
            .filter_map(|v| v.schema.as_mut());
        schemas
            .filter_map(|schema| schema.open_api_v3_schema.as_mut())
            .for_each(polish);
        definition
    })
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
            let yaml = serde_saphyr::to_string(&definition)?;
            Ok((
                file,
                format!("# Made by crdgen from the types in crds/src. Do not edit.\n{yaml}"),
            ))
        })
        .collect()
}

/// Takes out what only Rust knows: line breaks of doc comments (`kubectl explain` breaks lines
/// itself), names of types, and the null that the derive allows for a status.
fn polish(schema: &mut JSONSchemaProps) {
    schema.title = None;
    schema.nullable = None;
    if let Some(description) = &mut schema.description {
        let paragraphs: Vec<String> = description
            .split("\n\n")
            .map(|paragraph| paragraph.replace('\n', " "))
            .collect();
        *description = paragraphs.join("\n\n");
    }
    schema
        .properties
        .iter_mut()
        .flat_map(BTreeMap::values_mut)
        .for_each(polish);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => polish(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(polish),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        polish(value);
    }
}

/// True for a value that serde may leave out, since reading gives it back.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
