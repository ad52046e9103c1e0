//! The claims of a token whose signature is good.

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

    /// Whether one of the audiences is `wanted`: the claim is a text or a list.
    pub(super) fn has_audience(&self, wanted: &str) -> bool {
        match self.0.get("aud") {
            Some(Value::String(one)) => one == wanted,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(wanted)),
            _ => false,
        }
    }

    /// Entra lists too many groups (200, or 150 in SAML) by a link instead.
    #[must_use]
    pub fn has_groups_elsewhere(&self) -> bool {
        let listed = |name: &str| self.find(name).is_some();
        listed("/_claim_names/groups") || listed("hasgroups")
    }
}
