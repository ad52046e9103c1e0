use proxy_core::names::ObjectName;

use super::*;
use crate::object::Kind;

const BOTH: [ConditionType; 2] = [ConditionType::Accepted, ConditionType::ResolvedRefs];

fn findings() -> Findings {
    Findings::new(ObjectRef::new(
        Kind::AiRoute,
        ObjectName::new("team", "chat"),
    ))
}

#[test]
fn nothing_found_means_that_every_condition_holds() {
    let verdict = findings().verdict(3, &BOTH, false);
    assert_eq!(verdict.generation, 3);
    for (condition, reason) in BOTH
        .into_iter()
        .zip([Reason::Accepted, Reason::ResolvedRefs])
    {
        let judgement = verdict.condition(condition).unwrap();
        assert!(judgement.holds && judgement.reason == reason && judgement.message.is_empty());
    }
    assert_eq!(verdict.condition(ConditionType::Programmed), None);
}

#[test]
fn an_error_breaks_its_own_condition_with_the_first_reason() {
    let mut findings = findings();
    findings.unresolved(Reason::RefNotPermitted, "a", "is one");
    findings.unresolved(Reason::BackendNotFound, "b", "is two");
    let verdict = findings.verdict(0, &BOTH, true);
    let accepted = verdict.condition(ConditionType::Accepted).unwrap();
    assert!(accepted.holds);
    assert_eq!(accepted.reason, Reason::PartiallyInvalid);
    let resolved = verdict.condition(ConditionType::ResolvedRefs).unwrap();
    assert!(!resolved.holds);
    assert_eq!(resolved.reason, Reason::RefNotPermitted);
    assert_eq!(resolved.message, "a: is one; b: is two");
    assert_eq!(
        verdict.diagnostics[0].to_string(),
        "error: AIRoute team/chat RefNotPermitted: a: is one"
    );
}

#[test]
fn a_warning_breaks_no_condition_and_is_reported() {
    let mut findings = findings();
    findings.warning(
        ConditionType::ResolvedRefs,
        Reason::SecretNotFound,
        "a",
        "is none",
    );
    let verdict = findings.verdict(0, &BOTH, false);
    let resolved = verdict.condition(ConditionType::ResolvedRefs).unwrap();
    assert!(resolved.holds);
    assert_eq!(resolved.message, "a: is none");
}

#[test]
fn a_message_lists_a_few_problems_and_counts_the_rest() {
    let mut findings = findings();
    for field in ["a", "b", "c", "d", "e", "f"] {
        findings.invalid(field, "is bad");
    }
    let verdict = findings.verdict(0, &BOTH, false);
    let accepted = verdict.condition(ConditionType::Accepted).unwrap();
    assert_eq!(
        accepted.message,
        "a: is bad; b: is bad; c: is bad; d: is bad; and 2 more"
    );
    assert_eq!(verdict.diagnostics.len(), 6);
}
