use proxy_core::names::{Moment, Operation};
use proxy_core::quota::{LimitName, Per, Unit};
use proxy_core::table::{Backend, Contents, Quota, Table};
use proxy_core::test_util::{backend, deployment, key, limit, object, quota, route, rule, target};
use proxy_core::whatif::{Question, Unused, forecast};
use serde_json::json;

use super::explanation::Explanation;
use super::question::{self, InvalidQuestion};
use super::usage::{LimitUsage, SubjectUsage, UsagePage};

const NOW: Moment = Moment {
    monotonic_ms: 0,
    unix_ms: 0,
};

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

/// The page for a request of 15 tokens by a table whose limit allows `amount`.
fn explain(amount: u64) -> Explanation {
    let mut route = route("r", vec![rule("rule", vec![target("b")])]);
    route.authentication.keys = vec![object("alice")].into();
    let table = Table::new(Contents::new(
        vec![Backend {
            deployments: vec![deployment("m", "m")],
            ..backend("b")
        }],
        vec![route],
        vec![Quota {
            per: vec![Per::Consumer],
            ..quota("q", vec![limit("l", Unit::Tokens, amount)])
        }],
        vec![key("alice")],
    ));
    let counters = Unused {
        served: &[Operation::ChatCompletions],
        default_output_tokens: 20,
    };
    let forecast = forecast(&table, &question("alice"), &counters, NOW);
    Explanation::from(&forecast.expect("the consumer is known"))
}

#[test]
fn an_explanation_has_the_fields_that_clients_read() {
    let written = serde_json::to_string(&explain(100)).expect("it is JSON");
    assert_eq!(
        written,
        concat!(
            r#"{"consumer":"ns/alice","rule":{"route":"ns/r","rule":"rule"},"input_tokens":10,"#,
            r#""output_tokens":5,"output_tokens_from":"client","cost_micros":0,"limits":[{"#,
            r#""limit":"ns/q/l","unit":"Tokens","window":"Minute","#,
            r#""mode":"Enforce","subject":"consumer=ns/alice","asks":15,"used":0,"reserved":0,"#,
            r#""amount":100,"remaining":100,"fits":true,"fits_in_seconds":null}],"backends":"#,
            r#"[{"priority":0,"backend":"ns/b","deployment":"m","weight":1,"share_percent":100,"#,
            r#""cost_micros":0}],"class":"Standard","#,
            r#""verdict":{"admitted":true,"code":null,"reason":"every limit has room, and a "#,
            r#"backend serves it","limit":null,"fits_in_seconds":null}}"#,
        )
    );
    let read: Explanation = serde_json::from_str(&written).expect("it reads back");
    assert_eq!(read, explain(100));
}

#[test]
fn a_limit_that_refuses_is_named_in_the_verdict() {
    let verdict = explain(14).verdict;
    assert_eq!(verdict.code.as_deref(), Some("quota_exceeded"));
    assert_eq!(verdict.limit, LimitName::parse("ns/q/l"));
    assert_eq!(
        verdict.reason,
        "limit ns/q/l allows 14 Tokens in all, this request needs 15"
    );
    let written = serde_json::to_value(&verdict).expect("it is JSON");
    assert_eq!(written["limit"], "ns/q/l");
    assert_eq!(serde_json::from_value(written).ok(), Some(verdict));
}

#[test]
fn a_usage_page_has_the_fields_that_clients_read() {
    let page = |reporting| UsagePage {
        replicas: 3,
        reporting,
        limits: vec![LimitUsage {
            limit: LimitName::parse("ns/q/l").expect("a name"),
            unit: "Tokens".to_owned(),
            window: "Minute".to_owned(),
            mode: "Shadow".to_owned(),
            declared: 90,
            amount: 30,
            denials: 0,
            shadow_denials: 2,
            counters: 5,
            subjects: vec![SubjectUsage {
                subject: "model=m".to_owned(),
                used: 12,
                reserved: 2,
                amount: Some(40),
                remaining: 28,
                reset_seconds: Some(60),
            }],
        }],
    };
    let limits = concat!(
        r#""limits":[{"limit":"ns/q/l","unit":"Tokens","window":"Minute","mode":"Shadow","#,
        r#""declared":90,"amount":30,"denials":0,"shadow_denials":2,"counters":5,"subjects":"#,
        r#"[{"subject":"model=m","used":12,"reserved":2,"amount":40,"remaining":28,"#,
        r#""reset_seconds":60}]}]}"#,
    );
    for (reporting, head) in [
        (None, r#"{"replicas":3,"#),
        (Some(2), r#"{"replicas":3,"reporting":2,"#),
    ] {
        let page = page(reporting);
        let written = serde_json::to_string(&page).expect("it is JSON");
        assert_eq!(written, format!("{head}{limits}"));
        assert_eq!(serde_json::from_str::<UsagePage>(&written).ok(), Some(page));
    }
    assert_eq!(page(None).limits[0].unlisted(), 4);
    let nameless = json!({"replicas": 1, "limits": [{"limit": "q"}]});
    let error = serde_json::from_value::<UsagePage>(nameless).expect_err("no name");
    assert!(
        error
            .to_string()
            .contains("\"q\" is not namespace/quota/limit")
    );
}

#[test]
fn a_question_survives_its_query() {
    let mut asked = question("ns/al ice&=");
    asked.model = "gpt 4o/ä".to_owned();
    asked.attributes = vec![("role".into(), "a=b&c".into()), ("role".into(), "".into())];
    asked.attributes.sort();
    assert_eq!(question::parse(&question::query(&asked)), Ok(asked.clone()));
    asked.consumer = None;
    asked.max_tokens = None;
    assert_eq!(question::parse(&question::query(&asked)), Ok(asked));
}

#[test]
fn a_malformed_query_names_its_field() {
    for (query, expect) in [
        ("", "model is missing"),
        ("model=", "model is missing"),
        (
            "model=m&tokens=1",
            "\"tokens\" is not known; there are host, operation, model, consumer, attribute, \
             input_tokens and max_tokens",
        ),
        (
            "model=m&attribute=role",
            "attribute=\"role\" is not written NAME=VALUE",
        ),
        ("model=m&max_tokens=-1", "max_tokens=\"-1\" is not a number"),
    ] {
        let error = question::parse(query).expect_err(query);
        assert_eq!(error.to_string(), expect);
    }
    let error = question::parse("model=m&operation=Chat").expect_err("no operation");
    let InvalidQuestion::UnknownOperation { word } = &error else {
        panic!("{error}");
    };
    assert_eq!(word, "Chat");
    assert!(error.to_string().ends_with("Agents, Models"), "{error}");
}
