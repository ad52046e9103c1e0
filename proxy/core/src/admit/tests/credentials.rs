use super::*;

fn shown(table: &Table, credentials: &[&str]) -> Result<(String, Option<usize>), Code> {
    let authenticated = authenticate(table, "h", &self::credentials(credentials), NOW);
    authenticated
        .map(|one| (one.caller.full_name.to_string(), one.credential))
        .map_err(|denial| denial.code)
}

#[test]
fn of_several_credentials_the_known_one_counts() {
    let expired = Key {
        expires_ms: Some(0),
        ..key("a/old")
    };
    for authentication in [keys(&["a/ann"]), ANONYMOUS, PASS_THROUGH] {
        let is_closed = !authentication.anonymous && !authentication.pass_through;
        let stranger = KeyDigest::of("junk").fingerprint();
        let secrets = vec![key("a/ann"), expired.clone(), key("b/eve")];
        let routes = vec![route_of("a/chat", "*", authentication)];
        let contents = Contents::new(vec![backend()], routes, Vec::new(), secrets);
        let table = Table::new(contents);
        let ann = |place| Ok(("a/ann".to_owned(), Some(place)));
        assert_eq!(shown(&table, &["ann"]), ann(0));
        assert_eq!(shown(&table, &["junk", "ann"]), ann(1));
        assert_eq!(shown(&table, &["ann", "junk"]), ann(0));
        assert_eq!(shown(&table, &["ann", "ann", "junk"]), ann(0));
        let two = Err(Code::AmbiguousCredential);
        assert_eq!(shown(&table, &["ann", "eve"]), two);
        assert_eq!(shown(&table, &["junk", "ann", "old"]), two);
        // Neither anonymous nor passed through, since it is known.
        let old = Err(Code::ExpiredCredential);
        assert_eq!(shown(&table, &["old"]), old);
        assert_eq!(shown(&table, &["junk", "old"]), old);
        let unknown = if is_closed {
            Err(Code::InvalidCredential)
        } else {
            Ok((stranger, Some(0)))
        };
        assert_eq!(shown(&table, &["junk", "other"]), unknown);
    }
}

#[test]
fn an_unknown_key_of_ours_is_no_stranger() {
    let whole = crate::auth::form::make("a", [1; 20]).expect("a namespace");
    let mistyped = whole.replace('4', "5");
    assert_ne!(whole, mistyped);
    for authentication in [keys(&["a/ann"]), ANONYMOUS, PASS_THROUGH] {
        let routes = vec![route_of("a/chat", "*", authentication)];
        let contents = Contents::new(vec![backend()], routes, Vec::new(), vec![key("a/ann")]);
        let table = Table::new(contents);
        let refused = |shown: &str| {
            let denial = authenticate(&table, "h", &credentials(&[shown]), NOW);
            let denial = denial.expect_err("it is no stranger");
            assert_eq!(denial.code, Code::InvalidCredential);
            denial.message
        };
        assert_eq!(refused(&whole), "the API key is not known");
        for damaged in [&*mistyped, &whole[..20], "tdh_"] {
            let message = refused(damaged);
            assert!(message.contains("mistyped or cut off"), "{message}");
        }
        // Junk before a known one hides nothing.
        assert!(shown(&table, &[&mistyped, "ann"]).is_ok());
    }
}

#[test]
fn a_credential_makes_no_consumer_where_none_is_needed() {
    let pass = route_of("a/pass", "pass", PASS_THROUGH);
    let table = shared_host(vec![route_of("a/open", "open", ANONYMOUS), pass]);
    let headers = HeaderMap::new();
    let stranger = authenticate(&table, "h", &credentials(&["junk"]), NOW).expect("passes through");
    let counted = |model: &str| {
        let permit = admit(&table, &stranger.caller, &ask(&headers, model)).expect("admitted");
        permit
            .caller(&table, &stranger.caller)
            .full_name
            .to_string()
    };
    assert_eq!(counted("open"), "anonymous");
    assert_eq!(counted("pass"), *stranger.caller.full_name);
}
