use std::collections::BTreeSet;

use super::{ConditionStatus, ConditionType, Reason};

#[test]
fn every_word_is_unique_and_one_camel_case_word() {
    let reasons = Reason::ALL.map(Reason::as_str);
    assert_eq!(reasons.iter().collect::<BTreeSet<_>>().len(), reasons.len());
    let types = ConditionType::ALL.map(ConditionType::as_str);
    assert_eq!(types.iter().collect::<BTreeSet<_>>().len(), types.len());
    for word in reasons.iter().chain(&types) {
        assert!(word.starts_with(|c: char| c.is_ascii_uppercase()), "{word}");
        assert!(word.chars().all(|c| c.is_ascii_alphabetic()), "{word}");
    }
}

#[test]
fn the_words_are_the_names_of_the_variants() {
    for reason in Reason::ALL {
        assert_eq!(format!("{reason:?}"), reason.as_str());
    }
    for type_ in ConditionType::ALL {
        assert_eq!(format!("{type_:?}"), type_.as_str());
    }
}

#[test]
fn a_status_is_written_as_in_kubernetes() {
    for status in [
        ConditionStatus::True,
        ConditionStatus::False,
        ConditionStatus::Unknown,
    ] {
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
    }
    assert_eq!(ConditionStatus::from(true), ConditionStatus::True);
    assert_eq!(ConditionStatus::from(false), ConditionStatus::False);
}
