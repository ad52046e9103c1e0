//! The claims of a token whose signature is good.

use std::sync::Arc;

use proxy_core::auth::{Source, Token};
use serde_json::{Map, Value};

/// The claims of a token whose signature is good. `Debug` shows their names alone.
#[derive(Clone, PartialEq)]
pub struct Claims(Map<String, Value>);

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Claims {
    pub(super) const fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// A claim by its name, or by a JSON pointer (RFC 6901) if that begins with a slash.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Value> {
        let Some(path) = name.strip_prefix('/') else {
            return self.0.get(name);
        };
        let (first, rest) = match path.split_once('/') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        let first = first.replace("~1", "/").replace("~0", "~");
        let found = self.0.get(&first)?;
        match rest {
            Some(rest) => found.pointer(&format!("/{rest}")),
            None => Some(found),
        }
    }

    /// The text of a claim.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A moment in seconds since 1970, which some issuers write with decimals.
    pub(super) fn seconds(&self, name: &str) -> Option<f64> {
        let seconds = self.0.get(name)?.as_f64()?;
        seconds.is_finite().then_some(seconds)
    }

    /// The issuer.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.text("iss")
    }

    /// The audiences: the claim is a text or a list.
    pub(super) fn audiences(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match self.0.get("aud") {
            Some(Value::String(one)) => (Some(&**one), None),
            Some(Value::Array(many)) => (None, Some(many)),
            _ => (None, None),
        };
        let many = many.into_iter().flatten();
        one.into_iter().chain(many.filter_map(Value::as_str))
    }

    /// The words of a claim, which is a list of them or one text. Sorted.
    pub(super) fn words(&self, name: &str) -> Vec<Arc<str>> {
        let (text, list) = match self.0.get(name) {
            Some(Value::String(text)) => (&**text, None),
            Some(Value::Array(list)) => ("", Some(list)),
            _ => ("", None),
        };
        let list = list.into_iter().flatten().filter_map(Value::as_str);
        let words = text.split_ascii_whitespace().chain(list);
        let mut words: Vec<Arc<str>> = words.map(Arc::from).collect();
        words.sort();
        words.dedup();
        words
    }

    /// What routes ask for. The application has three names: in Entra's two versions, and in RFC 9068.
    pub(super) fn token(&self, source: &Source) -> Token {
        let mut scopes = self.words("scp");
        scopes.extend(self.words("scope"));
        let mut client = ["azp", "appid", "client_id"].into_iter();
        Token {
            source: source.clone(),
            audiences: self.audiences().map(Arc::from).collect(),
            scopes,
            roles: self.words("roles"),
            client: client.find_map(|name| self.text(name)).map(Arc::from),
        }
    }

    /// Entra lists too many groups (200, or 150 in SAML) by a link instead.
    #[must_use]
    pub fn has_groups_elsewhere(&self) -> bool {
        let listed = |name: &str| self.find(name).is_some();
        listed("/_claim_names/groups") || listed("hasgroups")
    }
}
