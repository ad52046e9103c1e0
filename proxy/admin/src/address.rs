//! Addresses to listen on, as a user writes them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

#[cfg(test)]
mod tests;

/// Reads `IP:PORT`, `NAME:PORT`, or `:PORT` for all IPv4 addresses. A name is looked up now; of its
/// addresses the first is taken, an IPv4 one if there is any. `usual` is the port that an error proposes.
///
/// # Errors
/// What to write instead.
pub fn parse(text: &str, usual: u16) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let plain = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    if let Ok(ip) = plain.unwrap_or(text).parse::<IpAddr>() {
        return Err(format!("write {}", SocketAddr::new(ip, usual)));
    }
    if let Ok(port) = text.parse::<u16>() {
        return Err(format!(
            "write 127.0.0.1:{port} for this machine only, :{port} for all addresses"
        ));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!(
            "the port is missing: HOST:PORT, such as 127.0.0.1:{usual}"
        ));
    };
    let port: u16 = port
        .parse()
        .map_err(|_error| format!("{port:?} is not a port: write a number up to 65535"))?;
    if host.is_empty() {
        return Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port));
    }
    let found: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("cannot find an address of {host:?}: {error}"))?
        .collect();
    let first = found.iter().find(|address| address.is_ipv4());
    first
        .or_else(|| found.first())
        .copied()
        .ok_or_else(|| format!("{host:?} has no address"))
}
