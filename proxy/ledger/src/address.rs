//! Where the shared store is: `redis://[user:password@]host:port[/db]` and its relatives.

use std::fmt;
use std::str::FromStr;

use proxy_core::names::Secret;
use url::Url;

#[cfg(test)]
mod tests;

/// The port of Redis and Valkey.
const PORT: u16 = 6379;
/// The port of Sentinel.
const SENTINEL_PORT: u16 = 26379;

/// Where the shared store is. Its `Debug` and `Display` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreAddress {
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) tls: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: i64,
    pub(crate) kind: Kind,
}

/// Who is behind the hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One server.
    Single,
    /// Nodes of a cluster.
    Cluster,
    /// Sentinels, which know the primary of this name.
    Sentinel { primary: String },
}

/// A text that is no address of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; use redis://[user:password@]host:port[/db], rediss:// for TLS, several hosts with commas for a \
     cluster, or redis+sentinel://[user:password@]host:port,.../primary[/db]"
)]
pub struct InvalidAddress(&'static str);

impl FromStr for StoreAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let bad = |why| Err(InvalidAddress(why));
        let Some((scheme, rest)) = text.split_once("://") else {
            return bad("the scheme is missing");
        };
        let (tls, sentinel) = match scheme {
            "redis" | "valkey" => (false, false),
            "rediss" | "valkeys" => (true, false),
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            _ => return bad("the scheme is not known"),
        };
        if rest.contains(['?', '#']) {
            return bad("there are no parameters");
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let port = if sentinel { SENTINEL_PORT } else { PORT };
        let hosts = hosts
            .split(',')
            .map(|host| host_of(host, port))
            .collect::<Result<Vec<_>, _>>()?;
        let (user, password) = login.map_or(Ok((None, None)), login_of)?;
        let (primary, database) = match (sentinel, path.split_once('/')) {
            (true, Some((primary, database))) => (primary, database),
            (true, None) => (path, ""),
            (false, _) => ("", path),
        };
        let database = match database {
            "" => 0,
            number => match number.parse::<u16>() {
                Ok(number) => i64::from(number),
                Err(_) => return bad("the database is not a number"),
            },
        };
        let kind = match (sentinel, hosts.len()) {
            (true, _) if primary.is_empty() => return bad("the name of the primary is missing"),
            (true, _) => Kind::Sentinel {
                primary: primary.to_owned(),
            },
            (false, 1) => Kind::Single,
            (false, _) if database != 0 => return bad("a cluster has one database, 0"),
            (false, _) => Kind::Cluster,
        };
        Ok(Self {
            hosts,
            tls,
            user,
            password,
            database,
            kind,
        })
    }
}

/// `url` knows what a host is and how passwords are escaped, but not several hosts.
fn host_of(text: &str, port: u16) -> Result<(String, u16), InvalidAddress> {
    let parsed = Url::parse(&format!("redis://{text}"))
        .ok()
        .filter(|url| url.username().is_empty() && matches!(url.path(), "" | "/"));
    let host = parsed
        .as_ref()
        .and_then(|url| Some((url.host()?, url.port())));
    match host {
        Some((url::Host::Ipv6(address), given)) => Ok((address.to_string(), given.unwrap_or(port))),
        Some((host, given)) => Ok((host.to_string(), given.unwrap_or(port))),
        None => Err(InvalidAddress("a host or its port cannot be read")),
    }
}

fn login_of(text: &str) -> Result<(Option<String>, Option<Secret>), InvalidAddress> {
    let decoded = |part: &str| {
        let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
        decoded
            .map(std::borrow::Cow::into_owned)
            .map_err(|_error| InvalidAddress("the user or password is not UTF-8"))
    };
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let given = |part: String| Some(part).filter(|part| !part.is_empty());
    Ok((
        given(decoded(user)?),
        given(decoded(password)?).map(Secret::new),
    ))
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secure = if self.tls { "s" } else { "" };
        let (how, path) = match &self.kind {
            Kind::Single if self.database != 0 => ("", format!("/{}", self.database)),
            Kind::Single | Kind::Cluster => ("", String::new()),
            Kind::Sentinel { primary } => ("+sentinel", format!("/{primary}")),
        };
        write!(f, "redis{secure}{how}://")?;
        for (index, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            if host.contains(':') {
                write!(f, "{comma}[{host}]:{port}")?;
            } else {
                write!(f, "{comma}{host}:{port}")?;
            }
        }
        f.write_str(&path)
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
