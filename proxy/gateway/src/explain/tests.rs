use std::sync::Arc;

use prometheus_client::registry::Registry;
use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::{ConsumerMatch, ObjectName, Operation};
use proxy_core::quota::{Mode, Per, Unit};
use proxy_core::table::{Authentication, Contents, Deployment, Table};
use proxy_core::tokens::Price;

use super::{Explanation, Question, unused};
use crate::ledger::tests::{contents, limit};
use crate::test_support::gateway;

fn key(namespace: &str, consumer: &str) -> Key {
    Key {
        secret: ObjectName::new(namespace, format!("{consumer}-secret")),
        consumer: consumer.into(),
        digest: KeyDigest::of(consumer),
        attributes: Vec::new(),
        expires_ms: None,
    }
}

/// A rule with one backend that has the deployment `m`; `alice` is admitted, `mallory` is not.
fn declared(mode: Mode, unit: Unit, amount: u64) -> Contents {
    let mut declared = contents(mode, vec![Per::Consumer], vec![limit("l", unit, amount)]);
    declared.backends[0].deployments = vec![Deployment {
        name: "m".into(),
        model: "m".into(),
        price: Price::default(),
    }];
    declared.routes[0].authentication = Authentication {
        keys: vec![ObjectName::new("ns", "alice-secret")],
        ..Authentication::default()
    };
    declared.keys = vec![key("ns", "alice"), key("ns", "mallory")];
    declared
}

fn question(consumer: &str) -> Question {
    Question {
        host: "h".to_owned(),
        operation: Operation::ChatCompletions,
        model: "m".to_owned(),
        consumer: Some(consumer.to_owned()),
        input_tokens: 10,
        max_tokens: Some(5),
    }
}

fn explain(contents: Contents, question: &Question) -> Explanation {
    unused(&Table::new(contents), question, 20).expect("the consumer is known")
}

fn code(told: &Explanation) -> Option<&str> {
    told.verdict.code.as_deref()
}

#[test]
fn an_admitted_request_is_told_its_rule_its_limits_and_its_backends() {
    let told = explain(
        declared(Mode::Enforce, Unit::Tokens, 100),
        &question("ns/alice"),
    );
    assert!(told.verdict.admitted, "{told:?}");
    assert_eq!(told.consumer, "ns/alice");
    let rule = told.rule.expect("served");
    assert_eq!((&*rule.route, &*rule.rule), ("ns/r", "rule"));
    let limit = &told.limits[0];
    assert_eq!((limit.asks, limit.remaining, limit.fits), (15, 100, true));
    assert_eq!(limit.subject, "consumer=ns/alice");
    assert_eq!(told.backends[0].deployment.as_deref(), Some("m"));
    assert_eq!(told.backends[0].share_percent, 100);
}

#[test]
fn a_request_without_a_bound_is_judged_by_what_would_be_held() {
    let mut question = question("alice");
    question.max_tokens = None;
    let told = explain(declared(Mode::Enforce, Unit::Tokens, 100), &question);
    assert_eq!((told.output_tokens, told.limits[0].asks), (20, 30));
}

#[test]
fn refusals_carry_the_words_of_the_gateway() {
    let plenty = || declared(Mode::Enforce, Unit::Tokens, 100);
    assert_eq!(
        code(&explain(plenty(), &question("mallory"))),
        Some("forbidden")
    );
    let mut anonymous = question("");
    anonymous.consumer = None;
    assert_eq!(
        code(&explain(plenty(), &anonymous)),
        Some("missing_credential")
    );
    let stranger = question("key-0123abcd");
    assert_eq!(
        code(&explain(plenty(), &stranger)),
        Some("invalid_credential")
    );
    let mut expired = plenty();
    expired.keys[0].expires_ms = Some(0);
    assert_eq!(
        code(&explain(expired, &question("alice"))),
        Some("expired_credential")
    );
    let mut other = question("alice");
    other.model = "other".to_owned();
    let told = explain(plenty(), &other);
    assert_eq!(code(&told), Some("no_backend"));
    assert!(told.rule.is_some() && told.backends[0].deployment.is_none());
}

#[test]
fn a_request_larger_than_the_limit_never_fits() {
    let told = explain(
        declared(Mode::Enforce, Unit::Tokens, 14),
        &question("alice"),
    );
    assert_eq!(code(&told), Some("quota_exceeded"));
    assert_eq!(told.verdict.limit.as_deref(), Some("ns/q/l"));
    assert_eq!(told.verdict.fits_in_seconds, None);
    let shadow = explain(declared(Mode::Shadow, Unit::Tokens, 14), &question("alice"));
    assert!(shadow.verdict.admitted && !shadow.limits[0].fits);
}

#[test]
fn any_key_of_a_consumer_that_is_admitted_does() {
    let mut declared = declared(Mode::Enforce, Unit::Tokens, 100);
    let mut second = key("ns", "mallory");
    second.secret = ObjectName::new("ns", "alice-secret");
    declared.keys.push(second);
    assert!(explain(declared, &question("mallory")).verdict.admitted);
}

#[test]
fn weights_become_shares_of_their_tier() {
    let mut declared = declared(Mode::Enforce, Unit::Tokens, 100);
    let route = Arc::make_mut(&mut declared.routes[0]);
    let targets = &mut Arc::make_mut(&mut route.rules[0]).targets;
    let mut heavy = targets[0].clone();
    heavy.weight = 3;
    let mut second = targets[0].clone();
    second.priority = 1;
    let mut none = targets[0].clone();
    none.weight = 0;
    *targets = vec![second, heavy, targets[0].clone(), none];
    let told = explain(declared, &question("alice"));
    let shares: Vec<_> = told
        .backends
        .iter()
        .map(|choice| (choice.priority, choice.share_percent))
        .collect();
    assert_eq!(shares, [(0, 75), (0, 25), (0, 0), (1, 100)]);
}

#[test]
fn limits_of_others_do_not_apply() {
    let mut declared = declared(Mode::Enforce, Unit::Tokens, 1);
    declared.quotas[0].consumers = ConsumerMatch {
        names: vec!["mallory".into()],
        attributes: Vec::new(),
    };
    let told = explain(declared, &question("alice"));
    assert!(told.verdict.admitted && told.limits.is_empty());
}

#[test]
fn an_unknown_or_an_ambiguous_consumer_is_an_error_that_helps() {
    let mut declared = declared(Mode::Enforce, Unit::Tokens, 1);
    declared.keys.push(key("other", "alice"));
    let table = Table::new(declared);
    let error = |consumer| unused(&table, &question(consumer), 20).expect_err("an error");
    assert!(
        error("alise").contains("near it: alice"),
        "{}",
        error("alise")
    );
    assert!(error("nobody-at-all").contains("such as alice, mallory"));
    assert!(error("alice").contains("say which: ns/alice, other/alice"));
    assert!(unused(&table, &question("other/alice"), 20).is_ok());
}

#[test]
fn a_question_survives_its_query() {
    let mut asked = question("ns/al ice&=");
    asked.model = "gpt 4o/ä".to_owned();
    assert_eq!(Question::parse(&asked.query()), Ok(asked.clone()));
    asked.consumer = None;
    asked.max_tokens = None;
    assert_eq!(Question::parse(&asked.query()), Ok(asked));
    for bad in [
        "",
        "model=",
        "model=m&tokens=1",
        "model=m&operation=Chat",
        "model=m&max_tokens=-1",
    ] {
        assert!(Question::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_live_gateway_answers_by_its_own_part_and_only_with_a_table() {
    let gateway = gateway(&mut Registry::default());
    assert!(gateway.explain(&question("alice")).is_err());
    gateway.publish(Arc::new(Table::new(declared(
        Mode::Enforce,
        Unit::Tokens,
        100,
    ))));
    gateway.share_among(4);
    let page = gateway
        .explain_page(&question("alice").query())
        .expect("answers");
    let told: Explanation = serde_json::from_str(&page).expect("reads");
    assert_eq!((told.limits[0].amount, told.limits[0].remaining), (25, 25));
    assert!(gateway.explain_page("model=m&consumer=nobody").is_err());
}
