//! Microsoft Entra, as far as a gateway meets it: what it knows, and the tokens that it has made.
//!
//! Words: an *app* is an application or an identity, known by its client id; a *federation* is one of
//! its federated credentials; an *assertion* is the token of a cluster that stands for a secret; a
//! *door* is where a token is asked for, or what proves it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;

use crate::faults::Faults;

mod access;
mod assertion;
mod directory;
mod signing;

pub(crate) use access::issuer;
pub use access::{AccessToken, InvalidToken};
pub(crate) use assertion::{Broken, Issuer};
pub(crate) use directory::RESOURCES;
pub use directory::{
    API, API_URI, AUDIENCE, Api, App, Assignment, CLIENT, Directory, Federation, IDENTITY_HEADER,
    ISSUER, SECRET, SUBJECT, TENANT,
};
pub use signing::Rotation;
pub(crate) use signing::Signing;

/// Entra, and the endpoints of the machine.
#[derive(Debug)]
pub(crate) struct Entra {
    pub(crate) directory: Mutex<Arc<Directory>>,
    pub(crate) faults: Faults,
    pub(crate) issuer: Issuer,
    pub(crate) signing: Signing,
    /// Where it is, such as `http://127.0.0.1:41234`; known once it listens.
    pub(crate) base: OnceLock<String>,
    issued: Mutex<Issued>,
}

#[derive(Debug, Default)]
struct Issued {
    tokens: HashMap<String, Token>,
    revoked: HashSet<String>,
    /// The token of each identity and resource that the machine's endpoint hands out until it is old.
    of_machine: HashMap<(String, String), String>,
}

#[derive(Clone, Debug)]
struct Token {
    client_id: String,
    resource: String,
    expires: Duration,
}

/// A token with the time that it has left.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) token: String,
    pub(crate) left: Duration,
}

/// The time, twice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) since_start: Duration,
    pub(crate) unix_s: u64,
}

/// What a bearer token of Entra is worth at Foundry.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Entra did not make it.
    Unknown,
    /// It is expired, revoked, or for something else.
    Refused,
    /// It is good, and its app may do nothing here.
    WithoutRole { client_id: String },
    /// It is good.
    Accepted { client_id: String },
}

// === impl Entra ===

impl Default for Entra {
    fn default() -> Self {
        Self {
            directory: Mutex::default(),
            faults: Faults::default(),
            issuer: Issuer::new(),
            signing: Signing::default(),
            base: OnceLock::new(),
            issued: Mutex::default(),
        }
    }
}

impl Entra {
    pub(crate) fn replace(&self, directory: Directory) {
        *self.directory.lock() = Arc::new(directory);
    }

    /// Every token that was made so far.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.issued.lock().tokens.keys().cloned().collect()
    }

    /// From now on no token that was made so far is good.
    pub(crate) fn revoke_all(&self) {
        let mut issued = self.issued.lock();
        let all: Vec<String> = issued.tokens.keys().cloned().collect();
        issued.revoked.extend(all);
        issued.of_machine.clear();
    }

    /// Judges a bearer token as Foundry does.
    pub(crate) fn judge(&self, bearer: &str, now: Duration) -> Verdict {
        let issued = self.issued.lock();
        let Some(token) = issued.tokens.get(bearer) else {
            return Verdict::Unknown;
        };
        let is_good = now < token.expires
            && AccessToken::is_for_foundry(&token.resource)
            && !issued.revoked.contains(bearer);
        if !is_good {
            return Verdict::Refused;
        }
        let client_id = token.client_id.clone();
        drop(issued);
        let directory = Arc::clone(&self.directory.lock());
        match directory.app(&client_id) {
            None => Verdict::Refused,
            Some(app) if app.without_role => Verdict::WithoutRole { client_id },
            Some(_) => Verdict::Accepted { client_id },
        }
    }

    /// Where it is.
    pub(crate) fn base(&self) -> &str {
        self.base.get().map_or("", String::as_str)
    }

    /// Makes a token for an app itself.
    pub(crate) fn grant(
        &self,
        now: Now,
        client_id: &str,
        resource: &str,
    ) -> Result<Grant, InvalidToken> {
        let directory = Arc::clone(&self.directory.lock());
        let api = directory.api(resource);
        let token = self.make(
            now,
            &AccessToken {
                resource: resource.to_owned(),
                client: client_id.to_owned(),
                roles: api.map(|api| api.roles.clone()).unwrap_or_default(),
                lifetime_s: i64::try_from(directory.lifetime_s).unwrap_or(i64::MAX),
                ..AccessToken::default()
            },
        )?;
        Ok(Grant {
            token,
            left: Duration::from_secs(directory.lifetime_s),
        })
    }

    /// Makes a token.
    pub(crate) fn make(&self, now: Now, wanted: &AccessToken) -> Result<String, InvalidToken> {
        let directory = Arc::clone(&self.directory.lock());
        let claims = wanted.claims(&directory, self.base(), now.unix_s)?;
        let signed = self.signing.sign(&claims);
        let token = signed.map_err(|error| InvalidToken::Key(error.to_string()))?;
        let lives = wanted.starts_s.saturating_add(wanted.lifetime_s);
        let lives = Duration::from_secs(u64::try_from(lives).unwrap_or_default());
        let made = Token {
            client_id: wanted.client.clone(),
            resource: wanted.resource.clone(),
            expires: now.since_start + lives,
        };
        self.issued.lock().tokens.insert(token.clone(), made);
        Ok(token)
    }

    /// The machine's endpoints keep a token until a quarter of its life is left.
    pub(crate) fn grant_to_machine(
        &self,
        now: Now,
        client_id: &str,
        resource: &str,
    ) -> Result<Grant, InvalidToken> {
        let name = (client_id.to_owned(), resource.to_owned());
        let quarter = Duration::from_secs(self.directory.lock().lifetime_s) / 4;
        {
            let issued = self.issued.lock();
            if let Some(token) = issued.of_machine.get(&name)
                && let Some(known) = issued.tokens.get(token)
                && known.expires.saturating_sub(now.since_start) > quarter
            {
                return Ok(Grant {
                    token: token.clone(),
                    left: known.expires.saturating_sub(now.since_start),
                });
            }
        }
        let grant = self.grant(now, client_id, resource)?;
        let token = grant.token.clone();
        self.issued.lock().of_machine.insert(name, token);
        Ok(grant)
    }
}
