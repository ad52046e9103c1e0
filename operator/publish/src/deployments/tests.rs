use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn backend() -> ObjectName {
    ObjectName::new("team", "foundry")
}

/// A report of one deployment that is out for this reason, or in.
fn report(deployment: &str, reason: Option<&str>, out_ms: u64) -> DeploymentReport {
    DeploymentReport {
        backend: backend().to_string(),
        deployment: deployment.to_owned(),
        state: if reason.is_some() { "Out" } else { "In" }.to_owned(),
        reason: reason.unwrap_or_default().to_owned(),
        cause: reason.map_or_else(String::new, |reason| format!("{reason} of {out_ms}")),
        out_ms: reason.map(|_| out_ms),
        retry_in_ms: reason.map(|_| 5_000),
        in_flight: 2,
        failures_in_a_row: 0,
        first_byte_ms: Some(out_ms),
        utilisation_percent: reason.map(|_| 7).or(Some(64)),
        cached_input_percent: reason.map(|_| 40).or(Some(91)),
    }
}

fn reported(reason: Option<&str>, out_ms: u64) -> Reported {
    Reported::new(vec![report("gpt-4o", reason, out_ms)], 1_000)
}

fn served(reports: &[Reported]) -> Served {
    let outages = reports.iter().map(|one| &**one.outages());
    let mut all = Served::by(outages, &backend());
    all.remove("gpt-4o").expect("it was reported")
}

fn page(reports: &[Reported], now_ms: u64) -> DeploymentState {
    let ids: Vec<String> = (0..reports.len()).map(|n| format!("p{n}")).collect();
    let named = ids.iter().map(String::as_str).zip(reports);
    let page = backends_page(named, 9, now_ms);
    let reporting = u64::try_from(reports.len()).expect("few");
    assert_eq!((page.replicas, page.reporting), (Some(9), Some(reporting)));
    page.deployments.into_iter().next().expect("there is one")
}

#[test]
fn the_page_has_the_count_the_commonest_reason_and_the_longest_time() {
    let reports = [
        reported(None, 10),
        reported(Some("Failing"), 90_000),
        reported(Some("CredentialRefused"), 20_000),
        reported(Some("CredentialRefused"), 40_000),
    ];
    let state = page(&reports, 4_000);
    let proxies = Proxies {
        have: 1,
        of: 4,
        out_on: ["p1", "p2", "p3"].map(str::to_owned).into(),
    };
    let expected = DeploymentState {
        backend: "team/foundry".to_owned(),
        deployment: "gpt-4o".to_owned(),
        state: "Out".to_owned(),
        reason: "CredentialRefused".to_owned(),
        cause: "CredentialRefused of 40000".to_owned(),
        // The reports are three seconds old.
        out_ms: Some(93_000),
        retry_in_ms: Some(2_000),
        in_flight: 8,
        failures_in_a_row: 0,
        first_byte_ms: Some(90_000),
        utilisation_percent: Some(64),
        cached_input_percent: Some((91 + 3 * 40) / 4),
        proxies: Some(proxies),
    };
    assert_eq!(state, expected);
    let state = page(&reports[..2], 4_000);
    assert_eq!(
        (state.state.as_str(), state.reason.as_str()),
        ("In", "Failing")
    );
}

#[test]
fn a_proxy_that_is_too_old_to_tell_is_not_counted() {
    let reports = [Reported::default(), reported(Some("Silent"), 1)];
    assert_eq!(served(&reports).of, 1);
    let named = ["p0", "p1"].into_iter().zip(&reports);
    let page = backends_page(named, 2, 0);
    assert_eq!((page.replicas, page.reporting), (Some(2), Some(1)));
    let none = Reported::default();
    assert!(Served::by([&**none.outages()].into_iter(), &backend()).is_empty());
}

#[test]
fn a_throttled_deployment_serves_and_is_out_on_the_page() {
    let reports = [reported(Some("Throttled"), 1)];
    assert_eq!(served(&reports).outage, None);
    assert!(served(&reports).serves());
    assert_eq!(page(&reports, 1_000).state, "Out");
}

#[test]
fn numbers_that_move_change_no_outage() {
    let mut before = report("gpt-4o", Some("Failing"), 7);
    let first = Reported::new(vec![before.clone()], 0);
    before.out_ms = Some(99);
    before.in_flight = 99;
    let second = Reported::new(vec![before], 5_000);
    assert_eq!(first.outages(), second.outages());
}

proptest! {
    /// k of n proxies have it: it serves if that is at least half, whatever their order.
    #[test]
    fn k_of_n_proxies(outs in vec(proptest::option::of(0_usize..3), 1..30), turn in 0_usize..30) {
        let reasons = ["Failing", "NotThere", "Silent"];
        let reason = |out: &Option<usize>| out.map(|index| reasons[index]);
        let mut reports: Vec<Reported> =
            outs.iter().map(|out| reported(reason(out), 5)).collect();
        let have = outs.iter().filter(|out| out.is_none()).count();
        let all = served(&reports);
        prop_assert_eq!((all.have, all.of), (have, outs.len()));
        prop_assert_eq!(all.serves(), have * 2 >= outs.len());
        prop_assert_eq!(all.outage.is_some(), have < outs.len());
        let most = |reason: &str| {
            reports.iter().filter(|one| one.states[0].reason == reason).count()
        };
        if let Some(outage) = &all.outage {
            let count = most(&outage.reason);
            prop_assert!(reasons.iter().all(|other| most(other) <= count));
        }
        let state = page(&reports, 1_000);
        prop_assert_eq!(state.state == "Out", !all.serves());
        prop_assert_eq!(state.reason, all.outage.as_ref().map_or("", |one| &one.reason));
        let turn = turn % reports.len();
        reports.rotate_left(turn);
        prop_assert_eq!(served(&reports), all);
    }
}
