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
