use proxy_admin::pages::backends::{BackendsPage, DeploymentState};

use proxy_admin::pages::backends::Proxies;
use proxy_core::table::{Backend, Contents, Table};
use proxy_core::test_util::{backend, deployment, route, rule, target};

use super::{declared, lines};

fn cells(page: BackendsPage) -> Vec<Vec<String>> {
    lines(page)
        .iter()
        .map(|line| line.split("  ").filter(|one| !one.is_empty()))
        .map(|cells| cells.map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

#[test]
fn an_operator_says_how_many_proxies_have_it() {
    let state = |deployment: &str, have: u64, reason: &str| DeploymentState {
        backend: "ns/a".to_owned(),
        deployment: deployment.to_owned(),
        state: "In".to_owned(),
        reason: reason.to_owned(),
        proxies: Some(Proxies {
            have,
            of: 3,
            out_on: Vec::new(),
        }),
        ..DeploymentState::default()
    };
    let page = BackendsPage {
        replicas: Some(4),
        reporting: Some(3),
        deployments: vec![state("well", 3, ""), state("partly", 2, "Failing")],
    };
    let cells = cells(page);
    assert_eq!(cells[0][..4], ["BACKEND", "DEPLOYMENT", "STATE", "PROXIES"]);
    assert_eq!(cells[1][..5], ["ns/a", "partly", "In", "2/3", "Failing"]);
    assert_eq!(cells[2][..5], ["ns/a", "well", "In", "3/3", "-"]);
    let last = "of all proxies; 3 of 4 have reported to the operator";
    assert_eq!(cells[3], [last]);
}

#[test]
fn a_folder_has_what_rules_use_without_a_state() {
    let used = Backend {
        deployments: vec![deployment("a", "m"), deployment("b", "m")],
        ..backend("used")
    };
    let rules = vec![
        rule("one", vec![target("used")]),
        rule("two", vec![target("used")]),
    ];
    let backends = vec![used, backend("unused")];
    let table = Table::new(Contents::new(
        backends,
        vec![route("r", rules)],
        Vec::new(),
        Vec::new(),
    ));
    let page = declared(&table);
    let shown: Vec<(&str, &str, &str)> = page
        .deployments
        .iter()
        .map(|one| (&*one.backend, &*one.deployment, &*one.state))
        .collect();
    assert_eq!(shown, [("ns/used", "a", "-"), ("ns/used", "b", "-")]);
    assert_eq!(cells(page)[1][..3], ["ns/used", "a", "-"]);
}

#[test]
fn what_is_out_comes_first_with_its_reason_and_times() {
    let healthy = DeploymentState {
        backend: "ns/a".to_owned(),
        deployment: "gpt-4o".to_owned(),
        state: "In".to_owned(),
        in_flight: 3,
        first_byte_ms: Some(240),
        utilisation_percent: Some(64),
        cached_input_percent: Some(87),
        ..DeploymentState::default()
    };
    let out = DeploymentState {
        backend: "ns/b".to_owned(),
        deployment: "gpt-4o".to_owned(),
        state: "Out".to_owned(),
        reason: "CredentialRefused".to_owned(),
        cause: "PermissionDenied".to_owned(),
        out_ms: Some(61_001),
        retry_in_ms: Some(0),
        failures_in_a_row: 2,
        ..DeploymentState::default()
    };
    let page = BackendsPage {
        deployments: vec![healthy, out],
        ..BackendsPage::default()
    };
    let cells = cells(page);
    let expected = [
        "ns/b",
        "gpt-4o",
        "Out",
        "CredentialRefused",
        "62s",
        "0s",
        "0",
        "2",
        "-",
        "-",
        "-",
        "PermissionDenied",
    ];
    assert_eq!(cells[1], expected);
    let expected = [
        "ns/a", "gpt-4o", "In", "-", "-", "-", "3", "0", "240ms", "64%", "87%", "-",
    ];
    assert_eq!(cells[2], expected);
    assert_eq!(lines(BackendsPage::default()), ["no deployments"]);
}
