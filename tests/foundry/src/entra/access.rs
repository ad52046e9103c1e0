//! Access tokens: what Entra writes into them, in both of its versions.
//!
//! <https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference>

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::directory::{API_URI, AUDIENCES, CLIENT, Directory, RESOURCES};

/// More groups are a link instead.
const MOST_GROUPS: usize = 200;

/// A token that a test wants, as if a caller had got it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessToken {
    /// The API, by client id or URI, or a resource of Azure.
    pub resource: String,
    /// 1 or 2; without: as the API wants it. Azure's own resources have 1.
    pub version: Option<u8>,
    /// The application that asks for it.
    pub client: String,
    /// The object id of the user; without, the application acts for itself.
    pub user: Option<String>,
    /// What the user allowed the application: only with a user, and then needed.
    pub scopes: Vec<String>,
    /// Roles of the user or the application.
    pub roles: Vec<String>,
    /// Groups; of more than 200 the token has a link.
    pub groups: Vec<String>,
    /// How long it lives, in seconds; it is over already if this is not positive.
    pub lifetime_s: i64,
    /// When it begins to be good, in seconds from now.
    pub starts_s: i64,
    /// Further claims, or others; `null` removes one.
    pub claims: Map<String, Value>,
}

/// Entra makes no such token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// No such API or resource.
    #[error("the resource {0} is unknown")]
    Resource(String),
    /// A version other than 1 and 2, or 2 for Azure's own.
    #[error("no token of version {0} for this resource")]
    Version(u8),
    /// Scopes are of users.
    #[error("scopes are what a user allows: name both or neither")]
    Scopes,
    /// The cryptography failed.
    #[error("{0}")]
    Key(String),
}

impl Default for AccessToken {
    fn default() -> Self {
        Self {
            resource: API_URI.to_owned(),
            version: None,
            client: CLIENT.to_owned(),
            user: None,
            scopes: Vec::new(),
            roles: Vec::new(),
            groups: Vec::new(),
            lifetime_s: 3599,
            starts_s: 0,
            claims: Map::new(),
        }
    }
}

impl AccessToken {
    /// The claims, from `now` on, in seconds since 1970. `base` is where Entra is.
    pub(super) fn claims(
        &self,
        directory: &Directory,
        base: &str,
        now: u64,
    ) -> Result<Value, InvalidToken> {
        if self.user.is_some() == self.scopes.is_empty() {
            return Err(InvalidToken::Scopes);
        }
        let (version, audience) = self.audience(directory)?;
        let tenant = &directory.tenant;
        let begins = i64::try_from(now)
            .unwrap_or_default()
            .saturating_add(self.starts_s);
        let object = self.user.clone().unwrap_or_else(|| principal(&self.client));
        // Of a user it is another one for each application.
        let subject = match &self.user {
            Some(user) => digest(&format!("{user}@{audience}")),
            None => object.clone(),
        };
        let mut claims = json!({
            "aud": audience, "iss": issuer(base, tenant, version), "iat": begins, "nbf": begins,
            "exp": begins.saturating_add(self.lifetime_s), "aio": random(), "oid": object, "rh": random(),
            "tid": tenant, "uti": random(), "ver": format!("{version}.0"),
            "sub": subject,
        });
        let mut more = Map::new();
        let mut add = |name: &str, value: Value| drop(more.insert(name.to_owned(), value));
        if version == 1 {
            add("appid", json!(self.client));
            add("appidacr", json!("1"));
            add("idp", json!(issuer(base, tenant, 1)));
        } else {
            add("azp", json!(self.client));
            add("azpacr", json!("1"));
        }
        if self.user.is_some() {
            add("scp", json!(self.scopes.join(" ")));
            add("name", json!("Ann Example"));
            let user = json!("ann@contoso.example");
            if version == 1 {
                add("upn", user.clone());
                add("unique_name", user);
                add("amr", json!(["pwd"]));
            } else {
                add("preferred_username", user);
            }
        }
        if !self.roles.is_empty() {
            add("roles", json!(self.roles));
        }
        if self.groups.len() > MOST_GROUPS {
            let place =
                format!("https://graph.windows.net/{tenant}/users/{object}/getMemberObjects");
            add("_claim_names", json!({"groups": "src1"}));
            add("_claim_sources", json!({"src1": {"endpoint": place}}));
        } else if !self.groups.is_empty() {
            add("groups", json!(self.groups));
        }
        if let Some(members) = claims.as_object_mut() {
            members.extend(more);
            members.extend(self.claims.clone());
            members.retain(|_, value| !value.is_null());
        }
        Ok(claims)
    }

    /// The version, and the audience: the API's URI only if version 1 is asked for by it.
    fn audience(&self, directory: &Directory) -> Result<(u8, String), InvalidToken> {
        let resource = self.resource.trim_end_matches('/');
        if RESOURCES.contains(&resource) {
            let version = self.version.unwrap_or(1);
            return match version {
                1 => Ok((1, self.resource.clone())),
                _ => Err(InvalidToken::Version(version)),
            };
        }
        let api = directory.api(&self.resource);
        let api = api.ok_or_else(|| InvalidToken::Resource(self.resource.clone()))?;
        match self.version.unwrap_or(api.token_version) {
            1 => Ok((1, self.resource.clone())),
            2 => Ok((2, api.client_id.clone())),
            version => Err(InvalidToken::Version(version)),
        }
    }

    /// Whether Foundry takes tokens for this.
    pub(super) fn is_for_foundry(resource: &str) -> bool {
        AUDIENCES.contains(&resource.trim_end_matches('/'))
    }
}

/// Who Entra is, by the version of its tokens.
pub(crate) fn issuer(base: &str, tenant: &str, version: u8) -> String {
    match version {
        1 => format!("{base}/{tenant}/"),
        _ => format!("{base}/{tenant}/v2.0"),
    }
}

/// The object id of an application: its service principal in the tenant.
fn principal(client: &str) -> String {
    let hex: String = Sha256::digest(client.as_bytes())
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    let (a, b, c) = (part(0, 8), part(8, 12), part(13, 16));
    format!("{a}-{b}-4{c}-8{}-{}", part(17, 20), part(20, 32))
}

fn digest(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()))
}

fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())
}
