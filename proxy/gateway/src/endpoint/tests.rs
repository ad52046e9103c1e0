use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use proxy_core::balance::{Demand, HealthSettings, Outcome};
use proxy_core::names::{Class, Secret};
use proxy_core::quota::Unit;
use proxy_core::table::{Backend, BackendAuth, Contents, Quota, Route, Table};
use proxy_core::test_util::{backend, deployment, limit, object, quota, route, rule, target};

use proxy_identity::Identities;

use super::{Ended, Endpoint, Endpoints, Placed};
use crate::metrics::Metrics;
use crate::test_support::no_identity;
use crate::upstream::{Failed, Failure};
use proxy_admin::clock;

struct Process {
    endpoints: Endpoints,
    /// Of the tables so far, which are still in use.
    found: Mutex<Vec<Vec<Placed>>>,
    metrics: Metrics,
}

impl Process {
    fn new() -> Self {
        let metrics = Metrics::register(&mut Registry::default());
        let identities = Identities::new(no_identity(), metrics.identity.clone());
        Self {
            endpoints: Endpoints::new(proxy_api::ROWS, Arc::new(identities)),
            found: Mutex::default(),
            metrics,
        }
    }

    fn endpoint(&self, table: &Table, backend: &str) -> Placed {
        let found: Vec<Placed> = self
            .endpoints
            .publish(&table.contents().backends, |registry| {
                let declared = table.endpoints().iter();
                declared
                    .map(|one| registry.placed(one, &self.metrics))
                    .collect()
            });
        let name = object(backend).to_string();
        let of_backend = found.iter().find(|one| *one.endpoint.backend == *name);
        let endpoint = of_backend.expect("it is declared").clone();
        self.found.lock().push(found);
        endpoint
    }
}

fn east() -> Backend {
    Backend {
        deployments: vec![deployment("m", "m")],
        ..backend("east")
    }
}

fn west() -> Backend {
    Backend {
        name: object("west"),
        ..east()
    }
}

fn routes() -> Vec<Route> {
    let to = |name: &str, backend: &str| route(name, vec![rule("rule", vec![target(backend)])]);
    vec![to("a", "east"), to("b", "west")]
}

fn quotas() -> Vec<Quota> {
    vec![quota("q", vec![limit("l", Unit::Tokens, 1)])]
}

fn contents(backends: Vec<Backend>, routes: Vec<Route>) -> Contents {
    Contents::new(backends, routes, quotas(), Vec::new())
}

#[test]
fn a_change_of_one_route_touches_no_endpoint() {
    let process = Process::new();
    let before = Table::new(contents(vec![east(), west()], routes()));
    let (first, second) = (
        process.endpoint(&before, "east"),
        process.endpoint(&before, "west"),
    );
    assert_eq!(process.endpoints.changes(), 4, "two endpoints, two places");
    let mut changed = routes();
    changed[0].created_s += 1;
    changed.insert(0, route("0", Vec::new()));
    let after = Table::after(&before, contents(vec![east(), west()], changed));
    for (now, before) in [("east", first), ("west", second)] {
        let now = process.endpoint(&after, now);
        assert!(Arc::ptr_eq(&now.endpoint, &before.endpoint));
        assert!(Arc::ptr_eq(&now.place, &before.place));
    }
    assert_eq!(process.endpoints.changes(), 4);
    // The other route, its limits and its endpoints are the same entries.
    let of_b = |table: &Table| {
        let rule = table
            .rules()
            .iter()
            .find(|rule| rule.route.name == object("b"));
        let rule = rule.expect("it has a rule");
        (Arc::clone(&rule.route), Arc::clone(&rule.limits[0]))
    };
    let (before, after) = (of_b(&before), of_b(&after));
    assert!(Arc::ptr_eq(&before.0, &after.0));
    assert!(Arc::ptr_eq(&before.1, &after.1));
}

#[test]
fn an_endpoint_outlives_a_change_of_its_place() {
    let process = Process::new();
    let before = Table::new(contents(vec![east(), west()], routes()));
    let old = process.endpoint(&before, "east");
    let running = old.endpoint.call(clock::now(), &HealthSettings::default());
    let moved = Backend {
        endpoint: "https://moved.example".into(),
        auth: BackendAuth::ApiKey(Secret::new("new")),
        ..east()
    };
    let after = Table::after(&before, contents(vec![moved, west()], routes()));
    let new = process.endpoint(&after, "east");
    assert!(Arc::ptr_eq(&new.endpoint, &old.endpoint));
    assert_eq!(process.endpoints.changes(), 5, "one more place");
    assert_eq!(new.endpoint.load.get(), 1);
    drop(running);
    assert_eq!(new.endpoint.load.get(), 0);

    // A request of the table before keeps the address and the credential that it was judged for.
    let address = |at: &Placed| at.place.declared.backend.endpoint.to_string();
    assert_eq!(address(&old), "https://foundry.example");
    assert_eq!(old.place.declared.backend.auth, BackendAuth::None);
    assert_eq!(address(&new), "https://moved.example");
}

#[test]
fn an_address_that_cannot_be_used_leaves_the_endpoint_out() {
    let process = Process::new();
    let broken = Backend {
        endpoint: "nowhere".into(),
        ..east()
    };
    let table = Table::new(contents(vec![broken], routes()));
    assert!(process.endpoint(&table, "east").place.origin.is_none());
}

#[test]
fn backends_of_one_peer_share_their_connections() {
    let process = Process::new();
    let private = Backend {
        name: object("private"),
        server_name: Some("private.example".into()),
        ..east()
    };
    let table = Table::new(contents(vec![east(), private, west()], routes()));
    let number = |backend| {
        let place = process.endpoint(&table, backend).place;
        place.origin.as_ref().expect("an address").peer.number
    };
    assert_eq!(number("east"), number("west"));
    assert_ne!(number("east"), number("private"));
}

/// An endpoint that is called every two seconds, and takes 1.5 for each answer.
struct Called {
    endpoint: Arc<Endpoint>,
    metrics: Metrics,
    began: Instant,
}

impl Called {
    fn new() -> Self {
        let process = Process::new();
        let table = Table::new(contents(vec![east(), west()], routes()));
        Self {
            endpoint: process.endpoint(&table, "east").endpoint,
            metrics: process.metrics,
            began: clock::instant(),
        }
    }

    /// A call that comes to a status, or to none.
    fn call(&mut self, status: Option<u16>) {
        let failed = Failed {
            how: Failure::BrokeOff,
            cause: "it was cut".to_owned(),
        };
        let outcome = match status {
            Some(429) => Outcome::Throttled(Some(Duration::from_secs(1))),
            None | Some(500..) => Outcome::Failed,
            Some(_) => Outcome::Answered,
        };
        let status = status.map(|status| StatusCode::from_u16(status).expect("a status"));
        self.began += Duration::from_secs(2);
        let ended = Ended {
            result: status.ok_or(&failed),
            outcome: Some(outcome),
            request_id: &HeaderValue::from_static("id-1"),
            demand: Demand {
                size: 10,
                class: Class::Standard,
            },
            began: self.began,
            now: self.began + Duration::from_millis(1_500),
        };
        let settings = HealthSettings::default();
        self.endpoint.tried(&ended, &settings, &self.metrics);
    }
}

#[test]
fn failures_in_a_row_end_with_a_good_answer() {
    let mut called = Called::new();
    let mut after = |status: Option<u16>| {
        called.call(status);
        called.endpoint.failures.get()
    };
    assert_eq!([None, Some(429), Some(503)].map(&mut after), [1, 2, 3]);
    // A client's error says that the endpoint works.
    assert_eq!([Some(400), Some(500), Some(200)].map(after), [0, 1, 0]);
    assert_eq!(called.endpoint.answered.get(), 1);
    assert!(
        (called.endpoint.waited.get() - 7.5).abs() < 1e-9,
        "five answers"
    );
}

/// The messages of the lines that `statuses` cause.
fn lines(statuses: &[Option<u16>]) -> Vec<String> {
    let mut called = Called::new();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let writer = file.reopen().expect("the same file");
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(writer)
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        statuses.iter().for_each(|status| called.call(*status));
    });
    let text = std::fs::read_to_string(file.path()).expect("text");
    text.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_deployment_is_reported_once_when_it_goes_out_and_once_when_it_is_back() {
    let (failed, good) = (Some(503), Some(200));
    assert!(lines(&[failed, failed, failed, failed, good, failed]).is_empty());
    let line = |what: &str, reason: &str, rest: &str| {
        format!(
            "WARN proxy_gateway::endpoint: a deployment is {what} backend=\"ns/east\" deployment=\"m\" \
             reason=\"{reason}\" {rest}"
        )
    };
    let mut row = [failed, None, None, failed, None].to_vec();
    row.extend([failed; 20]);
    let cut = "out_ms=1000 code=\"upstream_failed\" cause=\"it was cut\" request_id=\"id-1\"";
    assert_eq!(lines(&row), [line("left out", "Failing", cut)]);
    let mut again = [failed; 9].to_vec();
    again.extend([good, good]);
    assert_eq!(
        lines(&again),
        [
            line(
                "left out",
                "Failing",
                "out_ms=1000 status=503 request_id=\"id-1\""
            ),
            line("back", "Failing", "out_ms=10000"),
        ]
    );
}

#[test]
fn a_deployment_that_throttles_again_and_again_is_reported_once_a_minute() {
    let (busy, good) = (Some(429), Some(200));
    // 58 seconds.
    let lines = lines(&[busy, good].repeat(14));
    let what: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split("a deployment is ").nth(1)?.split(' ').next())
        .collect();
    assert_eq!(what, ["left", "back"]);
}
