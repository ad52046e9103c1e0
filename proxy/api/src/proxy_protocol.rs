//! The PROXY protocol, version 2: what a balancer sends before the bytes of its client, to say who that is.
//!
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>, 2.2. Version 1, its text form, is refused:
//! its end must be searched for. What is behind the addresses (TLVs) is skipped unread.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[cfg(test)]
mod tests;

/// The bytes before the addresses.
pub const PREFIX_BYTES: usize = 16;

/// The most that may follow the prefix. Balancers send some hundred bytes; a certificate among them is the
/// largest by far.
pub const MOST_BYTES: usize = 8 << 10;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The first bytes of a connection are no header of a balancer, or not one that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// They are something else: a request, or version 1.
    #[error("it does not begin with a header of the PROXY protocol, version 2")]
    Signature,
    /// Another version or command.
    #[error("its version or command is unknown")]
    Command,
    /// Not TCP over IPv4 or IPv6.
    #[error("its address family or transport is not served")]
    Family,
    /// Longer than [`MOST_BYTES`].
    #[error("it is too long")]
    TooLong,
    /// The addresses are cut.
    #[error("its addresses are incomplete")]
    Incomplete,
}

/// What a header says before its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    source: Source,
    /// Bytes that follow.
    pub length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The balancer itself, such as its health check, or a client that it cannot name.
    Peer,
    V4,
    V6,
}

// === impl Prefix ===

impl Prefix {
    /// Reads the first bytes of a connection.
    ///
    /// # Errors
    /// See [`InvalidHeader`].
    pub fn read(bytes: [u8; PREFIX_BYTES]) -> Result<Self, InvalidHeader> {
        let [signature @ .., command, family, high, low] = bytes;
        if signature != *SIGNATURE {
            return Err(InvalidHeader::Signature);
        }
        let source = match (command, family) {
            // LOCAL: whatever follows says nothing. PROXY, UNSPEC: the receiver takes the peer.
            (0x20, _) | (0x21, 0x00) => Source::Peer,
            (0x21, 0x11) => Source::V4,
            (0x21, 0x21) => Source::V6,
            (0x21, _) => return Err(InvalidHeader::Family),
            _ => return Err(InvalidHeader::Command),
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MOST_BYTES {
            return Err(InvalidHeader::TooLong);
        }
        let needed = match source {
            Source::Peer => 0,
            Source::V4 => 12,
            Source::V6 => 36,
        };
        if length < needed {
            return Err(InvalidHeader::Incomplete);
        }
        Ok(Self { source, length })
    }

    /// The client, by the [`Prefix::length`] bytes that follow; `None`: the peer of the connection.
    ///
    /// # Errors
    /// There are fewer bytes than an address has.
    pub fn client(self, rest: &[u8]) -> Result<Option<IpAddr>, InvalidHeader> {
        let v4 = || Some(Ipv4Addr::from(*rest.first_chunk::<4>()?).into());
        let v6 = || Some(Ipv6Addr::from(*rest.first_chunk::<16>()?).to_canonical());
        let client: Option<IpAddr> = match self.source {
            Source::Peer => return Ok(None),
            Source::V4 => v4(),
            Source::V6 => v6(),
        };
        client.map(Some).ok_or(InvalidHeader::Incomplete)
    }
}
