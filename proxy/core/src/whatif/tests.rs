use std::sync::Arc;

use super::{
    Forecast, InvalidConsumer, LoggedRequest, Outcome, OutputFrom, Question, Replay,
    ReplaySettings, Unused, forecast,
};
use crate::auth::{Issuer, Mapping, Required, Source, Trust};
use crate::names::{Code, ConsumerMatch, Moment, Operation, Usage};
use crate::quota::{Mode, Per, Unit, Wait};
use crate::route::Match;
use crate::table::{
    Authentication, Backend, Contents, Deployment, OutputTokens, Override, Quota, Table,
};
use crate::test_util::{backend, deployment, key, limit, object, quota, route, rule, target};
use crate::tokens::{Price, Rates};

const NOW: Moment = Moment {
    monotonic_ms: 0,
    unix_ms: 0,
};

/// A rule whose backend has the deployment `m`; it admits `alice`, not `mallory`. One limit per
/// consumer.
fn declared(mode: Mode, unit: Unit, amount: u64) -> Contents {
    let mut route = route("r", vec![rule("rule", vec![target("b")])]);
    route.authentication.keys = vec![object("alice")].into();
    Contents::new(
        vec![Backend {
            deployments: vec![deployment("m", "m")],
            ..backend("b")
        }],
        vec![route],
        vec![Quota {
            mode,
            per: vec![Per::Consumer],
            ..quota("q", vec![limit("l", unit, amount)])
        }],
        vec![key("alice"), key("mallory")],
    )
}

fn plenty() -> Contents {
    declared(Mode::Enforce, Unit::Tokens, 100)
}

fn question(consumer: &str) -> Question {
    Question {
        host: "h".to_owned(),
        operation: Operation::ChatCompletions,
        model: "m".to_owned(),
        consumer: Some(consumer.to_owned()),
        attributes: Vec::new(),
        input_tokens: 10,
        max_tokens: Some(5),
    }
}

fn ask<'t>(table: &'t Table, question: &Question) -> Result<Forecast<'t>, InvalidConsumer> {
    let counters = Unused {
        served: &[Operation::ChatCompletions],
        default_output_tokens: 20,
    };
    forecast(table, question, &counters, NOW)
}

#[test]
fn an_operation_that_is_not_served_is_refused_though_a_rule_takes_it() {
    let table = Table::new(plenty());
    let question = Question {
        operation: Operation::Embeddings,
        ..question("alice")
    };
    let forecast = ask(&table, &question).expect("a known consumer");
    let denial = forecast.denial.expect("a refusal");
    assert_eq!(denial.code, Code::OperationNotServed);
    assert!(denial.message.contains("Embeddings"), "{}", denial.message);
}

/// The code of a refusal, `None` for an admitted request.
fn code(contents: Contents, question: &Question) -> Option<Code> {
    let table = Table::new(contents);
    let forecast = ask(&table, question).expect("the consumer is known");
    match forecast.outcome() {
        Outcome::Admitted => None,
        Outcome::Denied(denial) => Some(denial.code),
        Outcome::Exceeds(forecast) => Some(forecast.limit.limit.code()),
    }
}

#[test]
fn a_forecast_has_the_rule_the_limits_and_the_backends() {
    let table = Table::new(plenty());
    let forecast = ask(&table, &question("ns/alice")).expect("known");
    assert!(matches!(forecast.outcome(), Outcome::Admitted));
    let permit = forecast.permit.expect("served");
    assert_eq!(permit.route.name, object("r"));
    let limit = &forecast.limits[0];
    assert_eq!((limit.cost, limit.level.remaining()), (15, 100));
    assert_eq!(limit.subject, "consumer=ns/alice");
    assert_eq!(forecast.targets[0].percent, 100);
    let deployment = forecast.targets[0].deployment.expect("it has one");
    assert_eq!(&*deployment.name, "m");
}

#[test]
fn a_request_without_a_bound_is_judged_by_what_would_be_held() {
    let table = Table::new(plenty());
    let unbounded = Question {
        max_tokens: None,
        ..question("alice")
    };
    let forecast = ask(&table, &unbounded).expect("known");
    assert_eq!(
        (forecast.usage.output_tokens, forecast.limits[0].cost),
        (20, 30)
    );
}

#[test]
fn the_bounds_of_the_rule_are_what_would_be_held() {
    let check = |default, max, asked: Option<u64>, expect: (u64, OutputFrom)| {
        let mut contents = plenty();
        let route = Arc::make_mut(&mut contents.routes[0]);
        let rule = Arc::make_mut(&mut route.rules[0]);
        rule.output_tokens = OutputTokens { default, max };
        let table = Table::new(contents);
        let question = Question {
            max_tokens: asked,
            ..question("alice")
        };
        let forecast = ask(&table, &question).expect("known");
        let found = (forecast.usage.output_tokens, forecast.output_from);
        assert_eq!(found, expect, "{default:?} {max:?} {asked:?}");
    };
    check(None, None, None, (20, OutputFrom::Expected));
    check(Some(8), None, None, (8, OutputFrom::RuleDefault));
    check(Some(8), Some(9), None, (8, OutputFrom::RuleDefault));
    check(None, Some(9), None, (9, OutputFrom::RuleMax));
    check(Some(8), Some(9), Some(50), (9, OutputFrom::RuleMax));
    check(Some(8), Some(9), Some(3), (3, OutputFrom::Client));
    check(Some(8), None, Some(50), (50, OutputFrom::Client));
}

#[test]
fn a_cost_is_unknown_as_long_as_one_deployment_has_no_price() {
    let price = Price {
        rates: Rates::of_text(2_000_000, 10_000_000),
        ..Price::default()
    };
    let check = |prices: [Option<Price>; 2], weight, expect| {
        let mut other = target("c");
        other.weight = weight;
        let [one, two] = prices.map(|price| Deployment {
            price: price.map(Arc::new),
            ..deployment("m", "m")
        });
        let backends = [("b", one), ("c", two)].map(|(name, deployment)| Backend {
            deployments: vec![deployment],
            ..backend(name)
        });
        let mut route = route("r", vec![rule("rule", vec![target("b"), other])]);
        route.authentication.keys = vec![object("alice")].into();
        let table = Table::new(Contents::new(
            backends.into(),
            vec![route],
            Vec::new(),
            vec![key("alice")],
        ));
        let forecast = ask(&table, &question("alice")).expect("known");
        assert_eq!(forecast.cost_micros, expect);
    };
    let priced = || Some(price.clone());
    check([priced(), priced()], 1, Some(10 * 2 + 5 * 10));
    check([priced(), None], 1, None);
    // Nothing is sent to a target without weight.
    check([priced(), None], 0, Some(10 * 2 + 5 * 10));
}

#[test]
fn refusals_have_the_codes_of_admission() {
    assert_eq!(code(plenty(), &question("mallory")), Some(Code::Forbidden));
    let anonymous = Question {
        consumer: None,
        ..question("")
    };
    assert_eq!(code(plenty(), &anonymous), Some(Code::MissingCredential));
    let stranger = question("key-0123456789abcdef");
    assert_eq!(code(plenty(), &stranger), Some(Code::InvalidCredential));
    let mut expired = plenty();
    Arc::make_mut(&mut expired.keys[0]).expires_ms = Some(0);
    assert_eq!(
        code(expired, &question("alice")),
        Some(Code::ExpiredCredential)
    );
    let other = Question {
        model: "other".to_owned(),
        ..question("alice")
    };
    assert_eq!(code(plenty(), &other), Some(Code::ModelNotFound));
}

#[test]
fn strangers_are_admitted_where_the_route_admits_them() {
    let mut open = plenty();
    Arc::make_mut(&mut open.routes[0]).authentication = Authentication {
        anonymous: true,
        ..Authentication::default()
    };
    let anonymous = Question {
        consumer: None,
        ..question("")
    };
    assert_eq!(code(open.clone(), &anonymous), None);
    assert_eq!(code(open, &question("key-0123456789abcdef")), None);
}

#[test]
fn a_request_larger_than_the_limit_never_fits() {
    let small = |mode| declared(mode, Unit::Tokens, 14);
    assert_eq!(
        code(small(Mode::Enforce), &question("alice")),
        Some(Code::QuotaExceeded)
    );
    assert_eq!(code(small(Mode::Shadow), &question("alice")), None);
    let table = Table::new(small(Mode::Shadow));
    let forecast = ask(&table, &question("alice")).expect("known");
    assert_eq!(forecast.limits[0].level.fits, Err(Wait::Never));
}

#[test]
fn a_consumer_may_call_with_any_of_its_keys() {
    let mut declared = plenty();
    let mut second = key("alice");
    second.consumer = "mallory".into();
    declared.keys.push(Arc::new(second));
    assert_eq!(code(declared.clone(), &question("mallory")), None);
    let last = declared.keys.last_mut().expect("it was pushed");
    Arc::make_mut(last).expires_ms = Some(0);
    assert_eq!(
        code(declared, &question("mallory")),
        Some(Code::Forbidden),
        "a valid key is judged before an expired one"
    );
}

#[test]
fn weights_become_shares_of_their_tier() {
    let mut declared = plenty();
    let weighted = |weight, priority| {
        let mut target = target("b");
        (target.weight, target.priority) = (weight, priority);
        target
    };
    let route = Arc::make_mut(&mut declared.routes[0]);
    Arc::make_mut(&mut route.rules[0]).targets = vec![
        weighted(1, 1),
        weighted(3, 0),
        weighted(1, 0),
        weighted(0, 0),
    ];
    let table = Table::new(declared);
    let forecast = ask(&table, &question("alice")).expect("known");
    let shares: Vec<_> = forecast
        .targets
        .iter()
        .map(|share| (share.target.priority, share.percent))
        .collect();
    assert_eq!(shares, [(0, 75), (0, 25), (0, 0), (1, 100)]);
}

#[test]
fn limits_of_other_consumers_do_not_apply() {
    let mut declared = declared(Mode::Enforce, Unit::Tokens, 1);
    Arc::make_mut(&mut declared.quotas[0]).consumers.names =
        vec![crate::test_util::consumer("mallory")];
    assert_eq!(code(declared, &question("alice")), None);
}

#[test]
fn an_unknown_or_ambiguous_consumer_is_an_error_that_helps() {
    let mut declared = plenty();
    declared.keys.push(Arc::new(key("other/alice")));
    let table = Table::new(declared);
    let error = |consumer| {
        let error = ask(&table, &question(consumer)).expect_err("not one consumer");
        error.to_string()
    };
    assert_eq!(
        error("alise"),
        "no Secret names the consumer \"alise\"; near it: ns/alice, other/alice"
    );
    assert_eq!(
        error("unheard-of"),
        "no Secret names the consumer \"unheard-of\"; there are 3 such as ns/alice, ns/mallory, other/alice"
    );
    assert_eq!(
        error("alice"),
        "several consumers are named \"alice\"; say which: ns/alice, other/alice"
    );
    assert!(ask(&table, &question("other/alice")).is_ok());
    let error = ask(&Table::default(), &question("alice")).expect_err("there is none");
    assert_eq!(
        error.to_string(),
        "no Secret names the consumer \"alice\", nor any other"
    );
}

fn logged(line: u64, start_ms: i64, consumer: &str) -> LoggedRequest {
    LoggedRequest {
        line,
        request_id: format!("r{line}"),
        start_us: start_ms * 1_000,
        end_us: start_ms * 1_000 + 500,
        operation: Operation::ChatCompletions,
        model: Some("m".into()),
        consumer: consumer.into(),
        route: Some(object("r")),
        rule: Some("rule".to_owned()),
        backend: Some(object("b")),
        deployment: Some("m".to_owned()),
        usage: Usage {
            input_tokens: 60,
            output_tokens: 0,
            ..Usage::default()
        },
        held: None,
        released: false,
    }
}

fn replay<'t>(table: &'t Table, requests: &[LoggedRequest]) -> Replay<'t> {
    let mut replay = Replay::new(
        table,
        ReplaySettings {
            host: None,
            replicas: 1,
            denials: 10,
            lag_us: 1_000_000,
        },
    );
    for request in requests {
        replay.push(request.clone(), request.end_us);
    }
    replay.finish();
    replay
}

/// A limit of 100 tokens for each consumer, and of `amount` for alice.
fn overridden(amount: u64) -> Contents {
    let mut contents = plenty();
    let quota = Arc::make_mut(&mut contents.quotas[0]);
    let of = |consumer: &str, amount| Override {
        consumers: ConsumerMatch {
            names: vec![crate::test_util::consumer(consumer)],
            ..ConsumerMatch::default()
        },
        amounts: vec![("l".into(), amount)],
    };
    quota.overrides = vec![of("bob", 7), of("alice", amount), of("alice", 1)];
    contents
}

#[test]
fn a_forecast_and_a_replay_know_the_first_override_that_fits() {
    let amount_of = |amount| {
        let table = Table::new(overridden(amount));
        let forecast = ask(&table, &question("alice")).expect("known");
        forecast.limits[0].level.amount
    };
    assert_eq!((amount_of(150), amount_of(20)), (150, 20));
    assert_eq!(code(overridden(15), &question("alice")), None);
    let refused = Some(Code::QuotaExceeded);
    assert_eq!(code(overridden(14), &question("alice")), refused);
    let admitted = |amount| {
        let table = Table::new(overridden(amount));
        let requests = [1, 2, 3].map(|line| logged(line, 0, "ns/alice"));
        replay(&table, &requests).tally().admitted
    };
    assert_eq!((admitted(180), admitted(120), admitted(60)), (3, 2, 1));
}

#[test]
fn an_override_of_0_refuses_what_costs_nothing_too() {
    let nothing = Question {
        input_tokens: 0,
        max_tokens: Some(0),
        ..question("alice")
    };
    let refused = Some(Code::QuotaExceeded);
    assert_eq!(code(overridden(0), &nothing), refused);
    assert_eq!(code(overridden(1), &nothing), None);
    let table = Table::new(overridden(0));
    let free = LoggedRequest {
        usage: Usage::default(),
        ..logged(1, 0, "ns/alice")
    };
    assert_eq!(replay(&table, &[free]).tally().denied, 1);
}

#[test]
fn a_replay_denies_what_the_limit_of_another_table_refuses() {
    let table = Table::new(plenty());
    let requests = [logged(1, 0, "alice"), logged(2, 10, "alice")];
    let replay = replay(&table, &requests);
    let tally = replay.tally();
    assert_eq!((tally.admitted, tally.denied), (1, 1));
    assert_eq!((tally.denials[0].line, tally.denials[0].limit), (2, 0));
    let limit = &replay.limits()[0];
    assert_eq!((limit.tally.count, limit.tally.first_ms), (1, 10));
    assert_eq!(limit.tally.consumers[&Arc::from("alice")], 1);
}

#[test]
fn a_replay_counts_what_has_an_unknown_cost() {
    for (price, expect) in [(Some(Arc::default()), 0), (None, 1)] {
        let mut contents = plenty();
        Arc::make_mut(&mut contents.backends[0]).deployments[0].price = price;
        let table = Table::new(contents);
        let replay = replay(&table, &[logged(1, 0, "alice")]);
        let tally = replay.tally();
        assert_eq!((tally.admitted, tally.unpriced), (1, expect));
    }
}

#[test]
fn a_released_reservation_counts_only_while_the_request_runs() {
    let table = Table::new(plenty());
    let failed = LoggedRequest {
        released: true,
        ..logged(1, 0, "alice")
    };
    let replay = replay(&table, &[failed, logged(2, 10, "alice")]);
    assert_eq!((replay.tally().admitted, replay.tally().denied), (2, 0));
}

#[test]
fn a_replay_refuses_the_callers_that_admission_refuses() {
    let table = Table::new(plenty());
    let requests = [
        logged(1, 0, "mallory"),
        logged(2, 1, "anonymous"),
        logged(3, 2, "key-0123456789abcdef"),
        logged(4, 3, "eve"),
    ];
    let replay = replay(&table, &requests);
    let refused: Vec<&str> = replay.tally().refused.keys().copied().collect();
    assert_eq!(
        refused,
        [
            "forbidden",
            "invalid_credential",
            "missing_credential",
            "no_such_consumer"
        ]
    );
}

/// [`plenty`] with an issuer besides the keys, and a first rule for tokens with a role.
fn with_issuer() -> Contents {
    let mut contents = plenty();
    let route = Arc::make_mut(&mut contents.routes[0]);
    route.authentication.issuers = vec![Issuer {
        trust: Trust {
            source: Source {
                issuer: "https://issuer.example".into(),
                jwks_uri: None,
            },
            audiences: vec!["api".into()],
            mapping: Mapping {
                consumer: "sub".into(),
                attributes: vec![("role".into(), "roles".into())],
            },
        },
        required: Required {
            scopes: vec!["chat".into()],
            ..Required::default()
        },
    }];
    let mut special = rule("special", vec![target("b")]);
    special.matches = vec![Match {
        consumers: ConsumerMatch {
            names: Vec::new(),
            attributes: vec![("role".into(), "writer".into())],
        },
        ..Match::default()
    }];
    route.rules.insert(0, Arc::new(special));
    contents
}

#[test]
fn a_consumer_with_a_token_is_one_of_a_namespace_that_lists_an_issuer() {
    let table = Table::new(with_issuer());
    let of = |consumer: &str, attributes: &[(&str, &str)]| {
        let attributes = attributes.iter();
        let question = Question {
            attributes: attributes
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            ..question(consumer)
        };
        let forecast = ask(&table, &question)?;
        let rule = forecast.permit.map(|permit| permit.rule.name.to_string());
        Ok((forecast.caller.full_name.to_string(), rule))
    };
    let served = |name: &str, rule: &str| Ok((name.to_owned(), Some(rule.to_owned())));
    assert_eq!(of("ns/eve", &[]), served("ns/eve", "rule"));
    let writer = [("role", "reader"), ("role", "writer")];
    assert_eq!(of("ns/eve", &writer), served("ns/eve", "special"));
    // A key has the attributes of its Secret.
    assert_eq!(of("alice", &writer), served("ns/alice", "rule"));
    // The key of this consumer is not admitted, a token of that name is.
    assert_eq!(of("mallory", &[]), served("ns/mallory", "rule"));
    let unknown = |found| matches!(found, Err(InvalidConsumer::Unknown { .. }));
    assert!(unknown(of("eve", &[])), "without a namespace");
    assert!(unknown(of("other/eve", &[])));
    // Beside pass-through a token admits no caller.
    let mut passed = with_issuer();
    let route = Arc::make_mut(&mut passed.routes[0]);
    route.authentication.pass_through = true;
    let passed = Table::new(passed);
    assert!(ask(&passed, &question("ns/eve")).is_err());
}
