//! Networks of addresses, as CIDR writes them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// No address, or no length after the slash.
    #[error("write an address, or a network such as 10.0.0.0/16 or fd00::/8")]
    Form,
    /// Probably one of both was meant otherwise.
    #[error(
        "the address has bits behind the length of the network; write the network's first address"
    )]
    HostBits,
}

// === impl Network ===

impl Network {
    pub(super) const fn v4(address: Ipv4Addr, prefix: u8) -> Self {
        Self {
            address: IpAddr::V4(address),
            prefix,
        }
    }

    pub(super) const fn v6(address: Ipv6Addr, prefix: u8) -> Self {
        Self {
            address: IpAddr::V6(address),
            prefix,
        }
    }

    /// Whether the address is in it. One of the other family never is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether no bit is set behind the prefix.
    fn is_first(&self) -> bool {
        let zeros = match self.address {
            IpAddr::V4(address) => 32_u32.saturating_sub(address.to_bits().trailing_zeros()),
            IpAddr::V6(address) => 128_u32.saturating_sub(address.to_bits().trailing_zeros()),
        };
        zeros <= u32::from(self.prefix)
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_error| InvalidNetwork::Form)?;
        let whole = Self::from(address);
        let Some(prefix) = prefix else {
            return Ok(whole);
        };
        let prefix = prefix.parse().map_err(|_error| InvalidNetwork::Form)?;
        if prefix > whole.prefix {
            return Err(InvalidNetwork::Form);
        }
        let network = Self { address, prefix };
        if network.is_first() {
            Ok(network)
        } else {
            Err(InvalidNetwork::HostBits)
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
