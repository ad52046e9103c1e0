//! Where the API server serves each kind.

use kube::api::ApiResource;
use operator_compile::Kind;

/// The group, plural and versions of ReferenceGrant that a Gateway API installation may serve, the
/// newest version first.
pub(crate) const GRANT_GROUP: &str = "gateway.networking.k8s.io";
pub(crate) const GRANT_PLURAL: &str = "referencegrants";
pub(crate) const GRANT_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// The resource of a kind; its group and names come from the types.
pub(crate) fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::AiBackend => ApiResource::erase::<crds::AiBackend>(&()),
        Kind::AiRoute => ApiResource::erase::<crds::AiRoute>(&()),
        Kind::AiQuota => ApiResource::erase::<crds::AiQuota>(&()),
        Kind::Secret => ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&()),
        Kind::ReferenceGrant => grant_resource("v1"),
    }
}

/// The resource of a kind of Gateway API that is served as v1.
pub(crate) fn gateway_resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        ..grant_resource("v1")
    }
}

/// The resource of ReferenceGrants in this version.
pub(crate) fn grant_resource(version: &str) -> ApiResource {
    ApiResource {
        group: GRANT_GROUP.to_owned(),
        version: version.to_owned(),
        api_version: format!("{GRANT_GROUP}/{version}"),
        kind: Kind::ReferenceGrant.as_str().to_owned(),
        plural: GRANT_PLURAL.to_owned(),
    }
}
