use super::Filter;

#[test]
fn a_filter_is_a_level_and_exceptions_from_it() {
    for good in [
        "info",
        "WARN",
        "off",
        "warn,access=info",
        "access=off,info",
        "info, proxy_gateway::forward=debug",
    ] {
        assert!(good.parse::<Filter>().is_ok(), "{good}");
    }
}

#[test]
fn a_filter_that_would_silence_the_log_is_refused_with_what_is_allowed() {
    for (bad, expect) in [
        (
            "nonsense",
            "write one of off, error, warn, info, debug, trace",
        ),
        ("", "write one of off"),
        ("!", "\"!\" is not a level"),
        ("info,access", "\"access\" is not a level"),
        ("access=off", "write info,access=off"),
        ("info,access=loud", "\"loud\" is not a level"),
        ("info,=warn", "is not a level"),
        ("info,debug", "more than one level"),
    ] {
        let message = bad.parse::<Filter>().expect_err(bad);
        assert!(message.contains(expect), "{bad}: {message}");
    }
}
