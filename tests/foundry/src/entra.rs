//! Microsoft Entra, as far as a gateway meets it: what it knows, and the tokens that it has made.
//!
//! Words: an *app* is an application or an identity, known by its client id; a *federation* is one of
//! its federated credentials; an *assertion* is the token of a cluster that stands for a secret; a
//! *door* is where a token is asked for.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::json;

use crate::faults::Faults;

mod assertion;
mod directory;

pub(crate) use assertion::{Broken, Issuer};
use directory::AUDIENCES;
pub(crate) use directory::RESOURCES;
pub use directory::{
    AUDIENCE, App, Assignment, CLIENT, Directory, Federation, IDENTITY_HEADER, ISSUER, SECRET,
    SUBJECT, TENANT,
};

/// Entra, and the endpoints of the machine.
#[derive(Debug)]
pub(crate) struct Entra {
    pub(crate) directory: Mutex<Arc<Directory>>,
    pub(crate) faults: Faults,
    pub(crate) issuer: Issuer,
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
            issued: Mutex::default(),
        }
    }
}

impl Entra {
    pub(crate) fn replace(&self, directory: Directory) {
        *self.directory.lock() = Arc::new(directory);
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
            && AUDIENCES.contains(&token.resource.as_str())
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

    /// Makes a token.
    pub(crate) fn grant(&self, now: Now, client_id: &str, resource: &str) -> Grant {
        let directory = Arc::clone(&self.directory.lock());
        let lifetime = Duration::from_secs(directory.lifetime_s);
        let unix = now.unix_s;
        let claims = json!({
            "aud": resource, "iss": format!("https://sts.windows.net/{}/", directory.tenant),
            "iat": unix, "nbf": unix, "exp": unix + directory.lifetime_s, "appid": client_id,
            "oid": client_id, "sub": client_id, "tid": directory.tenant, "ver": "1.0",
            "uti": format!("{:016x}", rand::random::<u64>()),
        });
        let token = assertion::unsigned(&claims, rand::random());
        let made = Token {
            client_id: client_id.to_owned(),
            resource: resource.to_owned(),
            expires: now.since_start + lifetime,
        };
        self.issued.lock().tokens.insert(token.clone(), made);
        Grant {
            token,
            left: lifetime,
        }
    }

    /// The machine's endpoints keep a token until a quarter of its life is left.
    pub(crate) fn grant_to_machine(&self, now: Now, client_id: &str, resource: &str) -> Grant {
        let name = (client_id.to_owned(), resource.to_owned());
        let quarter = Duration::from_secs(self.directory.lock().lifetime_s) / 4;
        {
            let issued = self.issued.lock();
            if let Some(token) = issued.of_machine.get(&name)
                && let Some(known) = issued.tokens.get(token)
                && known.expires.saturating_sub(now.since_start) > quarter
            {
                return Grant {
                    token: token.clone(),
                    left: known.expires.saturating_sub(now.since_start),
                };
            }
        }
        let grant = self.grant(now, client_id, resource);
        let token = grant.token.clone();
        self.issued.lock().of_machine.insert(name, token);
        grant
    }
}
