//! Which operators to follow, and under which identity.

use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

#[cfg(test)]
mod tests;

/// Which operators to follow, and under which identity.
#[derive(Clone, Debug)]
pub struct Config {
    /// `https://host:port` of the operators. A name with several addresses is followed at each.
    pub operators: Vec<String>,
    /// PEM certificates of the operators' CA; read again for every connection.
    pub ca_file: Option<PathBuf>,
    /// The bearer token; read again for every request, since it is rotated in place.
    pub token_file: Option<PathBuf>,
    /// This proxy's identity, as in its token.
    pub replica: String,
    /// Where the last good table is kept.
    pub last_good: Option<PathBuf>,
    /// Whether that file may hold backend credentials: only on a volume in memory.
    pub keep_credentials: bool,
    /// The folder with the snapshot that the operators stored.
    pub snapshot: Option<PathBuf>,
    /// Whether `http://` is allowed.
    pub allow_plaintext: bool,
    /// How long a table may serve without contact with an operator; `None` for ever.
    pub max_table_age: Option<Duration>,
}

/// Why a [`Config`] is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No operator is given.
    #[error("no operator to follow")]
    NoOperator,
    /// An address is malformed.
    #[error("operator {url:?}: {reason}")]
    Operator {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// One operator address, parsed.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    /// A DNS name or an IP address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

impl Config {
    /// Reads the operators' addresses.
    pub(crate) fn parsed(&self) -> Result<Vec<Operator>, ConfigError> {
        if self.operators.is_empty() {
            return Err(ConfigError::NoOperator);
        }
        self.operators
            .iter()
            .map(|url| self.operator(url))
            .collect()
    }

    fn operator(&self, given: &str) -> Result<Operator, ConfigError> {
        let wrong = |reason: &str| ConfigError::Operator {
            url: given.to_owned(),
            reason: reason.to_owned(),
        };
        let url = Url::parse(given).map_err(|error| wrong(&error.to_string()))?;
        let tls = match url.scheme() {
            "https" => true,
            "http" if self.allow_plaintext => false,
            "http" => return Err(wrong("plain text is not allowed, use https")),
            _ => return Err(wrong("not https://host:port")),
        };
        if tls && self.ca_file.is_none() {
            return Err(wrong("https needs the file of the operators' CA"));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(wrong("no host")),
        };
        let port = url
            .port_or_known_default()
            .ok_or_else(|| wrong("no port"))?;
        Ok(Operator { host, port, tls })
    }
}
