//! Makes the key by which proxies mark the ids of what backends keep: a Secret that pods of the proxy mount.
//! It is made once, and never changed: ids live as long as their responses.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;
use tracing::info;

use crate::kept::{is_empty, store};

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
    let found = secrets.get_opt(NAME).await?;
    if found.as_ref().is_some_and(|found| !is_empty(found)) {
        return Ok(());
    }
    let data = BTreeMap::from([(FILE.to_owned(), key())]);
    match store(&secrets, (namespace, NAME), data, found).await {
        Ok(()) => {
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

/// A line of the file.
fn key() -> String {
    hex::encode(rand::random::<[u8; 32]>()) + "\n"
}
