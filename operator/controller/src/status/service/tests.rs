use std::sync::Arc;

use operator_compile::Kind;
use operator_publish::{Outage, Replica};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn backend() -> ObjectName {
    ObjectName::new("team", "foundry")
}

/// A proxy that has these deployments, each with the reason for which it is out.
fn proxy(deployments: &[(&str, Option<&str>)]) -> Replica {
    let deployments = deployments.iter().map(|(name, reason)| {
        let outage = reason.map(|reason| Outage {
            reason: reason.to_owned(),
            cause: format!("{name} said so"),
        });
        ((*name).to_owned(), outage)
    });
    Replica {
        outages: Arc::new([(backend(), deployments.collect())].into()),
        ..Replica::default()
    }
}

fn service(replicas: Vec<Replica>) -> Service {
    Service::of_backend(&backend(), &Fleet { replicas })
}

fn check(deployments: &[(&str, Option<&str>)], text: &str, reason: Option<Reason>) -> String {
    let service = service(vec![proxy(deployments)]);
    assert_eq!(service.deployments, text, "{deployments:?}");
    assert_eq!(service.reason(), reason, "{deployments:?}");
    service
        .outage
        .map(|(_, message)| message)
        .unwrap_or_default()
}

#[test]
fn a_backend_is_out_if_no_deployment_serves_and_says_what_a_person_mends_first() {
    check(&[("a", None), ("b", Some("Failing"))], "1/2 serving", None);
    let message = check(
        &[("a", Some("Failing")), ("b", Some("CredentialRefused"))],
        "0/2 serving",
        Some(Reason::CredentialRefused),
    );
    assert!(
        message.contains("b said so; check that auth has"),
        "{message}"
    );
    let message = check(
        &[("a", Some("NotThere"))],
        "0/1 serving",
        Some(Reason::NotThere),
    );
    assert!(
        message.contains("a: the backend has no such deployment"),
        "{message}"
    );
    let newer = Some(Reason::Failing);
    check(&[("a", Some("Haunted"))], "0/1 serving", newer);
}

#[test]
fn without_reports_there_is_nothing_to_say() {
    assert_eq!(service(Vec::new()), Service::default());
    assert_eq!(service(vec![Replica::default()]), Service::default());
}

#[test]
fn the_lack_of_a_token_is_no_outage() {
    let mut replica = proxy(&[("a", Some("CredentialRefused"))]);
    replica.tokenless = Arc::new([(backend(), "AADSTS7".to_owned())].into());
    let service = service(vec![replica]);
    assert_eq!(service.outage, None);
    assert_eq!(service.deployments, "0/1 serving");
}

#[test]
fn every_reason_of_a_proxy_but_throttled_is_known() {
    for reason in proxy_core::balance::OutReason::ALL {
        let known = REASONS
            .iter()
            .any(|(one, ..)| one.as_str() == reason.as_str());
        let is_throttled = reason == proxy_core::balance::OutReason::Throttled;
        assert_eq!(known, !is_throttled, "{reason:?}");
    }
}

#[test]
fn other_words_of_a_credential_are_written_and_those_of_a_failure_are_not() {
    let says = |reason, cause: &str| Service {
        deployments: "0/1 serving".to_owned(),
        outage: Some((reason, cause.to_owned())),
    };
    for (reason, written) in [(Reason::CredentialRefused, true), (Reason::Failing, false)] {
        let (stored, now) = (says(reason, "one"), says(reason, "two"));
        assert_eq!(stored.stands_for(&now), !written, "{reason}");
    }
}

proptest! {
    /// Of n proxies, those of `outs` have the only deployment out.
    #[test]
    fn a_deployment_serves_if_half_of_the_proxies_have_it(outs in vec(any::<bool>(), 1..20)) {
        let replicas = outs.iter().map(|out| proxy(&[("a", out.then_some("Silent"))]));
        let service = service(replicas.collect());
        let out = outs.iter().filter(|out| **out).count();
        let serves = (outs.len() - out) * 2 >= outs.len();
        prop_assert_eq!(service.deployments, if serves { "1/1 serving" } else { "0/1 serving" });
        prop_assert_eq!(service.outage.is_some(), !serves);
    }

    /// Whatever comes, a state is only written after it has held for the whole time, and no later than asked.
    #[test]
    fn what_is_written_has_lasted(steps in vec((0_usize..3, 1_u64..40_000), 1..60)) {
        let object = ObjectRef::new(Kind::AiBackend, backend());
        let states = ["1/1 serving", "0/1 serving", ""].map(|text| Service {
            deployments: text.to_owned(),
            outage: None,
        });
        let mut candidates = Candidates::default();
        let (mut stored, mut now_ms, mut held_since) = (Service::default(), 0, 0);
        let mut before = Service::default();
        for (index, pause_ms) in steps {
            let now = states[index].clone();
            if now != before {
                held_since = now_ms;
            }
            before = now.clone();
            let wanted = candidates.settle(&object, now.clone(), stored.clone(), now_ms);
            if wanted != stored {
                prop_assert_eq!(&wanted, &now);
                prop_assert!(now_ms - held_since >= 30_000);
            } else if stored != now {
                let due = held_since + 30_000;
                prop_assert_eq!(candidates.next_ms(now_ms), Some(due));
            } else {
                prop_assert_eq!(candidates.next_ms(now_ms), None);
            }
            stored = wanted;
            now_ms += pause_ms;
        }
    }
}
