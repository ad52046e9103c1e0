//! Whether the cluster serves kinds of Gateway API at present.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, APIResourceList};
use kube::runtime::watcher;
use kube::{Client, Resource as _};
use serde::de::DeserializeOwned;

use crate::resource::GRANT_GROUP;

#[cfg(test)]
mod tests;

/// Pause between two looks for a later installation: what is installed then works within two seconds. A look is a
/// request for a document of a few hundred bytes, which every account may read.
pub(crate) const SERVED_CHECK: Duration = Duration::from_secs(1);

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServedError {
    /// The call failed.
    #[error("ask the API server for its kinds")]
    Call(#[source] kube::Error),
    /// There was no answer in time.
    #[error("the API server did not answer in time")]
    Silent,
    /// The request cannot be written.
    #[error("write the request")]
    Request(#[source] http::Error),
}

/// A kind that was not served at each of these looks, while the operator's own group was, is not installed. An API
/// server that starts does not know its CustomResourceDefinitions for a moment.
const LOOKS: u32 = 2;

/// How often in a row a kind was not served.
#[derive(Debug, Default)]
pub(crate) struct Absence {
    looks: u32,
}

/// Whether the API server does not know what is watched.
pub(crate) fn is_unserved(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => {
            matches!(error, kube::Error::Api(status) if status.code == 404)
        }
        watcher::Error::WatchError(status) => status.code == 404,
        watcher::Error::NoResourceVersion => false,
    }
}

/// The first of `versions` in which a kind of Gateway API is served; `None` if it is in none.
pub(crate) async fn served_version<'a>(
    client: &Client,
    plural: &str,
    versions: &[&'a str],
) -> Result<Option<&'a str>, ServedError> {
    // The group first: one that is not served has no list of its kinds.
    let path = format!("/apis/{GRANT_GROUP}");
    let Some(group) = read::<APIGroup>(client, &path).await? else {
        return Ok(None);
    };
    for version in versions {
        let mut served = group.versions.iter();
        if !served.any(|one| one.version == *version) {
            continue;
        }
        let kinds = read::<APIResourceList>(client, &format!("{path}/{version}")).await?;
        let kinds = kinds.map(|list| list.resources).unwrap_or_default();
        if kinds.iter().any(|one| one.name == plural) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

// === impl Absence ===

impl Absence {
    /// Takes a look at which the kind was not served. Whether that is known for the first time now.
    pub(crate) async fn is_news(&mut self, client: &Client) -> Result<bool, ServedError> {
        if self.looks >= LOOKS {
            return Ok(false);
        }
        let own = format!("/apis/{}", crds::AiRoute::group(&()));
        let is_up = read::<APIGroup>(client, &own).await?.is_some();
        self.looks = if is_up { self.looks + 1 } else { 0 };
        Ok(self.looks == LOOKS)
    }
}

async fn read<T: DeserializeOwned>(client: &Client, path: &str) -> Result<Option<T>, ServedError> {
    let request = http::Request::get(path).body(Vec::new());
    let request = request.map_err(ServedError::Request)?;
    match tokio::time::timeout(PATIENCE, client.request::<T>(request)).await {
        Ok(Ok(answer)) => Ok(Some(answer)),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
        Ok(Err(error)) => Err(ServedError::Call(error)),
        Err(_elapsed) => Err(ServedError::Silent),
    }
}
