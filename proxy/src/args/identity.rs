//! Flags of the gateway's identities. Their variables are those that Azure sets: the workload identity
//! webhook, AKS identity bindings, App Service.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use proxy_core::names::Secret;
use proxy_identity::{
    Address, ApiServer, AppService, Config, IMDS, InvalidAddress, Login, PUBLIC_AUTHORITY, Roots,
    TokenProxy, Tool, Workload,
};

/// Who the gateway is at Microsoft Entra, for backends without keys.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Backend identity")]
pub struct IdentityArgs {
    /// Microsoft Entra's host: another one in a sovereign cloud
    #[arg(
        long,
        env = "AZURE_AUTHORITY_HOST",
        value_name = "URL",
        default_value = PUBLIC_AUTHORITY
    )]
    pub entra_authority: Address,
    /// Tenant of backends with WorkloadIdentity that name none
    #[arg(long, env = "AZURE_TENANT_ID", value_name = "ID")]
    pub identity_tenant: Option<String>,
    /// Client id of backends with WorkloadIdentity that name none
    #[arg(long, env = "AZURE_CLIENT_ID", value_name = "ID")]
    pub identity_client: Option<String>,
    /// File with the ServiceAccount token that Entra trades in for WorkloadIdentity; read again for every
    /// token
    #[arg(long, env = "AZURE_FEDERATED_TOKEN_FILE", value_name = "FILE")]
    pub identity_token_file: Option<PathBuf>,
    /// Proxy in the cluster that takes Entra's place for WorkloadIdentity: AKS identity bindings
    #[arg(long, env = "AZURE_KUBERNETES_TOKEN_PROXY", value_name = "URL")]
    pub identity_token_proxy: Option<Address>,
    /// Name in that proxy's certificate, if it is not its host
    #[arg(
        long,
        env = "AZURE_KUBERNETES_SNI_NAME",
        value_name = "NAME",
        requires = "identity_token_proxy"
    )]
    pub identity_token_proxy_name: Option<String>,
    /// PEM file with the CA of that proxy's certificate; read again for every token
    #[arg(
        long,
        env = "AZURE_KUBERNETES_CA_FILE",
        value_name = "FILE",
        requires = "identity_token_proxy"
    )]
    pub identity_token_proxy_ca: Option<PathBuf>,
    /// The CA itself, in PEM
    #[arg(
        long,
        env = "AZURE_KUBERNETES_CA_DATA",
        value_name = "PEM",
        requires = "identity_token_proxy",
        conflicts_with = "identity_token_proxy_ca"
    )]
    pub identity_token_proxy_ca_data: Option<String>,
    /// Metadata service of the machine, for ManagedIdentity
    #[arg(
        long,
        env = "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        value_name = "URL",
        default_value = IMDS,
        value_parser = on_machine
    )]
    pub metadata_service: Address,
    /// Endpoint that takes its place in an App Service or a container app
    #[arg(
        long,
        env = "IDENTITY_ENDPOINT",
        value_name = "URL",
        value_parser = on_machine
    )]
    pub identity_endpoint: Option<Address>,
    /// What that endpoint wants to be shown; without it the metadata service is asked
    #[arg(
        long,
        env = "IDENTITY_HEADER",
        value_name = "TEXT",
        hide_env_values = true,
        value_parser = secret
    )]
    pub identity_header: Option<Secret>,
}

fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

/// A command that knows a developer's login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AzureLogin {
    /// Azure CLI
    Az,
    /// Azure Developer CLI
    Azd,
}

impl AzureLogin {
    /// The command, which the PATH finds.
    #[must_use]
    pub fn login(self) -> Login {
        let tool = match self {
            Self::Az => Tool::Az,
            Self::Azd => Tool::Azd,
        };
        Login {
            tool,
            program: tool.name().into(),
        }
    }
}

/// Where the keys of callers' issuers come from.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Callers by token")]
pub struct IssuerArgs {
    /// Folder in which the keys of callers' issuers are kept, to judge tokens after a restart while an issuer
    /// is away
    #[arg(long, env = "TUNDISH_ISSUER_KEYS", value_name = "DIR")]
    pub issuer_keys: Option<PathBuf>,
    /// API server of the cluster, such as https://kubernetes.default.svc: the keys of ServiceAccount tokens are
    /// fetched there with the two files below. Other issuers are asked without
    #[arg(long, env = "TUNDISH_API_SERVER", value_name = "URL")]
    pub api_server: Option<Address>,
    /// PEM file with the CA of its certificate; read again for every fetch
    #[arg(
        long,
        env = "TUNDISH_API_SERVER_CA",
        value_name = "FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    )]
    pub api_server_ca: PathBuf,
    /// File with the token that the gateway shows to the API server; read again for every fetch
    #[arg(
        long,
        env = "TUNDISH_API_SERVER_TOKEN",
        value_name = "FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )]
    pub api_server_token: PathBuf,
}

impl IssuerArgs {
    fn api_server(&self) -> Option<ApiServer> {
        let address = self.api_server.clone()?;
        Some(ApiServer {
            address,
            roots: Roots::File(self.api_server_ca.clone()),
            token_file: self.api_server_token.clone(),
        })
    }
}

fn on_machine(text: &str) -> Result<Address, InvalidAddress> {
    Address::on_machine(text)
}

impl IdentityArgs {
    /// Where the tokens for backends without keys come from, and the keys of callers' issuers.
    #[must_use]
    pub fn config(&self, issuers: &IssuerArgs) -> Config {
        // The webhook sets an empty client id where the ServiceAccount has none.
        let some = |text: &Option<String>| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            text.map(Arc::<str>::from)
        };
        let roots = match (
            &self.identity_token_proxy_ca,
            &self.identity_token_proxy_ca_data,
        ) {
            (Some(file), _) => Some(Roots::File(file.clone())),
            (None, Some(text)) => Some(Roots::Text(text.as_str().into())),
            (None, None) => None,
        };
        let token_proxy = self.identity_token_proxy.clone();
        let endpoint = self.identity_endpoint.clone();
        Config {
            workload: Workload {
                tenant_id: some(&self.identity_tenant),
                client_id: some(&self.identity_client),
                token_file: self.identity_token_file.clone(),
            },
            token_proxy: token_proxy.map(|address| TokenProxy {
                address,
                server_name: self.identity_token_proxy_name.clone(),
                roots,
            }),
            app_service: endpoint
                .zip(self.identity_header.clone())
                .filter(|(_, header)| !header.expose().is_empty())
                .map(|(endpoint, header)| AppService { endpoint, header }),
            api_server: issuers.api_server(),
            issuer_keys: issuers.issuer_keys.clone(),
            ..Config::new(self.entra_authority.clone(), self.metadata_service.clone())
        }
    }
}
