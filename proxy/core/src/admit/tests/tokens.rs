use super::*;
use crate::admit::{Denial, Vouched};
use crate::auth::{Caller, Issuer, Mapping, Required, Source, Token, Trust};

fn issuer(scopes: &[&str]) -> Issuer {
    Issuer {
        trust: Trust {
            source: Source {
                issuer: "https://issuer.example".into(),
                jwks_uri: None,
            },
            audiences: vec!["api://ai".into()],
            mapping: Mapping {
                consumer: "sub".into(),
                attributes: Vec::new(),
            },
        },
        required: Required {
            scopes: scopes.iter().map(|one| (*one).into()).collect(),
            ..Required::default()
        },
    }
}

fn by_tokens(scopes: &[&str]) -> Authentication {
    Authentication {
        issuers: vec![issuer(scopes)],
        ..Authentication::default()
    }
}

fn token(scopes: &[&str]) -> Token {
    Token {
        source: issuer(&[]).trust.source,
        audiences: vec!["api://ai".into()],
        scopes: scopes.iter().map(|one| (*one).into()).collect(),
        roles: Vec::new(),
        client: None,
    }
}

/// A good token, as the gateway shows it for the host `h`.
fn vouched(table: &Table, token: Token) -> Vouched {
    match table.home("h", &token) {
        Some(home) => {
            let token = Arc::new(token);
            let caller = Caller::by_token(&home.namespace, "eve".into(), Vec::new(), token);
            Vouched::Caller(caller.into())
        }
        None => Vouched::Elsewhere,
    }
}

/// The route that serves a caller with this credential besides others, and the caller's name.
fn serve(
    table: &Table,
    vouched: Vouched,
    others: &[&str],
    model: &str,
) -> Result<(String, String), Code> {
    let mut shown = credentials(others);
    shown.push(Judged {
        vouched,
        ..Judged::key("token")
    });
    let code = |denial: Denial| denial.code;
    let caller = authenticate(table, "h", &shown, NOW).map_err(code)?.caller;
    let headers = HeaderMap::new();
    let permit = admit(table, &caller, &ask(&headers, model)).map_err(code)?;
    Ok((permit.route.name.to_string(), caller.full_name.to_string()))
}

fn table_of(routes: Vec<Route>) -> Table {
    let keys = vec![key("a/ann"), key("b/bob")];
    Table::new(Contents::new(vec![backend()], routes, Vec::new(), keys))
}

fn served(route: &str, caller: &str) -> Result<(String, String), Code> {
    Ok((route.to_owned(), caller.to_owned()))
}

#[test]
fn a_token_is_of_a_consumer_of_the_namespace_that_lists_its_issuer() {
    let table = table_of(vec![
        route_of("a/keys", "*", keys(&["a/ann"])),
        route_of("b/tokens", "*", by_tokens(&[])),
    ]);
    let good = vouched(&table, token(&[]));
    assert_eq!(serve(&table, good, &[], "m"), served("b/tokens", "b/eve"));
}

#[test]
fn a_specific_route_of_the_namespace_is_not_bypassed() {
    let table = table_of(vec![
        route_of("a/broad", "*", by_tokens(&[])),
        route_of("a/keys", "gpt-4o", keys(&["a/ann"])),
        route_of("a/scoped", "mini-*", by_tokens(&["write"])),
    ]);
    let with = |scopes: &[&str], model| serve(&table, vouched(&table, token(scopes)), &[], model);
    assert_eq!(with(&["write"], "m"), served("a/broad", "a/eve"));
    assert_eq!(with(&["write"], "gpt-4o"), Err(Code::Forbidden));
    assert_eq!(with(&["write"], "mini-ptu"), served("a/scoped", "a/eve"));
    assert_eq!(with(&["read"], "mini-ptu"), Err(Code::Forbidden));
}

#[test]
fn a_rejected_route_keeps_the_traffic_of_its_tokens() {
    let mut rejected = route_of("a/one", "gpt-4o", by_tokens(&[]));
    rejected.rejected = Some("broken".into());
    let table = table_of(vec![rejected, route_of("a/two", "*", by_tokens(&[]))]);
    let good = || vouched(&table, token(&[]));
    assert_eq!(
        serve(&table, good(), &[], "gpt-4o"),
        Err(Code::RouteRejected)
    );
    assert_eq!(serve(&table, good(), &[], "m"), served("a/two", "a/eve"));
}

#[test]
fn a_token_that_fails_is_refused_where_anybody_may_call() {
    for authentication in [ANONYMOUS, PASS_THROUGH, keys(&["a/ann"])] {
        let table = table_of(vec![route_of("a/open", "*", authentication)]);
        let failed = Vouched::Failed(Denial::new(Code::ExpiredCredential, "it has expired"));
        let expired = Err(Code::ExpiredCredential);
        assert_eq!(serve(&table, failed.clone(), &[], "m"), expired);
        assert_eq!(serve(&table, failed.clone(), &["junk"], "m"), expired);
        let ambiguous = Err(Code::AmbiguousCredential);
        assert_eq!(serve(&table, failed, &["ann"], "m"), ambiguous);
    }
}

#[test]
fn a_good_token_of_elsewhere_is_never_passed_through() {
    let elsewhere = Vouched::Elsewhere;
    let table = table_of(vec![route_of("a/pass", "*", PASS_THROUGH)]);
    assert_eq!(
        serve(&table, elsewhere.clone(), &[], "m"),
        Err(Code::Forbidden)
    );
    let table = table_of(vec![route_of("a/open", "*", ANONYMOUS)]);
    assert_eq!(
        serve(&table, elsewhere, &[], "m"),
        served("a/open", "anonymous")
    );
}

#[test]
fn issuers_of_a_route_with_pass_through_admit_no_caller() {
    let both = Authentication {
        pass_through: true,
        ..by_tokens(&[])
    };
    let table = table_of(vec![
        route_of("a/pass", "gpt-4o", both),
        route_of("a/tokens", "*", by_tokens(&[])),
    ]);
    let good = || vouched(&table, token(&[]));
    assert_eq!(serve(&table, good(), &[], "gpt-4o"), Err(Code::Forbidden));
    assert_eq!(serve(&table, good(), &[], "m"), served("a/tokens", "a/eve"));
}

#[test]
fn junk_beside_a_token_hides_nothing() {
    let table = table_of(vec![route_of("a/tokens", "*", by_tokens(&[]))]);
    let good = || vouched(&table, token(&[]));
    let eve = served("a/tokens", "a/eve");
    assert_eq!(serve(&table, good(), &["junk"], "m"), eve);
    let ambiguous = Err(Code::AmbiguousCredential);
    assert_eq!(serve(&table, good(), &["ann"], "m"), ambiguous);
}

#[test]
fn without_a_model_only_routes_of_the_own_namespace_count() {
    let table = table_of(vec![
        route_of("a/open", "*", ANONYMOUS),
        route_of("b/tokens", "*", by_tokens(&[])),
    ]);
    let Vouched::Caller(caller) = vouched(&table, token(&[])) else {
        panic!("a route lists it");
    };
    let headers = HeaderMap::new();
    let ask = Ask {
        model: None,
        ..ask(&headers, "")
    };
    let permit = admit_for_some_model(&table, &caller, &ask, |_| true).expect("admitted");
    let route = permit.map(|permit| permit.route.name.to_string());
    assert_eq!(route.as_deref(), Some("b/tokens"));
}
