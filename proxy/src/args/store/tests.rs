use clap::Parser as _;

use crate::args::ProxyArgs;

#[test]
fn no_error_repeats_the_password() {
    for address in [
        "redis://user:hunter2@[::1",
        "rediss:hunter2@x/y/z",
        "redis://:hunter2@host/x",
        "hunter2",
    ] {
        let line = ["tundish-proxy", "--quota-store", address];
        let error = ProxyArgs::try_parse_from(line).unwrap_err();
        let text = error.to_string();
        assert!(!text.contains("hunter2"), "{text}");
        let start = "error: invalid value for '--quota-store <URL>': ";
        assert!(text.starts_with(start), "{text}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn no_debug_output_of_flags_shows_a_secret() {
    let line = [
        "tundish-proxy",
        "--operator=https://operator:8443",
        "--operator-ca=ca.crt",
        "--token-file=token",
        "--replica=a",
        "--quota-store=redis://:hunter2@store:6379",
        "--identity-header=hunter2",
    ];
    let args = ProxyArgs::try_parse_from(line).unwrap();
    let shown = format!("{args:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("store:6379"), "{shown}");
}
