//! Addresses that are closed by what they are.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::network::Network;

/// A kind of address that is closed unless the installation opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// The gateway's own machine or pod.
    Loopback,
    /// The link of the machine, with services of the cloud.
    LinkLocal,
    /// What a cloud tells its machines, tokens among it.
    Metadata,
    /// No address of a server; the system takes it for its own.
    Unspecified,
    /// Many at once.
    Multicast,
    /// Without a meaning on the Internet.
    Reserved,
    /// Services, pods and nodes of the cluster.
    Cluster,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Network {
    Network::v4(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(first: [u16; 3], last: u16, prefix: u8) -> Network {
    let [a, b, c] = first;
    Network::v6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last), prefix)
}

/// The first that has an address counts: metadata services come before the links that they are on. The
/// networks are those of the registries of special addresses of IANA (RFC 6890) that no backend can be in.
const ZONES: [(Network, Zone); 21] = [
    // Azure, AWS, Google Cloud and others.
    (v4(169, 254, 169, 254, 32), Zone::Metadata),
    // Containers of AWS ECS, and pods of EKS.
    (v4(169, 254, 170, 0, 24), Zone::Metadata),
    // Azure's wire server.
    (v4(168, 63, 129, 16, 32), Zone::Metadata),
    // Alibaba Cloud.
    (v4(100, 100, 100, 200, 32), Zone::Metadata),
    // Oracle Cloud.
    (v4(192, 0, 0, 192, 32), Zone::Metadata),
    // AWS: fd00:ec2::254, and fd00:ec2::23 of EKS.
    (v6([0xfd00, 0x0ec2, 0], 0, 32), Zone::Metadata),
    // Google Cloud.
    (v6([0xfd20, 0x00ce, 0], 0x0254, 128), Zone::Metadata),
    (v4(0, 0, 0, 0, 8), Zone::Unspecified),
    (v6([0, 0, 0], 0, 128), Zone::Unspecified),
    (v4(127, 0, 0, 0, 8), Zone::Loopback),
    (v6([0, 0, 0], 1, 128), Zone::Loopback),
    (v4(169, 254, 0, 0, 16), Zone::LinkLocal),
    (v6([0xfe80, 0, 0], 0, 10), Zone::LinkLocal),
    // Links of sites, as they were before RFC 3879.
    (v6([0xfec0, 0, 0], 0, 10), Zone::LinkLocal),
    (v4(224, 0, 0, 0, 4), Zone::Multicast),
    (v6([0xff00, 0, 0], 0, 8), Zone::Multicast),
    (v4(192, 0, 0, 0, 24), Zone::Reserved),
    (v4(240, 0, 0, 0, 4), Zone::Reserved),
    // Discarded (RFC 6666).
    (v6([0x0100, 0, 0], 0, 64), Zone::Reserved),
    // Segments (RFC 9602).
    (v6([0x5f00, 0, 0], 0, 16), Zone::Reserved),
    // Examples (RFC 3849).
    (v6([0x2001, 0x0db8, 0], 0, 32), Zone::Reserved),
];

// === impl Zone ===

impl Zone {
    pub(super) fn of(address: IpAddr) -> Option<Self> {
        let found = ZONES.iter().find(|(network, _)| network.contains(address));
        found.map(|(_, zone)| *zone)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "the gateway's own machine",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a metadata service of a cloud",
            Self::Unspecified => "an unspecified address",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
            Self::Cluster => "in the cluster",
        })
    }
}

/// The address, and the IPv4 addresses that it may stand for.
pub(super) fn forms(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let within = match address {
        IpAddr::V4(_) => [None; 4],
        IpAddr::V6(address) => embedded(address),
    };
    let whole = match address {
        // Mapped ones are IPv4 on the wire.
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
        IpAddr::V4(_) | IpAddr::V6(_) => Some(address),
    };
    let within = within.into_iter().flatten();
    whole.into_iter().chain(within.map(IpAddr::V4))
}

fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high, low].map(u16::to_be_bytes);
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match [a, b, c, d, e, f] {
        // Mapped, and compatible as they were before RFC 4291; :: and ::1 are no such.
        [0, 0, 0, 0, 0, 0xffff] => [v4(g, h), None, None, None],
        [0, 0, 0, 0, 0, 0] if g != 0 => [v4(g, h), None, None, None],
        // Translated (RFC 2765).
        [0, 0, 0, 0, 0xffff, 0] => [v4(g, h), None, None, None],
        // NAT64 (RFC 6052).
        [0x0064, 0xff9b, 0, 0, 0, 0] => [v4(g, h), None, None, None],
        [0x0064, 0xff9b, 1, ..] => translated(address),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => [v4(high, low), None, None, None],
        // Teredo (RFC 4380): the server, and the client with its bits turned over.
        [0x2001, 0, high, low, ..] => [v4(high, low), v4(!g, !h), None, None],
        _ => [None; 4],
    }
}

/// NAT64 of a network's own (RFC 8215), whose prefix has 48, 56, 64 or 96 bits: which one, the address does
/// not tell. What begins with 0 is of another length.
fn translated(address: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    let [.., x6, x7, _, x9, x10, x11, x12, x13, x14, x15] = address.octets();
    let forms = [
        [x6, x7, x9, x10],
        [x7, x9, x10, x11],
        [x9, x10, x11, x12],
        [x12, x13, x14, x15],
    ];
    forms.map(|[first, b, c, d]| (first != 0).then(|| Ipv4Addr::new(first, b, c, d)))
}
