use std::net::IpAddr;

use proptest::prelude::*;

use super::{InvalidHeader, MOST_BYTES, PREFIX_BYTES, Prefix, SIGNATURE};

fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("short");
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(length.to_be_bytes());
    header.extend(rest);
    header
}

fn read(bytes: &[u8]) -> Result<Option<IpAddr>, InvalidHeader> {
    let (prefix, rest) = bytes
        .split_first_chunk::<PREFIX_BYTES>()
        .expect("it has a prefix");
    let prefix = Prefix::read(*prefix)?;
    prefix.client(rest.get(..prefix.length).unwrap_or(rest))
}

fn check(command: u8, family: u8, rest: &[u8], expect: Result<Option<&str>, InvalidHeader>) {
    let found = read(&header(command, family, rest));
    let expect = expect.map(|address| address.map(|text| text.parse().expect("an address")));
    assert_eq!(found, expect, "{command:#x} {family:#x} {rest:?}");
}

const V4: [u8; 12] = [203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

fn v6(source: &str) -> Vec<u8> {
    let source: std::net::Ipv6Addr = source.parse().expect("an address");
    let mut both = source.octets().to_vec();
    both.extend([0; 20]);
    both
}

#[test]
fn the_source_is_the_client() {
    check(0x21, 0x11, &V4, Ok(Some("203.0.113.9")));
    check(0x21, 0x21, &v6("2001:db8::1"), Ok(Some("2001:db8::1")));
    check(0x21, 0x21, &v6("::ffff:192.0.2.7"), Ok(Some("192.0.2.7")));
}

#[test]
fn what_is_behind_the_addresses_is_skipped() {
    let with_tlv = [&V4[..], &[0x04, 0, 2, b'x', b'y']].concat();
    check(0x21, 0x11, &with_tlv, Ok(Some("203.0.113.9")));
    let longest = [&V4[..], &vec![0; MOST_BYTES - V4.len()]].concat();
    check(0x21, 0x11, &longest, Ok(Some("203.0.113.9")));
}

#[test]
fn a_balancer_that_speaks_for_itself_is_the_client() {
    check(0x20, 0x00, &[], Ok(None));
    check(0x20, 0x11, &V4, Ok(None));
    check(0x21, 0x00, &[1, 2, 3], Ok(None));
}

#[test]
fn everything_else_is_refused() {
    check(0x22, 0x11, &V4, Err(InvalidHeader::Command));
    check(0x11, 0x11, &V4, Err(InvalidHeader::Command));
    // UDP, a Unix socket, and what has no meaning.
    for family in [0x12, 0x22, 0x31, 0x32, 0x10, 0xff] {
        check(0x21, family, &[0; 216], Err(InvalidHeader::Family));
    }
    check(0x21, 0x11, &V4[..11], Err(InvalidHeader::Incomplete));
    check(0x21, 0x21, &[0; 35], Err(InvalidHeader::Incomplete));
    let beyond = vec![0; MOST_BYTES + 1];
    check(0x21, 0x11, &beyond, Err(InvalidHeader::TooLong));
    for other in [
        "PROXY TCP4 203.0.113.9 10.0.0.1 4660 80\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        assert_eq!(read(other.as_bytes()), Err(InvalidHeader::Signature));
    }
}

proptest! {
    #[test]
    fn every_address_is_read_as_it_was_written(source: [u8; 4], port: [u8; 2], tlvs in proptest::collection::vec(any::<u8>(), 0..64)) {
        let rest = [&source[..], &[10, 0, 0, 1], &port, &[0, 80], &tlvs].concat();
        prop_assert_eq!(read(&header(0x21, 0x11, &rest)), Ok(Some(IpAddr::from(source))));
    }
}
