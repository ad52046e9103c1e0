use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use proptest::prelude::*;
use proxy_admin::telemetry::Format;
use serde_json::Value;

use super::Detail;
use crate::fields::Fields;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn detail(request: http::request::Builder) -> Detail {
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    Detail::of(&parts, &Fields::of(&parts.headers), CLIENT, Format::Json)
}

/// The fields of the head as the log has them; empty for those that are left out.
fn shown(detail: &Detail) -> [String; 4] {
    let head = std::str::from_utf8(detail.head()).expect("text");
    let object = format!("{{{}}}", head.trim_start_matches(','));
    let fields: Value = serde_json::from_str(&object).expect("members of an object");
    assert_eq!(fields["client"], "127.0.0.1");
    assert_eq!(fields["protocol"], "HTTP/1.1");
    let field = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
    ["method", "host", "path", "user_agent"].map(field)
}

#[test]
fn the_query_is_left_out_and_the_rest_is_as_it_came() {
    let request = Request::post("/v1/chat/completions?api-key=secret")
        .header("host", "AI.example.com:8080")
        .header("user-agent", "OpenAI/Python 1.0");
    let detail = detail(request);
    let expect = [
        "POST",
        "AI.example.com:8080",
        "/v1/chat/completions",
        "OpenAI/Python 1.0",
    ];
    assert_eq!(shown(&detail), expect);
}

#[test]
fn the_host_of_a_target_goes_before_the_header() {
    let request = Request::get("http://target.example/v1/models").header("host", "header.example");
    let expect = ["GET", "target.example", "/v1/models", ""];
    assert_eq!(shown(&detail(request)), expect);
}

#[test]
fn every_part_has_a_bound() {
    let long = "x".repeat(5_000);
    let request = Request::builder()
        .method(&*long)
        .uri(format!("/{long}"))
        .header("host", &long)
        .header("user-agent", &long);
    let lengths = shown(&detail(request)).map(|text| text.len());
    assert_eq!(lengths, [24, 255, 256, 160]);
}

#[test]
fn the_backend_names_the_call_by_the_most_telling_header() {
    let mut detail = Detail::unread(CLIENT, Format::Json);
    let own = HeaderValue::from_static("own");
    let headers = |names: &[&'static str]| -> HeaderMap {
        let header = |name: &&'static str| {
            let value = HeaderValue::from_static(name);
            (HeaderName::from_static(name), value)
        };
        names.iter().map(header).collect()
    };
    for (names, own, expect) in [
        (
            &["apim-request-id", "request-id", "x-ms-request-id"][..],
            Some(&own),
            "apim-request-id",
        ),
        (&["x-ms-request-id"], Some(&own), "own"),
        (&["x-ms-request-id", "request-id"], None, "request-id"),
        (&["x-ms-request-id"], None, "x-ms-request-id"),
        (&[], None, ""),
    ] {
        detail.answered(&headers(names), own);
        assert_eq!(String::from_utf8_lossy(detail.upstream_id()), expect);
    }
    let long = HeaderValue::from_str(&"i".repeat(500)).expect("a value");
    detail.answered(&HeaderMap::new(), Some(&long));
    assert_eq!(detail.upstream_id().len(), 96);
}

proptest! {
    #[test]
    fn short_texts_stay_apart_and_whole(
        host in "[a-z.:]{0,40}",
        path in "/[a-z/]{0,60}",
        agent in "[a-zA-Z/ ]{0,60}",
    ) {
        let request = Request::get(&path)
            .header("host", &host)
            .header("user-agent", &agent);
        let expect = ["GET".to_owned(), host, path, agent];
        prop_assert_eq!(shown(&detail(request)), expect);
    }
}
