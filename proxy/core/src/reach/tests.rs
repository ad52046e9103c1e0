use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{Allowance, InvalidAllowance, InvalidNetwork, Network, OutOfReach, Reach, Zone};

fn reach(allowances: &[&str], cluster: &[&str]) -> Reach {
    let allowances = allowances.iter().map(|one| one.parse().expect(one));
    let cluster = cluster.iter().map(|one| one.parse().expect(one));
    Reach::new(allowances.collect(), cluster.collect())
}

fn zone(reach: &Reach, address: &str) -> Option<Zone> {
    let judged = reach.judge("backend.example", address.parse().expect(address));
    judged.err().map(|OutOfReach { zone, .. }| zone)
}

#[test]
fn special_addresses_are_closed_in_every_form() {
    let reach = reach(&[], &["10.96.0.0/12", "fd10::/16"]);
    for (address, expect) in [
        ("169.254.169.254", Zone::Metadata),
        ("169.254.170.2", Zone::Metadata),
        ("168.63.129.16", Zone::Metadata),
        ("fd00:ec2::254", Zone::Metadata),
        ("fd00:ec2::23", Zone::Metadata),
        ("::ffff:169.254.169.254", Zone::Metadata),
        ("::169.254.169.254", Zone::Metadata),
        ("64:ff9b::169.254.169.254", Zone::Metadata),
        ("64:ff9b:1::169.254.169.254", Zone::Metadata),
        // The same behind prefixes of 48, 56 and 64 bits.
        ("64:ff9b:1:a9fe:a9:fe00::", Zone::Metadata),
        ("64:ff9b:1:a9:fe:a9fe::", Zone::Metadata),
        ("64:ff9b:1:0:a9:fea9:fe00:0", Zone::Metadata),
        ("2002:a9fe:a9fe::1", Zone::Metadata),
        ("2001:0:7f00:1::", Zone::Loopback),
        ("2001:0:808:808::80ff:fffe", Zone::Loopback),
        ("127.0.0.1", Zone::Loopback),
        ("127.255.0.7", Zone::Loopback),
        ("::1", Zone::Loopback),
        ("::ffff:127.0.0.1", Zone::Loopback),
        ("64:ff9b::7f00:1", Zone::Loopback),
        ("2002:7f00:1::", Zone::Loopback),
        ("0.0.0.0", Zone::Unspecified),
        ("0.1.2.3", Zone::Unspecified),
        ("::", Zone::Unspecified),
        ("169.254.0.1", Zone::LinkLocal),
        ("fe80::1", Zone::LinkLocal),
        ("224.0.0.1", Zone::Multicast),
        ("ff02::1", Zone::Multicast),
        ("255.255.255.255", Zone::Reserved),
        ("10.96.0.1", Zone::Cluster),
        ("10.111.255.255", Zone::Cluster),
        ("::ffff:10.96.0.1", Zone::Cluster),
        ("64:ff9b::a60:1", Zone::Cluster),
        ("fd10::1", Zone::Cluster),
    ] {
        assert_eq!(zone(&reach, address), Some(expect), "{address}");
    }
}

#[test]
fn public_and_private_addresses_are_open() {
    let reach = reach(&[], &["10.96.0.0/12"]);
    for address in [
        "8.8.8.8",
        "10.0.0.4",
        "10.112.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "2603:1030::1",
        "fd00::1",
        "fdff:ffff::1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::8.8.8.8",
        "2002:808:808::1",
    ] {
        assert_eq!(zone(&reach, address), None, "{address}");
    }
}

#[test]
fn an_allowance_opens_what_it_names() {
    let cluster = ["10.96.0.0/12"];
    let opened =
        |allowance: &str, address: &str| zone(&reach(&[allowance], &cluster), address).is_none();
    assert!(opened("loopback", "127.0.0.1"));
    assert!(opened("loopback", "::1"));
    assert!(opened("loopback", "::ffff:127.0.0.1"));
    assert!(!opened("loopback", "169.254.169.254"));
    assert!(!opened("loopback", "10.96.0.1"));
    assert!(opened("cluster", "10.96.0.1"));
    assert!(!opened("cluster", "127.0.0.1"));
    assert!(opened("10.97.0.0/16", "10.97.1.2"));
    assert!(!opened("10.97.0.0/16", "10.98.1.2"));
    assert!(opened("169.254.169.254", "169.254.169.254"));
    assert!(!opened("169.254.169.254", "169.254.169.253"));
}

#[test]
fn an_allowed_name_may_be_in_the_cluster_and_nowhere_else() {
    let reach = reach(&["*.models.svc"], &["10.96.0.0/12"]);
    let judge = |host: &str, address: [u8; 4]| reach.judge(host, address.into()).is_ok();
    assert!(judge("vllm.models.svc", [10, 96, 0, 1]));
    assert!(judge("VLLM.models.svc.", [10, 96, 0, 1]));
    assert!(!judge("vllm.other.svc", [10, 96, 0, 1]));
    // An ExternalName Service points anywhere.
    assert!(!judge("vllm.models.svc", [169, 254, 169, 254]));
    assert!(!judge("vllm.models.svc", [127, 0, 0, 1]));
}

#[test]
fn names_are_judged_as_far_as_they_tell() {
    let reach = reach(&["*.models.svc"], &[]);
    let zone = |host: &str| reach.judge_host(host).err().map(|one| one.zone);
    for (host, expect) in [
        ("localhost", Some(Zone::Loopback)),
        ("LOCALHOST.", Some(Zone::Loopback)),
        ("a.localhost", Some(Zone::Loopback)),
        ("kubernetes.default.svc", Some(Zone::Cluster)),
        ("kubernetes.default.svc.cluster.local.", Some(Zone::Cluster)),
        ("kubernetes", Some(Zone::Cluster)),
        ("metadata.google.internal", Some(Zone::Metadata)),
        ("[::1]", Some(Zone::Loopback)),
        ("127.0.0.1", Some(Zone::Loopback)),
        ("vllm.models.svc", None),
        ("contoso.services.ai.azure.com", None),
        ("10.0.0.4", None),
        ("mysvc.example.com", None),
    ] {
        assert_eq!(zone(host), expect, "{host}");
    }
}

#[test]
fn a_refusal_names_the_place_and_its_zone() {
    let judged = Reach::default().judge("a.example", Ipv4Addr::LOCALHOST.into());
    assert_eq!(
        judged.expect_err("closed").to_string(),
        "127.0.0.1 is the gateway's own machine, where this installation allows no backends"
    );
}

#[test]
fn allowances_are_read_as_they_are_written() {
    for text in [
        "loopback",
        "cluster",
        "10.0.0.0/16",
        "fd00::/8",
        "*.models.svc",
        "vllm.models.svc",
    ] {
        let parsed: Allowance = text.parse().expect(text);
        assert_eq!(parsed.to_string(), text);
    }
    assert_eq!(
        "10.0.0.1".parse::<Allowance>().expect("one").to_string(),
        "10.0.0.1/32"
    );
    for (text, expect) in [
        ("", InvalidAllowance::Form),
        ("everything", InvalidAllowance::Form),
        ("http://a.b", InvalidNetwork::Form.into()),
        ("a.*.svc", InvalidAllowance::Form),
        ("10.0.0.0/33", InvalidNetwork::Form.into()),
        ("10.0.0.1/8", InvalidNetwork::HostBits.into()),
        ("fd00::1/64", InvalidNetwork::HostBits.into()),
    ] {
        assert_eq!(text.parse::<Allowance>(), Err(expect), "{text}");
    }
}

proptest! {
    #[test]
    fn a_network_has_the_addresses_that_begin_as_it_does(bits: u32, prefix in 0_u8..=32, other: u32) {
        let shift = 32 - u32::from(prefix);
        let cut = |bits: u32| bits.checked_shr(shift).unwrap_or(0);
        let first = cut(bits).checked_shl(shift).unwrap_or(0);
        let network: Network = format!("{}/{prefix}", Ipv4Addr::from(first)).parse().expect("a network");
        let other_address = IpAddr::V4(Ipv4Addr::from(other));
        prop_assert_eq!(network.contains(other_address), cut(other) == cut(bits));
        prop_assert!(network.contains(IpAddr::V4(Ipv4Addr::from(bits))));
    }

    #[test]
    fn what_is_closed_for_ipv4_is_closed_behind_every_translator(bits: u32) {
        let v4 = Ipv4Addr::from(bits);
        let reach = reach(&[], &["10.0.0.0/8"]);
        let [a, b, c, d] = v4.octets().map(u16::from);
        let (high, low) = (a << 8 | b, c << 8 | d);
        let closed = reach.judge("h", v4.into()).is_err();
        for form in [
            v4.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        ] {
            prop_assert_eq!(reach.judge("h", form.into()).is_err(), closed, "{}", form);
        }
    }
}
