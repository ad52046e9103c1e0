use crds::{ConditionType, ParentRef, Reason};
use k8s_openapi::jiff::Timestamp;
use operator_compile::{Judgement, ParentVerdict};
use proxy_core::names::ObjectName;

use super::{WantedParent, differ, stored};

fn parent(name: &str, holds: bool) -> WantedParent {
    WantedParent::new(&ParentVerdict {
        parent: ParentRef {
            name: name.to_owned(),
            ..ParentRef::default()
        },
        gateway: ObjectName::new("infra", name),
        listeners: Vec::new(),
        conditions: vec![Judgement {
            condition: ConditionType::Accepted,
            holds,
            reason: if holds {
                Reason::Accepted
            } else {
                Reason::NotAllowedByListeners
            },
            message: String::new(),
        }],
    })
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

#[test]
fn a_stored_parent_is_written_again_only_if_something_but_a_time_differs() {
    let wanted = [parent("a", true), parent("b", false)];
    let before = stored(&wanted, &[], 3, at(10));
    assert!(!differ(&wanted, &before, 3));
    assert!(differ(&wanted, &before, 4), "another generation");
    assert!(differ(&[parent("a", true)], &before, 3), "one is gone");
    assert!(differ(&[parent("a", true), parent("b", true)], &before, 3));
    assert!(!differ(&[], &[], 3));
}

#[test]
fn only_a_condition_that_flips_gets_a_new_time() {
    let before = stored(&[parent("a", true), parent("b", false)], &[], 3, at(10));
    let after = stored(&[parent("b", true), parent("a", true)], &before, 4, at(20));
    let seconds = after.iter().map(|one| {
        let time = one.conditions[0].last_transition_time.0;
        (one.parent_ref.name.as_str(), time.as_second())
    });
    assert_eq!(seconds.collect::<Vec<_>>(), [("b", 20), ("a", 10)]);
    assert_eq!(after[0].controller_name, "tundish.dev/gateway-controller");
}
