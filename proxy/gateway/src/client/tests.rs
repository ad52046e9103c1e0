use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::address;

fn headers(lists: &[&str]) -> HeaderMap {
    let name = HeaderName::from_static("x-forwarded-for");
    let list = |list: &&str| HeaderValue::from_str(list).expect("a value");
    lists.iter().map(|one| (name.clone(), list(one))).collect()
}

fn check(lists: &[&str], trusted_hops: usize, expect: &str) {
    let peer: IpAddr = "192.0.2.1".parse().expect("an address");
    let found = address(peer, &headers(lists), trusted_hops);
    assert_eq!(found.to_string(), expect, "{lists:?}, {trusted_hops}");
}

#[test]
fn the_entry_of_the_outermost_trusted_proxy_counts() {
    let lists = ["203.0.113.9, 198.51.100.7", "10.0.0.3"];
    for (trusted_hops, expect) in [
        (0, "192.0.2.1"),
        (1, "10.0.0.3"),
        (2, "198.51.100.7"),
        (3, "203.0.113.9"),
        // Fewer entries than proxies: the peer did not come through all of them.
        (4, "192.0.2.1"),
    ] {
        check(&lists, trusted_hops, expect);
    }
}

#[test]
fn ports_and_brackets_are_no_part_of_an_address() {
    for (entry, expect) in [
        ("203.0.113.9:4711", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        (" \t203.0.113.9 ", "203.0.113.9"),
        ("unknown", "192.0.2.1"),
        ("", "192.0.2.1"),
        ("203.0.113.999", "192.0.2.1"),
    ] {
        check(&[entry], 1, expect);
    }
    check(&[], 1, "192.0.2.1");
}

proptest! {
    /// Whatever a client writes to the left of what the proxies add changes nothing.
    #[test]
    fn a_client_chooses_nothing(made_up in "[ -~]{0,40}", hops in 1_usize..4) {
        let proxies = ["203.0.113.1", "203.0.113.2", "203.0.113.3"];
        let added = proxies[..hops].join(", ");
        let list = format!("{made_up},{added}");
        check(&[&list], hops, "203.0.113.1");
        check(&[&made_up, &added], hops, "203.0.113.1");
    }
}
