use http::uri::Authority;
use proptest::prelude::*;

use super::{is_name, plain_host, relative};

#[test]
fn the_usual_hosts_need_no_parser() {
    let check = |text, expect| assert_eq!(plain_host(text), expect, "{text:?}");
    check("ai.example.com", Some("ai.example.com"));
    check("ai.example.com.:8443", Some("ai.example.com."));
    check("10.0.0.1:80", Some("10.0.0.1"));
    for other in [
        "",
        ".",
        ":80",
        "a..b",
        ".a",
        "A.example",
        "a_b",
        "[::1]:80",
        "a:",
        "a:+1",
        "a:-1",
        "a:65536",
        "a:80:80",
        "user@a",
        "a b",
    ] {
        check(other, None);
    }
}

proptest! {
    #[test]
    fn a_host_without_the_parser_is_the_one_that_it_reads(text in "[a-zA-Z0-9.:_@-]{0,12}") {
        if let Some(host) = plain_host(&text) {
            let parsed: Authority = text.parse().expect("it is an authority");
            prop_assert_eq!(parsed.host(), host);
            prop_assert!(is_name(relative(host)));
            prop_assert_eq!(parsed.port_u16().is_some(), text.len() > host.len());
        }
    }
}
