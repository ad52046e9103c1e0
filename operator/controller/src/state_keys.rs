//! Makes the key by which proxies mark the ids of what backends keep: a Secret that pods of the proxy mount.
//! It is made once, and never changed: ids live as long as their responses.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use tracing::info;

use crate::config::FIELD_MANAGER;

#[cfg(test)]
mod tests;

const NAME: &str = "tundish-state-keys";
/// The file in the Secret: a key on each line.
const FILE: &str = "keys";

/// Makes the Secret in `namespace` if there is none, or fills the empty one that the chart made.
///
/// # Errors
/// The API server refused, or could not be reached.
pub async fn ensure_state_keys(client: &Client, namespace: &str) -> kube::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let parameters = PostParams::default();
    let stored = match secrets.get_opt(NAME).await? {
        Some(found) if found.data.as_ref().is_some_and(|data| !data.is_empty()) => return Ok(()),
        Some(empty) => {
            let filled = made(empty.metadata);
            secrets.replace(NAME, &parameters, &filled).await
        }
        None => {
            let created = made(metadata(namespace));
            secrets.create(&parameters, &created).await
        }
    };
    match stored {
        Ok(_) => {
            info!(
                secret.namespace = namespace,
                secret.name = NAME,
                "made the key for the ids of stored responses"
            );
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(error),
    }
}

fn made(metadata: ObjectMeta) -> Secret {
    let key = hex::encode(rand::random::<[u8; 32]>());
    Secret {
        metadata,
        string_data: Some(BTreeMap::from([(FILE.to_owned(), format!("{key}\n"))])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// The metadata of a Secret that is not there yet.
fn metadata(namespace: &str) -> ObjectMeta {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    ObjectMeta {
        name: Some(NAME.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([
            label("app.kubernetes.io/name", "tundish"),
            label("app.kubernetes.io/managed-by", FIELD_MANAGER),
        ])),
        ..ObjectMeta::default()
    }
}
