//! Settings, complete and checked by the binaries, whose arguments hold the defaults.

use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderValue;
use proxy_core::names::Secret;

use crate::address::Address;
use crate::login::Login;

/// Where tokens come from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Entra's host: another one in a sovereign cloud.
    pub authority: Address,
    /// What the workload identity webhook sets.
    pub workload: Workload,
    /// A proxy in the cluster that takes the place of the authority for workload identities.
    pub token_proxy: Option<TokenProxy>,
    /// The endpoint within an App Service or a container app; it takes the place of `imds`.
    pub app_service: Option<AppService>,
    /// The machine's metadata service.
    pub imds: Address,
    /// A developer's login, which takes the place of workload and managed identities.
    pub login: Option<Login>,
    /// The API server, whose keys prove the cluster's `ServiceAccount` tokens.
    pub api_server: Option<ApiServer>,
    /// Where the keys of callers' issuers are kept over restarts.
    pub issuer_keys: Option<PathBuf>,
}

/// Entra's host in the public cloud.
pub const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";
/// The metadata service of a virtual machine.
pub const IMDS: &str = "http://169.254.169.254";

impl Config {
    /// Without anything that only some environments have.
    #[must_use]
    pub fn new(authority: Address, imds: Address) -> Self {
        Self {
            authority,
            workload: Workload::default(),
            token_proxy: None,
            app_service: None,
            imds,
            login: None,
            api_server: None,
            issuer_keys: None,
        }
    }
}

/// The defaults of a workload identity.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// The tenant.
    pub tenant_id: Option<Arc<str>>,
    /// The client id.
    pub client_id: Option<Arc<str>>,
    /// The file with the `ServiceAccount` token. It is read again for every fetch: it rotates.
    pub token_file: Option<PathBuf>,
}

/// AKS identity bindings: a proxy in the cluster that speaks as Entra's token endpoint does.
#[derive(Clone, Debug)]
pub struct TokenProxy {
    /// Where it is.
    pub address: Address,
    /// The name to ask for and to expect in its certificate; `None` = the address's host.
    pub server_name: Option<String>,
    /// Who may sign its certificate; `None` = the public authorities.
    pub roots: Option<Roots>,
}

/// Certificates in PEM.
#[derive(Clone, Debug)]
pub enum Roots {
    /// A file, read again for every fetch.
    File(PathBuf),
    /// The text itself.
    Text(Arc<str>),
}

/// The endpoint within an App Service or a container app.
#[derive(Clone, Debug)]
pub struct AppService {
    /// Where it is, with its path.
    pub endpoint: Address,
    /// What it wants to be shown.
    pub header: Secret,
}

/// The API server of the cluster. It shows its keys to accounts of the cluster alone.
#[derive(Clone, Debug)]
pub struct ApiServer {
    /// Where it is.
    pub address: Address,
    /// Who may sign its certificate.
    pub roots: Roots,
    /// The file with the gateway's own `ServiceAccount` token, read again for every fetch.
    pub token_file: PathBuf,
}

impl ApiServer {
    /// What the gateway shows there.
    pub(crate) fn bearer(&self) -> Result<HeaderValue, String> {
        let file = &self.token_file;
        let token = std::fs::read_to_string(file);
        let token = token.map_err(|error| format!("read {}: {error}", file.display()))?;
        let bearer = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut bearer = bearer.map_err(|_error| format!("{} is no token", file.display()))?;
        bearer.set_sensitive(true);
        Ok(bearer)
    }
}
