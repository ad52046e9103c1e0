use super::*;

fn check(url: &str, plaintext: bool, expect: Result<(&str, u16, bool), &str>) {
    let config = Config {
        operators: vec![url.to_owned()],
        ca_file: Some("ca.pem".into()),
        token_file: None,
        replica: "p1".to_owned(),
        last_good: None,
        snapshot: None,
        keep_credentials: false,
        allow_plaintext: plaintext,
        max_table_age: None,
    };
    match (config.parsed(), expect) {
        (Ok(found), Ok((host, port, tls))) => {
            let one = &found[0];
            assert_eq!((&*one.host, one.port, one.tls), (host, port, tls));
        }
        (Err(error), Err(reason)) => assert!(error.to_string().contains(reason), "{error}"),
        (found, _) => panic!("{url}: {found:?}"),
    }
}

#[test]
fn addresses_of_operators_are_parsed() {
    check("https://operator:8443", false, Ok(("operator", 8443, true)));
    check(
        "https://operator.ns.svc",
        false,
        Ok(("operator.ns.svc", 443, true)),
    );
    check("https://[::1]:1", false, Ok(("::1", 1, true)));
    check("http://127.0.0.1:80", true, Ok(("127.0.0.1", 80, false)));
    check("http://operator:80", false, Err("use https"));
    check("operator:8443", false, Err("not https"));
    check("ftp://operator", false, Err("not https"));
    check("", false, Err("operator \"\""));
}

#[test]
fn https_needs_a_ca_and_an_operator() {
    let nobody = Config {
        operators: Vec::new(),
        ca_file: None,
        token_file: None,
        replica: "p1".to_owned(),
        last_good: None,
        snapshot: None,
        keep_credentials: false,
        allow_plaintext: false,
        max_table_age: None,
    };
    assert!(matches!(nobody.parsed(), Err(ConfigError::NoOperator)));
    let without_ca = Config {
        operators: vec!["https://operator".to_owned()],
        ..nobody
    };
    assert!(matches!(
        without_ca.parsed(),
        Err(ConfigError::Operator { .. })
    ));
}
