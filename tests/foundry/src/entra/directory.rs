//! What Entra knows: apps, and what they may show.

use serde::{Deserialize, Serialize};

/// The resources for which tokens are made: Foundry's names, and one that Foundry does not take.
pub(crate) const RESOURCES: [&str; 4] = [
    "https://ai.azure.com",
    "https://cognitiveservices.azure.com",
    "https://cognitiveservices.azure.us",
    "https://management.azure.com",
];
/// Those among them that Foundry takes.
pub(crate) const AUDIENCES: [&str; 3] = [
    "https://ai.azure.com",
    "https://cognitiveservices.azure.com",
    "https://cognitiveservices.azure.us",
];

/// The tenant of the default directory.
pub const TENANT: &str = "11111111-1111-4111-8111-111111111111";
/// The client id of the default directory's app.
pub const CLIENT: &str = "22222222-2222-4222-8222-222222222222";
/// Its secret.
pub const SECRET: &str = "sim-secret";
/// The client id of the default directory's API: the audience of its tokens of version 2.
pub const API: &str = "33333333-3333-4333-8333-333333333333";
/// The identifier URI of that API: the audience of its tokens of version 1, if they are asked for by it.
pub const API_URI: &str = "api://tundish";
/// The subject of its federation.
pub const SUBJECT: &str = "system:serviceaccount:tundish-system:tundish-proxy";
/// The audience of its federation.
pub const AUDIENCE: &str = "api://AzureADTokenExchange";
/// Who signs assertions.
pub const ISSUER: &str = "https://oidc.sim.example/cluster/";
/// What the endpoint of App Service wants to be shown.
pub const IDENTITY_HEADER: &str = "sim-header-of-the-app-service-8642";

/// What Entra knows. The default has one app, by which everything works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// The id of the only tenant.
    pub tenant: String,
    /// Its apps.
    pub apps: Vec<App>,
    /// The APIs that it exposes.
    #[serde(default)]
    pub apis: Vec<Api>,
    /// How long a token lives, in seconds.
    pub lifetime_s: u64,
}

/// An application or an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct App {
    /// Its client id.
    pub client_id: String,
    /// Secrets that it can show.
    pub secrets: Vec<String>,
    /// Secrets whose time is over.
    pub expired_secrets: Vec<String>,
    /// Whose assertions stand for a secret.
    pub federations: Vec<Federation>,
    /// Whether the machine of the simulator has it.
    pub machine: Option<Assignment>,
    /// It has no role on the Foundry resource.
    pub without_role: bool,
}

/// An application that exposes an API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Its client id.
    pub client_id: String,
    /// Its identifier URI (Application ID URI).
    pub uri: String,
    /// `requestedAccessTokenVersion` of its manifest: 1, which Entra's `null` means too, or 2.
    pub token_version: u8,
    /// Its roles that each app has been granted.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// How a machine has an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// Its own.
    System,
    /// One that it was given.
    User,
}

/// A federated credential. All three are compared to the letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Federation {
    /// Who signs.
    pub issuer: String,
    /// The account that it stands for.
    pub subject: String,
    /// The service that it is made for.
    pub audience: String,
}

// === impl Directory ===

impl Default for Directory {
    fn default() -> Self {
        Self {
            tenant: TENANT.to_owned(),
            apps: vec![App {
                client_id: CLIENT.to_owned(),
                secrets: vec![SECRET.to_owned()],
                federations: vec![Federation {
                    issuer: ISSUER.to_owned(),
                    subject: SUBJECT.to_owned(),
                    audience: AUDIENCE.to_owned(),
                }],
                machine: Some(Assignment::System),
                ..App::default()
            }],
            apis: vec![Api {
                client_id: API.to_owned(),
                uri: API_URI.to_owned(),
                token_version: 2,
                roles: Vec::new(),
            }],
            lifetime_s: 3599,
        }
    }
}

impl Directory {
    /// The API with this client id or URI.
    pub(crate) fn api(&self, name: &str) -> Option<&Api> {
        let mut all = self.apis.iter();
        all.find(|api| api.client_id == name || api.uri == name)
    }

    pub(crate) fn app(&self, client_id: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.client_id == client_id)
    }
}
