use proptest::prelude::*;
use proxy_core::quota::{LeaseReport, LeaseRequest, StoreWindow};
use redis::Value;

use super::{Item, Outcome, Reply};

fn item() -> Item {
    let mut ask = LeaseRequest::new(LeaseReport::Grants {
        returns: Vec::new(),
        owed: 0,
        lasts: 1,
    });
    (ask.need, ask.want) = (30, 40);
    Item {
        key: "k".to_owned(),
        amount: 100,
        window: StoreWindow::Rolling {
            tau_ms: 100,
            buckets: 3,
            reach: 2,
        },
        ask,
    }
}

fn text(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn reply(status: &str, answers: Vec<Value>) -> Value {
    let mut parts = vec![
        text(status),
        text("0:1:r"),
        Value::Int(1_000),
        Value::Int(2),
        Value::Int(0),
    ];
    parts.extend(answers);
    Value::Array(parts)
}

fn numbers(numbers: &[i64]) -> Value {
    Value::Array(numbers.iter().map(|number| Value::Int(*number)).collect())
}

#[test]
fn a_grant_and_a_refusal_are_distinguished() {
    let granted = reply("ok", vec![numbers(&[40, 11, 2, 90, -1, 0, 0, 0])]);
    let read = Reply::read(&granted, &[item()]).expect("a reply");
    let Outcome::Done(answers, 0) = read.outcome else {
        panic!("{read:?}")
    };
    assert_eq!((answers[0].granted, answers[0].used), (40, 90));
    assert_eq!((answers[0].at, answers[0].lasts), (11, 2));
    assert_eq!(answers[0].profile, None);
    assert_eq!(answers[0].ends_in_ms, None);

    let refused = reply(
        "ok",
        vec![numbers(&[0, 10, 1, 90, -1, 7, 5, 60, 50, 20, 15, 0])],
    );
    let read = Reply::read(&refused, &[item()]).expect("a reply");
    let Outcome::Done(answers, 0) = read.outcome else {
        panic!("{read:?}")
    };
    assert!(answers[0].profile.is_some());
    assert_eq!(answers[0].elsewhere, 7);
}

#[test]
fn an_answer_for_another_number_of_counters_is_malformed() {
    assert_eq!(Reply::read(&reply("ok", Vec::new()), &[item()]), None);
    assert_eq!(Reply::read(&reply("what", Vec::new()), &[]), None);
    let other = Reply::read(&reply("epoch", Vec::new()), &[item()]).expect("a reply");
    assert_eq!(other.outcome, Outcome::OtherEpoch);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<i64>().prop_map(Value::Int),
        "ok|epoch|clock|[a-z]{0,3}".prop_map(|word| text(&word)),
        any::<f64>().prop_map(Value::Double),
    ];
    leaf.prop_recursive(3, 40, 9, |inner| {
        prop::collection::vec(inner, 0..9).prop_map(Value::Array)
    })
}

proptest! {
    #[test]
    fn any_answer_of_a_store_is_read_or_malformed(value in any_value()) {
        let items = [item()];
        if let Some(reply) = Reply::read(&value, &items)
            && let Outcome::Done(answers, _) = reply.outcome
        {
            prop_assert_eq!(answers.len(), 1);
        }
    }
}
