use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response};
use prometheus_client::registry::Registry;
use proxy_api::Dialect;
use proxy_core::names::Code;
use proxy_core::quota::{Mode, Unit, Wait};
use proxy_core::table::Table;
use proxy_core::test_util::limit;
use proxy_ledger::{Cause, EnforcedLimit, Level, Metrics, Refused, Spent};

use super::{Refusal, error, name_request};
use crate::test_support::contents;

fn refuse(refusal: &Refusal, id: &HeaderValue) -> Response<bytes::Bytes> {
    error(refusal, Dialect::OpenAi, id)
}

fn spent(wait: Wait) -> Refusal {
    let limits = vec![limit("l", Unit::Tokens, 100)];
    let table = Table::new(contents(Mode::Enforce, Vec::new(), limits));
    let metrics = Metrics::register(&mut Registry::default());
    let limit = EnforcedLimit::new(&table.limits()[0], 1, &metrics);
    Refusal::from(Refused {
        limit: Some(Spent {
            limit: Arc::new(limit),
            level: Level {
                amount: 100,
                used: 90,
                reset_ms: 1_500,
            },
            asked: 20,
        }),
        wait,
        cause: Cause::Spent,
    })
}

fn headers(refusal: &Refusal) -> impl Fn(&str) -> Option<String> + use<> {
    let response = refuse(refusal, &HeaderValue::from_static("id"));
    move |name| {
        response
            .headers()
            .get(name)
            .map(|value| value.to_str().expect("text").to_owned())
    }
}

#[test]
fn anthropics_clients_find_the_request_id_under_their_own_name() {
    let id = HeaderValue::from_static("ours");
    let refusal = Refusal::new(Code::ModelNotFound, "why");
    let answer = error(&refusal, Dialect::Anthropic, &id);
    assert_eq!(answer.headers().get("request-id"), Some(&id));
    assert_eq!(answer.headers().get("x-request-id"), Some(&id));
    assert_eq!(refuse(&refusal, &id).headers().get("request-id"), None);

    let of_backend = HeaderValue::from_static("req_1");
    for name in ["request-id", "x-request-id"] {
        let mut headers = HeaderMap::new();
        headers.insert(name, of_backend.clone());
        let own = name_request(&mut headers, &id, Dialect::Anthropic);
        assert_eq!(own.as_ref(), Some(&of_backend));
        assert!(headers.values().all(|value| *value == id));
    }
}

#[test]
fn every_code_has_its_own_word_and_a_client_or_server_status() {
    let mut words: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Code::ALL.len());
    for code in Code::ALL {
        let response = refuse(&Refusal::new(code, "why"), &HeaderValue::from_static("id"));
        assert_eq!(response.status().as_u16(), code.status());
        let body: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
        assert_eq!(body["error"]["code"], code.as_str());
        assert_eq!(body["error"]["message"], "why");
        assert!(code.status() >= 400);
    }
}

#[test]
fn the_wait_has_a_jitter_of_at_most_a_tenth() {
    let get = headers(&spent(Wait::Millis(10_000)));
    let wait: u64 = get("retry-after-ms")
        .expect("is there")
        .parse()
        .expect("a number");
    assert!((10_000..=11_000).contains(&wait), "{wait}");
    let seconds: u64 = get("retry-after")
        .expect("is there")
        .parse()
        .expect("a number");
    assert_eq!(seconds, wait.div_ceil(1_000));
    assert_eq!(get("x-should-retry"), None);
    assert_eq!(get("x-ratelimit-limit-tokens").as_deref(), Some("100"));
    assert_eq!(get("x-ratelimit-remaining-tokens").as_deref(), Some("10"));
    assert_eq!(get("x-ratelimit-reset-tokens").as_deref(), Some("2"));
}

#[test]
fn a_spent_limit_says_what_is_left_and_when_there_is_more() {
    let refusal = spent(Wait::Millis(7_300_000));
    assert_eq!(
        refusal.denial.message,
        "limit ns/q/l has 10 of 100 Tokens left, this request needs 20; lower max_tokens, or retry in 3 h"
    );
    let now = u64::try_from(proxy_admin::clock::now().unix_ms / 1_000).expect("after 1970");
    let id = HeaderValue::from_static("id");
    let response = refuse(&refusal, &id);
    assert_eq!(
        response.headers()["x-codex-promo-message"],
        "Ask for more of ns/q/l"
    );
    let body: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
    assert_eq!(body["error"]["type"], "usage_limit_reached");
    let at = body["error"]["resets_at"].as_u64().expect("a number");
    assert!((now + 7_300..now + 7_310).contains(&at), "{at}");
    let other = error(&refusal, Dialect::Anthropic, &id);
    assert!(!other.headers().contains_key("x-codex-promo-message"));
}

#[test]
fn names_the_limit_that_refused() {
    let response = refuse(&spent(Wait::Millis(1)), &HeaderValue::from_static("id"));
    let body: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
    assert_eq!(body["error"]["param"], "ns/q/l");
}

#[test]
fn what_is_refused_again_tells_sdks_not_to_retry() {
    let of = |refusal: &Refusal| headers(refusal)("x-should-retry");
    for code in Code::ALL {
        let final_ = (400..500).contains(&code.status()) && ![408, 429].contains(&code.status());
        let expected = final_.then(|| "false".to_owned());
        assert_eq!(of(&Refusal::new(code, "")), expected, "{code:?}");
    }
    let share = Refusal {
        status: Some(http::StatusCode::TOO_MANY_REQUESTS),
        ..Refusal::new(Code::Overloaded, "")
    };
    assert_eq!(of(&share), None);
}

#[test]
fn a_long_or_endless_wait_tells_sdks_not_to_retry() {
    assert_eq!(
        headers(&spent(Wait::Millis(60_001)))("x-should-retry").as_deref(),
        Some("false")
    );
    let never = headers(&spent(Wait::Never));
    assert_eq!(never("x-should-retry").as_deref(), Some("false"));
    assert_eq!(never("retry-after"), None);
}
