use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::Admitted;
use crate::route::HostPattern;
use crate::table::{Authentication, Contents, Route, Table};
use crate::test_util::{object, route, rule};

const SECRETS: [&str; 3] = ["ann", "ben", "cat"];
const HOSTS: [&str; 4] = ["a.example", "b.example", "example", "else"];
const PATTERNS: [&str; 4] = ["a.example", "*.example", "else", "*.a.example"];

fn any_route() -> impl Strategy<Value = Arc<Route>> {
    let flag = || prop::bool::weighted(0.15);
    let parts = (
        subsequence(PATTERNS.to_vec(), 0..=2),
        subsequence(SECRETS.to_vec(), 0..=3),
        (flag(), flag(), flag()),
    );
    parts.prop_map(|(hosts, keys, (anonymous, pass_through, unreadable))| {
        let hosts = hosts.into_iter().filter_map(HostPattern::parse);
        Arc::new(Route {
            hostnames: hosts.collect(),
            authentication: Authentication {
                keys: keys.into_iter().map(object).collect(),
                issuers: Vec::new(),
                anonymous,
                pass_through,
                unreadable,
            },
            ..route("r", Vec::new())
        })
    })
}

proptest! {
    /// The index says what asking each route would.
    #[test]
    fn a_key_is_admitted_if_a_route_of_the_host_admits_it(
        routes in vec(any_route(), 0..6),
        host in select(HOSTS.to_vec()),
        secret in select(SECRETS.to_vec()),
    ) {
        let secret = object(secret);
        let may_admit = |route: &Arc<Route>| {
            let accepted = &route.authentication;
            route.serves(host) && (accepted.admits_key(&secret) || accepted.unreadable)
        };
        let expect = routes.iter().any(may_admit);
        prop_assert_eq!(Admitted::new(routes).has(host, &secret), expect);
    }
}

#[test]
fn a_table_takes_the_index_of_a_namespace_whose_routes_are_the_same() {
    let contents = |changed: &str| {
        let with = |name: &str, key: &str| {
            let mut route = route(name, vec![rule("all", Vec::new())]);
            route.authentication.keys = vec![object(key)].into();
            route
        };
        let routes = vec![with("a/r", "a/k"), with("b/r", changed)];
        Contents::new(Vec::new(), routes, Vec::new(), Vec::new())
    };
    let before = Table::new(contents("b/k"));
    let after = Table::after(&before, contents("b/other"));
    let of = |table: &Table, namespace: &str| {
        let found = table.tenancy().namespace(namespace).expect("it is there");
        Arc::clone(&found.admitted)
    };
    assert!(Arc::ptr_eq(&of(&before, "a"), &of(&after, "a")));
    assert!(!Arc::ptr_eq(&of(&before, "b"), &of(&after, "b")));
    assert!(of(&after, "b").has("h", &object("b/other")));
    assert!(!of(&after, "b").has("h", &object("b/k")));
}
