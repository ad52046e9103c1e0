//! Where a request comes from, for the access log. Nothing is decided by it.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::HeaderName;

#[cfg(test)]
mod tests;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of the client of a connection from `peer`: with proxies in front, the one that the outermost
/// of `trusted_hops` of them saw, which is that many entries from the right of `X-Forwarded-For`. What is
/// further left may be made up. If there is no such entry, or it is no address, it is the peer.
pub(crate) fn address(peer: IpAddr, headers: &HeaderMap, trusted_hops: usize) -> IpAddr {
    let Some(skipped) = trusted_hops.checked_sub(1) else {
        return peer;
    };
    let lists = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let mut entries = lists.flat_map(|list| list.as_bytes().rsplit(|byte| *byte == b','));
    let entry = entries.nth(skipped).and_then(read);
    entry.unwrap_or(peer)
}

/// An entry; some proxies add the port.
fn read(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?.trim();
    let address = text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|both| both.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = address.or_else(with_port).or_else(bracketed)?;
    Some(address.to_canonical())
}
