use proxy_core::route::HostPattern;

use super::{HostGrant, InvalidHostGrant};

fn covers(grant: &str, host: &str) -> bool {
    let grant: HostGrant = grant.parse().expect("a grant");
    let host = HostPattern::parse(host);
    grant.covers(host.as_ref(), "a")
}

#[test]
fn a_grant_covers_what_its_pattern_covers_and_no_more() {
    for (grant, host) in [
        ("ai.example.com=a", "AI.example.com"),
        ("*.example.com=b,a", "ai.example.com"),
        ("*.example.com=a", "*.example.com"),
        ("*.example.com=a", "*.dev.example.com"),
        ("*=a", "ai.example.com"),
        ("*=a", "*.com"),
        // No host: every one.
        ("*=a", ""),
    ] {
        assert!(covers(grant, host), "{grant} {host}");
    }
    for (grant, host) in [
        ("ai.example.com=b", "ai.example.com"),
        ("ai.example.com=a", "other.example.com"),
        ("ai.example.com=a", "*.example.com"),
        ("*.example.com=a", "example.com"),
        ("*.dev.example.com=a", "*.example.com"),
        ("*.example.com=a", "*.anexample.com"),
        ("*.example.com=a", ""),
    ] {
        assert!(!covers(grant, host), "{grant} {host}");
    }
}

#[test]
fn a_grant_is_a_pattern_and_namespaces() {
    let parse = |text: &str| text.parse::<HostGrant>().map(|grant| grant.to_string());
    assert_eq!(
        parse("AI.example.com = a, b"),
        Ok("ai.example.com=a,b".into())
    );
    assert_eq!(parse("*=a"), Ok("*=a".into()));
    assert_eq!(parse("ai.example.com"), Err(InvalidHostGrant::Form));
    for text in ["=a", "a.*.b=a", "https://x=a", "**=a"] {
        assert_eq!(parse(text), Err(InvalidHostGrant::Host), "{text}");
    }
    for text in ["*=", "*=a,", "*=*", "*=A"] {
        assert_eq!(parse(text), Err(InvalidHostGrant::Namespace), "{text}");
    }
}
