use proxy_admin::pages::backends::{BackendsPage, DeploymentState};

use super::lines;

#[test]
fn what_is_out_comes_first_with_its_reason_and_times() {
    let healthy = DeploymentState {
        backend: "ns/a".to_owned(),
        deployment: "gpt-4o".to_owned(),
        state: "In".to_owned(),
        in_flight: 3,
        first_byte_ms: Some(240),
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
    };
    let cells: Vec<Vec<String>> = lines(page)
        .iter()
        .map(|line| line.split("  ").filter(|one| !one.is_empty()))
        .map(|cells| cells.map(|cell| cell.trim().to_owned()).collect())
        .collect();
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
        "PermissionDenied",
    ];
    assert_eq!(cells[1], expected);
    let expected = [
        "ns/a", "gpt-4o", "In", "-", "-", "-", "3", "0", "240ms", "-",
    ];
    assert_eq!(cells[2], expected);
    assert_eq!(lines(BackendsPage::default()), ["no deployments"]);
}
