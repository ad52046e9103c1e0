use clap::Parser as _;

use super::Config;
use crate::args::Args;

fn config(flags: &[&str]) -> Result<Config, clap::Error> {
    let args = Args::try_parse_from([&["tundish-operator"], flags].concat())?;
    Config::try_from(args)
}

#[test]
fn the_defaults_are_valid_and_follow_the_namespace() {
    let config = config(&["--namespace", "gateway"]).expect("the defaults are valid");
    assert_eq!(
        config.channel_names,
        [
            "tundish-operator.gateway.svc",
            "*.tundish-operator.gateway.svc",
            "localhost",
            "127.0.0.1"
        ]
    );
    assert_eq!(
        config.proxy_account,
        ("gateway".to_owned(), "tundish-proxy".to_owned())
    );
    assert!(config.controller.watch_namespaces.is_empty());
}

#[test]
fn two_operators_on_one_host_have_different_identities() {
    let identity = || {
        config(&[])
            .expect("the defaults are valid")
            .controller
            .identity
    };
    assert_ne!(identity(), identity());
}

#[test]
fn every_problem_is_reported_at_once() {
    let flags = [
        "--namespace=Upper",
        "--watch-namespace=fine,not_fine",
        "--proxy-service-account=a/b/c",
        "--channel-dns-name=*.*.x",
        "--audience=",
        "--checkpoint-config-map=Two Words",
        "--gateway-class=Two Words",
        "--gateway-namespace=not_a_label",
        "--gateway-service=_",
        "--gateway-certificate=_",
        "--identity=",
        "--admin=127.0.0.1:9000",
        "--channel-listen=127.0.0.1:9000",
        "--lease-renew-deadline=15",
    ];
    let error = config(&flags).expect_err("each flag is wrong").to_string();
    for flag in [
        "namespace",
        "watch-namespace",
        "proxy-service-account",
        "channel-dns-name",
        "checkpoint-config-map",
        "gateway-class",
        "gateway-namespace",
        "gateway-service",
        "gateway-certificate",
    ] {
        assert!(
            error.contains(&format!("--{flag}: ")),
            "{flag} is not in {error}"
        );
    }
    for part in [
        "\"not_fine\"",
        "--audience",
        "--identity",
        "--admin and --channel-listen",
        "--lease-duration, --lease-renew-deadline",
    ] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    assert!(!error.contains("\"fine\""), "{error}");
}

#[test]
fn the_proxies_may_run_in_another_namespace() {
    let config = config(&["--proxy-service-account=edge/proxy"]).expect("it is valid");
    assert_eq!(
        config.proxy_account,
        ("edge".to_owned(), "proxy".to_owned())
    );
}

#[test]
fn gateways_are_followed_only_with_a_class() {
    let gateways = |flags: &[&str]| config(flags).expect("it is valid").controller.gateways;
    assert_eq!(gateways(&["--gateway-service=proxies"]), None);
    let found = gateways(&["--gateway-class=edge", "--gateway-namespace=a,b"]);
    let found = found.expect("there is a class");
    assert_eq!((found.class.as_str(), found.namespaces.len()), ("edge", 2));
}
