//! Callers by token: what a route asks of an issuer's tokens, and what a good one says.
//!
//! The signature is judged elsewhere; here a token is good.

use std::fmt;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// An issuer of tokens, as a route lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Which tokens are good, and who they are of.
    pub trust: Trust,
    /// What the route asks of them besides.
    pub required: Required,
}

/// Which tokens of an issuer are good, and who they are of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trust {
    /// The claim `iss`, to the letter, and whose keys prove it.
    pub source: Source,
    /// The claim `aud` has one of these, to the letter. Sorted.
    pub audiences: Vec<Arc<str>>,
    /// Who a token is of.
    pub mapping: Mapping,
}

/// An issuer and the place of its keys. Another place is another issuer: whoever names a place could sign
/// for any name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The claim `iss`, to the letter.
    pub issuer: Arc<str>,
    /// The URL of its keys; `None` = the one that its description names (`OpenID` Connect Discovery).
    pub jwks_uri: Option<Arc<str>>,
}

/// Which claims say who a caller is. A claim is a name, or a JSON pointer if it begins with a slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// The claim with the consumer's name.
    pub consumer: Arc<str>,
    /// Attributes with their claims, sorted. A list is as many values.
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
}

/// What a route asks of a good token. Each list is sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Required {
    /// It has all of these scopes.
    pub scopes: Vec<Arc<str>>,
    /// It has all of these roles.
    pub roles: Vec<Arc<str>>,
    /// It was made for one of these applications; none = for any.
    pub clients: Vec<Arc<str>>,
}

/// What a good token says that routes ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Whose keys proved it.
    pub source: Source,
    /// Its audiences.
    pub audiences: Vec<Arc<str>>,
    /// What its user allowed the application.
    pub scopes: Vec<Arc<str>>,
    /// What its user or application may do.
    pub roles: Vec<Arc<str>>,
    /// The application that it was made for.
    pub client: Option<Arc<str>>,
}

/// What a good token lacks for a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The route does not list its issuer with its audience.
    Issuer,
    /// This scope.
    Scope(Arc<str>),
    /// This role.
    Role(Arc<str>),
    /// Its application is not among those that are allowed.
    Client,
}

// === impl Token ===

impl Token {
    /// Whether a credential has the form of one: three parts, of which the first is a JSON object in base64url.
    #[must_use]
    pub fn has_form(credential: &str) -> bool {
        credential.starts_with("ey") && credential.split('.').count() == 3
    }

    /// A token with all that a route asks of this issuer's.
    pub(crate) fn satisfying(issuer: &Issuer) -> Self {
        let Required {
            scopes,
            roles,
            clients,
        } = issuer.required.clone();
        Self {
            source: issuer.trust.source.clone(),
            audiences: issuer.trust.audiences.clone(),
            scopes,
            roles,
            client: clients.into_iter().next(),
        }
    }
}

// === impl Trust ===

impl Trust {
    /// Whether it is about this token.
    #[must_use]
    pub fn is_about(&self, token: &Token) -> bool {
        let listed = |audience| self.audiences.contains(audience);
        self.source == token.source && token.audiences.iter().any(listed)
    }
}

// === impl Issuer ===

impl Issuer {
    /// What a token lacks for the route that lists the issuer.
    #[must_use]
    pub fn lack(&self, token: &Token) -> Option<Lack> {
        if !self.trust.is_about(token) {
            return Some(Lack::Issuer);
        }
        let Required {
            scopes,
            roles,
            clients,
        } = &self.required;
        let missing = |wanted: &[Arc<str>], held: &[Arc<str>]| {
            let mut wanted = wanted.iter();
            wanted.find(|one| !held.contains(one)).cloned()
        };
        if let Some(scope) = missing(scopes, &token.scopes) {
            return Some(Lack::Scope(scope));
        }
        if let Some(role) = missing(roles, &token.roles) {
            return Some(Lack::Role(role));
        }
        let allows = |client: &Arc<str>| clients.contains(client);
        let is_allowed = clients.is_empty() || token.client.as_ref().is_some_and(allows);
        (!is_allowed).then_some(Lack::Client)
    }
}

// === impl Lack ===

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issuer => f.write_str("the route admits no token of its issuer and audience"),
            Self::Scope(scope) => write!(f, "its token lacks the scope {scope}"),
            Self::Role(role) => write!(f, "its token lacks the role {role}"),
            Self::Client => f.write_str("its token is of an application that is not allowed"),
        }
    }
}
