//! Addresses of what makes tokens.

use std::str::FromStr;

use http::uri::Authority;
use url::{Host, Url};

#[cfg(test)]
mod tests;

/// Where a token is asked for: a URL without a query, whose path has no slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub(crate) is_tls: bool,
    pub(crate) authority: Authority,
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) path: String,
}

/// Why a text is no such address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// No URL of HTTP.
    #[error("write it as https://HOST")]
    NoUrl,
    /// A secret would travel in the clear.
    #[error("only https:// is allowed, or http:// to this machine")]
    Plaintext,
    /// It would end up in logs.
    #[error("a user, a query or a fragment is not allowed")]
    Extra,
}

impl Address {
    /// An address of the machine's own network, where plain HTTP is usual.
    ///
    /// # Errors
    /// See [`InvalidAddress`].
    pub fn on_machine(text: &str) -> Result<Self, InvalidAddress> {
        let url = Url::parse(text).map_err(|_error| InvalidAddress::NoUrl)?;
        Self::of(&url)
    }

    fn of(url: &Url) -> Result<Self, InvalidAddress> {
        let is_tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(InvalidAddress::NoUrl),
        };
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidAddress::Extra);
        }
        let host = url.host_str().ok_or(InvalidAddress::NoUrl)?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}").parse(),
            None => host.parse(),
        };
        Ok(Self {
            is_tls,
            authority: authority.map_err(|_error| InvalidAddress::NoUrl)?,
            host: host.trim_matches(['[', ']']).to_owned(),
            path: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The path and query of something below this address. `path` begins with a slash.
    pub(crate) fn below(&self, path: &str) -> String {
        format!("{}{path}", self.path)
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    /// Reads an address to which secrets may be sent.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let url = Url::parse(text).map_err(|_error| InvalidAddress::NoUrl)?;
        let address = Self::of(&url)?;
        let is_here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if address.is_tls || is_here {
            Ok(address)
        } else {
            Err(InvalidAddress::Plaintext)
        }
    }
}
