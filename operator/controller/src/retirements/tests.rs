use crds::{Condition, ConditionStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use operator_compile::{
    Day, IdentityGrants, Index, Kind, Secrets, Settings, Tenants, compile, decode,
};
use proxy_core::names::ObjectName;
use proxy_core::reach::Reach;
use serde_json::json;

use super::*;
use crate::stored_status::StoredStatus;

fn object() -> ObjectRef {
    ObjectRef::new(Kind::AiBackend, ObjectName::new("team", "eu"))
}

/// The verdict of this day on a backend with these deployments and the days on which they retire.
fn verdict(today: &str, deployments: &[(&str, &str)]) -> Verdict {
    let each = deployments.iter();
    let each: Vec<_> = each
        .map(|(name, day)| json!({"name": name, "retires": day}))
        .collect();
    let backend = json!({
        "metadata": {"namespace": "team", "name": "eu"},
        "spec": {
            "type": "Foundry",
            "endpoint": "https://contoso.example",
            "auth": {"type": "None"},
            "deployments": each,
        },
    });
    let mut index = Index::default();
    let decoded = decode("AIBackend", "tundish.dev/v1alpha1", backend);
    index.apply(
        decoded
            .expect("it can be read")
            .expect("the kind has an effect"),
    );
    let settings = Settings {
        own_namespace: "gateway".to_owned(),
        grants_served: true,
        tenants: Tenants::One,
        host_grants: Vec::new(),
        identity_grants: IdentityGrants::All,
        secrets: Secrets::All,
        reach: Reach::default(),
        backend_hosts: Vec::new(),
        gateways: None,
        today: Day::parse(today).expect("a day"),
    };
    compile(&index, &settings).verdicts[&object()].clone()
}

/// The backend with the status that this verdict leads to.
fn stored(verdict: Option<&Verdict>) -> StoredObject {
    let judgement = verdict.and_then(|one| one.condition(ConditionType::Retiring));
    let conditions = judgement.map(|one| Condition {
        type_: one.condition.as_str().to_owned(),
        status: ConditionStatus::True,
        observed_generation: Some(1),
        last_transition_time: Time(Timestamp::default()),
        reason: one.reason.as_str().to_owned(),
        message: one.message.clone(),
    });
    StoredObject {
        uid: "u1".to_owned(),
        status: StoredStatus {
            conditions: conditions.into_iter().collect(),
            ..StoredStatus::default()
        },
        ..StoredObject::default()
    }
}

fn reasons(notices: &[Notice]) -> Vec<&'static str> {
    notices.iter().map(|one| one.reason.as_str()).collect()
}

#[test]
fn each_level_is_said_once_over_all_days() {
    let deployments = [("gpt-5", "2027-10-01")];
    let mut before: Option<Verdict> = None;
    let mut said = Vec::new();
    let first = Day::parse("2027-06-20").expect("a day");
    for days in 0..130 {
        let today = Day::at(days * 86_400_000 + 1_813_449_600_000);
        assert_eq!(first.until(today), days, "{today}");
        let verdict = verdict(&today.to_string(), &deployments);
        let notices = notices(&object(), &verdict, &stored(before.as_ref()));
        said.extend(
            notices
                .iter()
                .map(|one| (today.to_string(), one.reason.as_str())),
        );
        before = Some(verdict);
    }
    let expected = [
        ("2027-07-03", "RetiresWithinQuarter"),
        ("2027-09-01", "RetiresWithinMonth"),
        ("2027-09-24", "RetiresWithinWeek"),
        ("2027-10-01", "Retired"),
    ];
    let expected = expected.map(|(day, reason)| (day.to_owned(), reason));
    assert_eq!(said, expected);
}

#[test]
fn another_leader_says_nothing_that_the_status_shows() {
    let deployments = [("gpt-5", "2027-10-01"), ("gpt-4o", "2027-01-01")];
    let verdict = verdict("2027-09-20", &deployments);
    let first = notices(&object(), &verdict, &stored(None));
    assert_eq!(reasons(&first), ["RetiresWithinMonth", "Retired"]);
    assert!(
        first[0]
            .note
            .contains("gpt-5 retires on 2027-10-01, in 11 days")
    );
    assert!(notices(&object(), &verdict, &stored(Some(&verdict))).is_empty());
    // A status write that failed: the same events, which the API server has.
    let again = notices(&object(), &verdict, &stored(None));
    assert_eq!(again, first);
    assert_ne!(first[0].id, first[1].id);
}

#[test]
fn a_day_that_is_put_off_is_said_again_and_another_deployment_too() {
    let before = verdict("2027-09-20", &[("gpt-5", "2027-10-01")]);
    let after = verdict(
        "2027-09-20",
        &[("gpt-5", "2027-12-01"), ("o3", "2027-09-22")],
    );
    let said = notices(&object(), &after, &stored(Some(&before)));
    assert_eq!(
        reasons(&said),
        ["RetiresWithinWeek", "RetiresWithinQuarter"]
    );
}

#[test]
fn a_backend_that_retires_nothing_says_nothing() {
    let verdict = verdict("2027-09-20", &[("gpt-5", "2029-10-01")]);
    assert!(notices(&object(), &verdict, &stored(None)).is_empty());
}
