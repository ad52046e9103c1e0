//! The client of the API server.

use std::path::Path;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// A client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be read, or is incomplete.
    #[error("read the kubeconfig")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// There is neither a service account nor a kubeconfig.
    #[error("find the API server: there is neither a kubeconfig nor a service account")]
    NotFound(#[source] kube::config::InferConfigError),
    /// The credentials or certificates cannot be used.
    #[error("make a client of the API server")]
    Client(#[source] kube::Error),
}

/// A client of the API server, from `kubeconfig` if given, else from the service account or the
/// default kubeconfig. It does not call the API server yet.
///
/// # Errors
/// There is no configuration, or it cannot be used.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(ConnectError::Kubeconfig)?;
            let options = KubeConfigOptions::default();
            let loaded = kube::Config::from_custom_kubeconfig(file, &options).await;
            loaded.map_err(ConnectError::Kubeconfig)?
        }
        None => kube::Config::infer()
            .await
            .map_err(ConnectError::NotFound)?,
    };
    Client::try_from(config).map_err(ConnectError::Client)
}
