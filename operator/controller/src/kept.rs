//! Secrets that an operator keeps for its installation. The chart makes them empty, so that the operator needs no
//! right to create any; without a chart it makes them itself.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};

use crate::config::FIELD_MANAGER;

/// The labels of what an operator makes itself.
pub(crate) fn labels() -> BTreeMap<String, String> {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    BTreeMap::from([
        label("app.kubernetes.io/name", "tundish"),
        label("app.kubernetes.io/managed-by", FIELD_MANAGER),
    ])
}

/// Whether the chart made the Secret, and no operator has filled it yet.
pub(crate) fn is_empty(secret: &Secret) -> bool {
    secret.data.as_ref().is_none_or(BTreeMap::is_empty)
}

/// Stores `data` in the Secret that was `found`, as long as it is the same one, or in a new one.
pub(crate) async fn store(
    secrets: &Api<Secret>,
    (namespace, name): (&str, &str),
    data: BTreeMap<String, String>,
    found: Option<Secret>,
) -> kube::Result<()> {
    let parameters = PostParams::default();
    match found {
        Some(found) => {
            let filled = with(found.metadata, data);
            secrets.replace(name, &parameters, &filled).await?;
        }
        None => {
            let made = with(metadata(namespace, name), data);
            secrets.create(&parameters, &made).await?;
        }
    }
    Ok(())
}

fn with(metadata: ObjectMeta, data: BTreeMap<String, String>) -> Secret {
    Secret {
        metadata,
        string_data: Some(data),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels()),
        ..ObjectMeta::default()
    }
}
