use proptest::prelude::*;

use super::{Kind, StoreAddress};

fn read(text: &str) -> StoreAddress {
    text.parse().expect("an address")
}

#[test]
fn every_form_of_address_is_read() {
    for (text, shown, kind) in [
        ("redis://cache", "redis://cache:6379", Kind::Single),
        (
            "redis://127.0.0.1:7000/2",
            "redis://127.0.0.1:7000/2",
            Kind::Single,
        ),
        (
            "rediss://u:p@[::1]:7000",
            "rediss://[::1]:7000",
            Kind::Single,
        ),
        ("valkeys://cache", "rediss://cache:6379", Kind::Single),
        ("redis://a:1,b,c:3", "redis://a:1,b:6379,c:3", Kind::Cluster),
        (
            "redis+sentinel://:secret@a,b:1/main/3",
            "redis+sentinel://a:26379,b:1/main",
            Kind::Sentinel {
                primary: "main".to_owned(),
            },
        ),
    ] {
        let address = read(text);
        assert_eq!(
            (address.to_string().as_str(), &address.kind),
            (shown, &kind)
        );
    }
}

#[test]
fn a_password_is_decoded_and_never_shown() {
    let address = read("redis://me:p%40ss%2Fword@cache:6379");
    let password = address.password.as_ref().map(|p| p.expose().to_owned());
    assert_eq!(address.user.as_deref(), Some("me"));
    assert_eq!(password.as_deref(), Some("p@ss/word"));
    assert!(!format!("{address:?} {address}").contains("p@ss"));
}

#[test]
fn an_invalid_address_is_refused_with_a_reason() {
    for (text, why) in [
        ("cache:6379", "scheme is missing"),
        ("http://cache", "scheme is not known"),
        ("redis://", "host"),
        ("redis://cache:port", "host"),
        ("redis://cache/x", "database"),
        ("redis://a,b/1", "cluster"),
        ("redis+sentinel://a,b", "primary"),
        ("redis://cache?x=1", "parameters"),
    ] {
        let error = text.parse::<StoreAddress>().expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn a_displayed_address_reads_back_without_the_login(text in "(redis|rediss|valkey|redis\\+sentinel)://([a-z]{1,3}:[a-z%2@]{0,6}@)?[a-z0-9.\\[\\]:,-]{0,20}(/[a-z0-9]{0,4}){0,2}") {
        if let Ok(address) = text.parse::<StoreAddress>() {
            let again: StoreAddress = address.to_string().parse().expect("what is shown is an address");
            prop_assert_eq!(&again.hosts, &address.hosts);
            prop_assert_eq!((again.tls, again.kind), (address.tls, address.kind));
        }
    }
}
