use bytes::Bytes;
use proptest::prelude::*;
use proxy_core::auth::{Caller, KeyDigest};
use proxy_core::test_util::key;

use super::*;
use crate::replay::Replay;

const MIB: usize = 1 << 20;

fn caller(name: &str) -> Caller {
    Caller::of(&key(name))
}

fn body(memory: &Arc<Memory>, caller: &Caller, bytes: usize) -> Result<Hold, Full> {
    memory.hold(Purpose::Body, caller, bytes)
}

#[test]
fn one_caller_ends_at_half_and_others_have_room_of_their_own() {
    let memory = Memory::new(320 * MIB);
    let take = |caller: &Caller| -> Vec<Hold> {
        (0..40)
            .map_while(|_| body(&memory, caller, 30 * MIB).ok())
            .collect()
    };
    let (ann, bob, eve) = (caller("ann"), caller("bob"), caller("eve"));
    let of_ann = take(&ann);
    assert_eq!(of_ann.len(), 5, "half of the budget");
    assert_eq!(body(&memory, &ann, 30 * MIB).err(), Some(Full::Share));
    let of_bob = take(&bob);
    assert_eq!(of_bob.len(), 2, "a quarter");
    let of_eve = take(&eve);
    assert_eq!(of_eve.len(), 2);
    assert_eq!(
        body(&memory, &caller("joe"), 30 * MIB).err(),
        Some(Full::Budget)
    );
    let small = memory.hold(Purpose::Request, &caller("joe"), REQUEST);
    assert!(small.is_ok(), "small requests go on");
    drop((of_ann, of_bob, of_eve, small));
    assert_eq!(memory.budget.held(), 0);
    assert!(memory.callers.lock().is_empty());
}

#[test]
fn all_callers_without_a_secret_are_one() {
    let memory = Memory::new(320 * MIB);
    let held: Vec<Hold> = (0..40)
        .map_while(|index| {
            let stranger = Caller::unknown(&KeyDigest::of(&format!("junk-{index}")));
            body(&memory, &stranger, 30 * MIB).ok()
        })
        .collect();
    assert_eq!(held.len(), 5);
    assert_eq!(
        body(&memory, &Caller::anonymous(), 30 * MIB).err(),
        Some(Full::Share)
    );
    assert!(body(&memory, &caller("ann"), 30 * MIB).is_ok());
}

#[test]
fn a_sent_body_is_given_up_for_another_and_one_under_way_is_not() {
    let memory = Memory::new(20 * MIB);
    let kept = |name: &str, size: usize| {
        let hold = body(&memory, &caller(name), size).expect("room");
        Replay::new(Bytes::from(vec![0; size]), Some(hold))
    };
    let (unsent, sent) = (kept("ann", 9 * MIB), kept("bob", 5 * MIB));
    let on_its_way = sent.sent();
    assert_eq!(
        body(&memory, &caller("eve"), 4 * MIB).err(),
        Some(Full::Budget),
        "it is being sent"
    );
    drop(on_its_way);
    assert!(body(&memory, &caller("eve"), 4 * MIB).is_ok());
    assert!(!sent.is_kept() && sent.sent().is_none());
    assert!(unsent.is_kept(), "no try of it has begun");
    assert_eq!(memory.budget.held(), 9 * MIB);
    assert_eq!(memory.given_up.load(Ordering::Relaxed), 1);
}

#[test]
fn a_hold_that_grows_counts_as_a_whole_for_its_caller() {
    let memory = Memory::new(32 * MIB);
    let ann = caller("ann");
    let mut hold = body(&memory, &ann, 64 << 10).expect("room");
    assert!(memory.callers.lock().is_empty(), "it is small");
    hold.grow(&ann, MIB).expect("room");
    assert_eq!(memory.callers.lock().get(&Holder::from(&ann)), Some(&MIB));
    hold.shrink(MIB / 2);
    assert_eq!(hold.bytes(), MIB / 2);
    hold.force(64 * MIB);
    assert_eq!(memory.budget.held(), 64 * MIB, "what is there is counted");
    assert!(body(&memory, &caller("bob"), 1).is_err());
    drop(hold);
    assert_eq!(memory.budget.held(), 0);
    assert!(memory.callers.lock().is_empty());
}

proptest! {
    #[test]
    fn what_callers_hold_never_exceeds_the_budget_and_is_given_back(
        steps in prop::collection::vec((0usize..4, 0usize..6_000_000, 0usize..6), 1..80),
    ) {
        let memory = Memory::new(16 * MIB);
        let callers: Vec<Caller> = ["a", "b", "c", "d"].map(caller).into();
        let mut held: Vec<(usize, Hold)> = Vec::new();
        for (index, bytes, what) in steps {
            match what {
                0 => drop(held.pop()),
                1 if !held.is_empty() => {
                    let at = bytes % held.len();
                    let (of, hold) = &mut held[at];
                    let before = hold.bytes();
                    if hold.grow(&callers[*of], bytes).is_err() {
                        prop_assert_eq!(hold.bytes(), before);
                    }
                }
                2 if !held.is_empty() => {
                    let at = bytes % held.len();
                    held[at].1.shrink(bytes);
                }
                _ => {
                    if let Ok(hold) = body(&memory, &callers[index], bytes) {
                        held.push((index, hold));
                    }
                }
            }
            let sum: usize = held.iter().map(|(_, hold)| hold.bytes()).sum();
            prop_assert_eq!(memory.budget.held(), sum);
            prop_assert!(sum <= 14 * MIB);
        }
        held.clear();
        prop_assert_eq!(memory.budget.held(), 0);
        prop_assert!(memory.callers.lock().is_empty());
    }
}
