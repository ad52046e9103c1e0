use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::fixture::{compile_on, ours};

/// A backend with these deployments and the days on which they retire.
fn backend(deployments: &[(&str, &str)]) -> serde_json::Value {
    let each = deployments.iter();
    let each: Vec<_> = each
        .map(|(name, day)| json!({"name": name, "retires": day}))
        .collect();
    ours(
        "AIBackend",
        "team/eu",
        &json!({
            "type": "Foundry",
            "endpoint": "https://contoso.example",
            "auth": {"type": "None"},
            "deployments": each,
        }),
    )
}

fn verdict(today: &str, deployments: &[(&str, &str)]) -> Verdict {
    let route = crate::fixture::route("team/chat");
    let compiled = compile_on(today, [backend(deployments), route]);
    assert_eq!(compiled.contents.backends.len(), 1, "it stays in the table");
    let object = ObjectRef::new(Kind::AiBackend, ObjectName::new("team", "eu"));
    compiled.verdicts[&object].clone()
}

fn retiring(verdict: &Verdict) -> Option<(Reason, &str)> {
    let judgement = verdict.condition(ConditionType::Retiring)?;
    assert!(judgement.holds);
    Some((judgement.reason, &judgement.message))
}

#[test]
fn the_condition_is_there_from_90_days_before() {
    for (today, expected) in [
        ("2027-07-02", None),
        (
            "2027-07-03",
            Some((
                Reason::RetiresWithinQuarter,
                "gpt-5 retires on 2027-10-01, in 90 days; used by team/chat",
            )),
        ),
        (
            "2027-09-01",
            Some((
                Reason::RetiresWithinMonth,
                "gpt-5 retires on 2027-10-01, in 30 days; used by team/chat",
            )),
        ),
        (
            "2027-09-24",
            Some((
                Reason::RetiresWithinWeek,
                "gpt-5 retires on 2027-10-01, in 7 days; used by team/chat",
            )),
        ),
        (
            "2027-09-30",
            Some((
                Reason::RetiresWithinWeek,
                "gpt-5 retires on 2027-10-01, in 1 day; used by team/chat",
            )),
        ),
        (
            "2027-10-01",
            Some((
                Reason::Retired,
                "gpt-5 retired on 2027-10-01; used by team/chat",
            )),
        ),
        (
            "2031-01-01",
            Some((
                Reason::Retired,
                "gpt-5 retired on 2027-10-01; used by team/chat",
            )),
        ),
    ] {
        let verdict = verdict(today, &[("gpt-5", "2027-10-01")]);
        assert_eq!(retiring(&verdict), expected, "{today}");
        let warned = usize::from(expected.is_some());
        assert_eq!(verdict.diagnostics.len(), warned, "{today}");
        let accepted = verdict.condition(ConditionType::Accepted).unwrap();
        assert_eq!(
            (accepted.reason, &*accepted.message),
            (Reason::Accepted, "")
        );
    }
}

#[test]
fn the_next_one_comes_first_and_the_nearest_level_is_the_reason() {
    let deployments = [
        ("gone", "2027-01-01"),
        ("later", "2027-10-20"),
        ("far", "2029-01-01"),
        ("next", "2027-10-05"),
    ];
    let verdict = verdict("2027-10-01", &deployments);
    let expected = "next retires on 2027-10-05, in 4 days; later retires on 2027-10-20, in 19 days; \
                    gone retired on 2027-01-01; used by team/chat";
    assert_eq!(retiring(&verdict), Some((Reason::Retired, expected)));
    let fields: Vec<String> = verdict
        .diagnostics
        .iter()
        .map(Diagnostic::located)
        .collect();
    assert_eq!(
        fields[0],
        "spec.deployments[3].retires: next retires on 2027-10-05, in 4 days; deploy its successor, and refer to \
         that in the routes"
    );
}

#[test]
fn what_is_no_day_is_an_error_of_the_backend() {
    let route = crate::fixture::route("team/chat");
    let compiled = compile_on("2027-10-01", [backend(&[("gpt-5", "2027-02-30")]), route]);
    assert!(compiled.contents.backends.is_empty());
    let object = ObjectRef::new(Kind::AiBackend, ObjectName::new("team", "eu"));
    let verdict = &compiled.verdicts[&object];
    assert_eq!(retiring(verdict), None);
    let accepted = verdict.condition(ConditionType::Accepted).unwrap();
    assert_eq!(
        accepted.message,
        "spec.deployments[0].retires: is no day; write it as 2027-10-01"
    );
}

#[test]
fn a_long_list_is_cut() {
    let names: Vec<String> = (0..20).map(|n| format!("gpt-{n}")).collect();
    let deployments: Vec<_> = names.iter().map(|name| (&**name, "2027-10-02")).collect();
    let verdict = verdict("2027-10-01", &deployments);
    let (_, message) = retiring(&verdict).unwrap();
    assert!(message.contains("; and 4 more; used by"), "{message}");
    let listed = verdict
        .diagnostics
        .iter()
        .filter(|one| is_known(one, message));
    assert_eq!(listed.count(), 16);
}

#[test]
fn a_warning_is_known_by_deployment_day_and_level() {
    let deployments = [("a", "2027-10-05"), ("b", "2027-10-20")];
    let now = verdict("2027-10-01", &deployments);
    let known = |stored: &str| {
        let warnings = now.diagnostics.iter();
        warnings
            .map(|one| is_known(one, stored))
            .collect::<Vec<_>>()
    };
    assert_eq!(known(""), [false, false]);
    let (_, before) = retiring(&now).unwrap();
    assert_eq!(known(before), [true, true]);
    let earlier = "a retires on 2027-10-05, in 8 days; b retires on 2027-10-20, in 23 days";
    assert_eq!(known(earlier), [false, true], "a has come nearer");
    let moved = "a retires on 2027-10-06, in 2 days; bb retires on 2027-10-20, in 19 days";
    assert_eq!(
        known(moved),
        [false, false],
        "another day, another deployment"
    );
    assert_eq!(known("a retired on 2027-10-05"), [true, false]);
}

proptest! {
    #[test]
    fn what_is_written_is_read(name in "[A-Za-z0-9][A-Za-z0-9._:@+-]{0,20}", left in -400i64..=90) {
        let day = Day::at(left * 86_400_000);
        let one = Retirement {
            place: 0,
            deployment: &name,
            day,
            days_left: left,
            reason: level(left).unwrap(),
        };
        let (text, day) = (one.text(), day.to_string());
        prop_assert_eq!(read(&text), Some(((&*name, &*day), one.reason)));
    }
}
