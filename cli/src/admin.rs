//! A client of admin ports.
//!
//! Plain HTTP/1.1 over one connection: an admin port speaks nothing else, and is reached on the same
//! machine or through a port-forward.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use proxy_admin::http::Token;
use serde::de::DeserializeOwned;

#[cfg(test)]
mod tests;

/// The longest wait for a page; a healthy process answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest page: a thousand subjects of each of a few hundred limits stay below this.
const LARGEST: u64 = 256 << 20;

/// `http://host:port` of an admin port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminUrl(String);

impl FromStr for AdminUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let authority = text.strip_prefix("http://").unwrap_or(text);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let port = authority
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse::<u16>()));
        match port {
            Some((host, Ok(_))) if !host.is_empty() && !host.contains(['/', '@', '?', '#']) => {
                Ok(Self(authority.to_owned()))
            }
            Some(_) | None => Err("wanted http://HOST:PORT".to_owned()),
        }
    }
}

impl fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

impl AdminUrl {
    /// Gets a JSON page, showing `token` if there is one.
    ///
    /// # Errors
    /// Nothing answers, or the answer is not the page; the error has the port's own message.
    pub fn page<T: DeserializeOwned>(&self, path: &str, token: Option<&Token>) -> Result<T> {
        // The query is the caller's own flags, and long.
        let page = path.split('?').next().unwrap_or(path);
        let context = || format!("cannot ask {self}{page}");
        let authorization = match token {
            Some(token) => format!("authorization: Bearer {}\r\n", *token.read()?),
            None => String::new(),
        };
        let answer = self.ask(path, &authorization).with_context(context)?;
        let (status, body) = split(&answer).with_context(context)?;
        match status {
            200 => serde_json::from_slice(body)
                .with_context(|| format!("{self}{page} has the form of another version")),
            404 => bail!("{self} has no {page}: it is not a gateway, or an older version"),
            401 | 403 => bail!(
                "{self} refuses {page}: {}",
                String::from_utf8_lossy(body).trim_end()
            ),
            _ => bail!("{}", String::from_utf8_lossy(body).trim_end()),
        }
    }

    /// Asks every process that the host's name leads to whether it is ready.
    ///
    /// # Errors
    /// The name has no address, or one of the processes does not answer or is not ready.
    pub fn ready(&self) -> Result<()> {
        let context = || format!("{self} is not ready");
        let addresses: Vec<SocketAddr> = self.0.to_socket_addrs().with_context(context)?.collect();
        if addresses.is_empty() {
            bail!("{self} has no address");
        }
        for address in addresses {
            let stream = TcpStream::connect_timeout(&address, PATIENCE);
            let answer = stream.and_then(|stream| self.exchange(stream, "/readyz", ""));
            let answer = answer.map_err(named).with_context(context)?;
            let (status, body) = split(&answer).with_context(context)?;
            if status != 200 {
                let reason = String::from_utf8_lossy(body);
                bail!("{address} of {self} is not ready: {}", reason.trim_end());
            }
        }
        Ok(())
    }

    fn ask(&self, path: &str, authorization: &str) -> Result<Vec<u8>> {
        let mut failure = None;
        for address in self.0.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return self.exchange(stream, path, authorization).map_err(named),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(named(error)),
            None => bail!("the name has no address"),
        }
    }

    fn exchange(
        &self,
        mut stream: TcpStream,
        path: &str,
        authorization: &str,
    ) -> io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\n{authorization}connection: close\r\n\r\n",
            self.0
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(LARGEST).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// A timeout of a socket reads as "resource temporarily unavailable".
fn named(error: io::Error) -> anyhow::Error {
    if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) {
        return anyhow!("no answer within {} s", PATIENCE.as_secs());
    }
    error.into()
}

/// The status and the body of an answer; an admin port never answers in chunks.
fn split(answer: &[u8]) -> Result<(u16, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.context("no HTTP answer came")?;
    let (head, body) = answer
        .split_at_checked(end)
        .context("no HTTP answer came")?;
    let body = body.get(4..).unwrap_or_default();
    let head = std::str::from_utf8(head).context("no HTTP answer came")?;
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    let status = status.and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let length = name.eq_ignore_ascii_case("content-length");
        length.then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    if length.is_some_and(|length| length != body.len()) {
        bail!("the answer is incomplete");
    }
    Ok((status.context("no HTTP answer came")?, body))
}
