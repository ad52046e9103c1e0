use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proxy_admin::clock;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{MAX_BODY, MAX_TEXT, Prompt, count};

mod accuracy;

const CHAT: Prompt = Prompt::Chat;
const GPT: &str = "gpt-4o";

fn tokens(prompt: Prompt, model: &str, body: &Value) -> Option<u64> {
    count(body.to_string().as_bytes(), prompt, model, u64::MAX)
}

fn said(content: &Value) -> Option<u64> {
    let body = json!({"messages": [{"role": "user", "content": content}]});
    tokens(CHAT, GPT, &body)
}

/// A PNG of this size, by its header, in a `data:` URL of about `bytes` bytes.
fn png(width: u32, height: u32, bytes: usize) -> String {
    let mut image = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    image.extend_from_slice(&width.to_be_bytes());
    image.extend_from_slice(&height.to_be_bytes());
    image.resize(bytes * 3 / 4, 7);
    format!("data:image/png;base64,{}", STANDARD.encode(image))
}

// === the corpus ===

/// A request and the input tokens that it was billed; see `source`.
#[derive(Deserialize)]
struct Case {
    name: String,
    source: String,
    operation: String,
    tokens: u64,
    body: Value,
}

impl Case {
    fn has_tools(&self) -> bool {
        let schemas = ["tools", "functions", "response_format", "text"];
        schemas.iter().any(|name| self.body.get(name).is_some())
    }

    /// The rules were made without it.
    fn is_kept_apart(&self) -> bool {
        self.source.contains("not used for fitting")
    }

    fn has_image(&self) -> bool {
        self.body.to_string().contains("image_url")
    }
}

/// How the prompt of an operation is written, if it is counted.
fn prompt_of(operation: &str) -> Option<Prompt> {
    match operation {
        "ChatCompletions" => Some(Prompt::Chat),
        "Responses" => Some(Prompt::Responses),
        "Completions" => Some(Prompt::Completions),
        "Embeddings" => Some(Prompt::Embeddings),
        "Messages" => None,
        other => panic!("no prompt is written like {other}"),
    }
}

fn corpus() -> Vec<Case> {
    let lines = include_str!("corpus.jsonl").lines();
    lines
        .map(|line| serde_json::from_str(line).expect("a case is JSON"))
        .collect()
}

/// Puts the images in: `@image WIDTH HEIGHT BYTES`.
fn with_images(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(numbers) = text.strip_prefix("@image ") {
                let numbers: Vec<u32> = numbers.split(' ').map(|n| n.parse().unwrap()).collect();
                let bytes = usize::try_from(numbers[2]).unwrap();
                *text = png(numbers[0], numbers[1], bytes);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(with_images),
        Value::Object(fields) => fields.values_mut().for_each(with_images),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

// === the parts of a prompt ===

#[test]
fn a_text_costs_the_same_as_a_string_and_as_a_part() {
    let text = "Größe und Maß";
    let part = json!([{"type": "text", "text": text}]);
    assert_eq!(said(&json!(text)), said(&part));
    let escaped = r#"{"messages":[{"role":"user","content":"Gr\u00f6\u00dfe und Ma\u00df"}]}"#;
    assert_eq!(count(escaped.as_bytes(), CHAT, GPT, u64::MAX), said(&part));
}

#[test]
fn an_image_costs_by_its_size_where_the_body_tells_it() {
    let image = |model: &str, url: &str, detail: &str| {
        let content = json!([{"type": "image_url", "image_url": {"url": url, "detail": detail}}]);
        let body = json!({"messages": [{"role": "user", "content": content}]});
        tokens(CHAT, model, &body).expect("it is counted") - 7
    };
    let square = png(1024, 1024, 4_000);
    assert_eq!(image("gpt-4o", &square, "high"), 765);
    assert_eq!(image("gpt-4o", &square, "low"), 85);
    assert_eq!(image("gpt-4o", &png(2048, 4096, 4_000), "auto"), 1_105);
    assert_eq!(
        image("gpt-4o", "https://example.com/cat.png", "high"),
        1_445
    );
    assert_eq!(image("gpt-4.1-mini", &square, "high"), 1_659);
    assert_eq!(
        image("gpt-4.1-mini", &png(9_000, 9_000, 4_000), "high"),
        2_489
    );
    assert_eq!(image("gpt-5", &square, "high"), 70 + 4 * 140);
    assert_eq!(image("o1", &square, "low"), 75);
    let broken = "data:image/png;base64,AAAA";
    assert_eq!(image("gpt-4o", broken, "high"), 1_445);
}

#[test]
fn reads_the_size_from_the_head_of_every_format() {
    let check = |bytes: &[u8], expect: Option<(u64, u64)>| {
        let url = format!("data:image/x;base64,{}", STANDARD.encode(bytes));
        assert_eq!(super::image::size(&url), expect, "{bytes:?}");
    };
    check(b"GIF89a\x20\x03\x58\x02rest of it", Some((800, 600)));
    let lossy = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x20\x03\x58\x02";
    check(lossy, Some((800, 600)));
    // (800 - 1) | (600 - 1) << 14
    let lossless = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x1f\xc3\x95\x00";
    check(lossless, Some((800, 600)));
    let extended = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x1f\x03\0\x57\x02\0";
    check(extended, Some((800, 600)));
    let jpeg = b"\xff\xd8\xff\xe1\0\x06Exif\xff\xff\xdb\0\x03\0\xff\xc2\0\x11\x08\x02\x58\x03\x20";
    check(jpeg, Some((800, 600)));
    check(b"\xff\xd8\xff\xe1\xff\xff", None);
    check(b"\xff\xd8\xff\xda\0\0", None);
    check(b"GIF89a\0\0\x58\x02", None);
    check(b"BM a bitmap", None);
    check(b"", None);
    assert_eq!(super::image::size("data:image/png,plain"), None);
}

#[test]
fn a_sound_and_a_file_cost_a_bound() {
    let sound = json!([{"type": "input_audio", "input_audio": {"data": "A".repeat(53_300), "format": "mp3"}}]);
    assert_eq!(said(&sound), Some(7 + 100));
    let unreadable = json!([{"type": "file", "file": {"file_data": "A".repeat(398)}}]);
    let unseen = json!([{"type": "file", "file": {"file_id": "file-1"}}]);
    for (file, pages) in [(unreadable, 1), (unseen, 100)] {
        assert_eq!(said(&file), Some(7 + pages * (1_445 + 1_000)));
    }
}

#[test]
fn an_invisible_or_malformed_prompt_is_not_counted() {
    let none = |operation, model, body: &Value| {
        assert_eq!(tokens(operation, model, body), None, "{body}");
    };
    let hello = json!({"messages": [{"role": "user", "content": "hello"}]});
    none(CHAT, "claude-sonnet-4-5", &hello);
    none(CHAT, GPT, &json!({}));
    none(
        CHAT,
        GPT,
        &json!({"messages": [{"role": "user", "content": 7}]}),
    );
    none(
        CHAT,
        GPT,
        &json!({"messages": [{"role": "user", "content": [{"type": "video"}]}]}),
    );
    let responses = Prompt::Responses;
    none(
        responses,
        GPT,
        &json!({"input": "a", "previous_response_id": "resp_1"}),
    );
    none(
        responses,
        GPT,
        &json!({"input": "a", "conversation": "conv_1"}),
    );
    none(
        responses,
        GPT,
        &json!({"input": [{"type": "item_reference", "id": "msg_1"}]}),
    );
    assert!(
        tokens(
            responses,
            GPT,
            &json!({"input": "a", "previous_response_id": null})
        )
        .is_some()
    );
    let twice = br#"{"messages":[],"messages":[]}"#;
    assert_eq!(count(twice, CHAT, GPT, u64::MAX), None);
    assert_eq!(count(b"\xff", CHAT, GPT, u64::MAX), None);
}

#[test]
fn a_request_that_is_too_large_is_counted_only_up_to_the_budget() {
    let body = json!({"messages": [{"role": "user", "content": "word ".repeat(MAX_TEXT / 5 + 1)}]});
    assert_eq!(tokens(CHAT, GPT, &body), None);
    let body =
        json!({"messages": vec![json!({"role": "user", "content": "word ".repeat(10_000)}); 20]});
    assert_eq!(tokens(CHAT, GPT, &body), None);
    let counted = count(body.to_string().as_bytes(), CHAT, GPT, 1_000).expect("soon known");
    assert!(counted > 1_000 && counted < 3_000, "{counted}");
    let spaces = format!("{}{}", " ".repeat(MAX_BODY), json!({"messages": []}));
    assert_eq!(count(spaces.as_bytes(), CHAT, GPT, u64::MAX), None);
}

#[test]
fn plain_prompts_are_texts_or_tokens() {
    let check = |body: Value, expect: Option<u64>| {
        assert_eq!(
            tokens(Prompt::Embeddings, "text-embedding-3-small", &body),
            expect
        );
    };
    check(json!({"input": "hello world"}), Some(2));
    check(json!({"input": ["hello world", "hello"]}), Some(3));
    check(json!({"input": [1, 2, 3]}), Some(3));
    check(json!({"input": [[1, 2], [3]]}), Some(3));
    check(json!({"input": {"text": "hello"}}), None);
    check(json!({"input": null}), None);
}

#[test]
fn a_hostile_schema_costs_no_more_than_its_size() {
    // Were `object` taken twice at each of 40 levels, this would be a trillion members.
    let mut schema = json!({"type": "string"});
    for _ in 0..40 {
        schema = json!({"type": ["object", "object", "array"], "properties": {"a": schema}});
    }
    let names: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    let wide: serde_json::Map<String, Value> =
        names.iter().map(|name| (name.clone(), json!({}))).collect();
    let wide = json!({"type": "object", "properties": wide, "required": names});
    for parameters in [schema, wide] {
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": parameters}});
        let body = json!({"messages": [], "tools": [tool]}).to_string();
        let begun = clock::instant();
        let counted = count(body.as_bytes(), CHAT, GPT, u64::MAX);
        let took = clock::instant().saturating_duration_since(begun);
        assert!(took.as_secs() < 5, "{took:?}");
        assert!(counted.is_none_or(|n| n < u64::try_from(body.len()).unwrap()));
    }
}

/// JSON in the words of a request, of any shape.
fn hostile() -> impl Strategy<Value = Value> {
    const WORDS: [&str; 28] = [
        "messages",
        "role",
        "content",
        "user",
        "system",
        "tool",
        "type",
        "text",
        "image_url",
        "url",
        "tools",
        "function",
        "name",
        "arguments",
        "parameters",
        "properties",
        "items",
        "required",
        "enum",
        "anyOf",
        "object",
        "array",
        "input",
        "output",
        "function_call",
        "input_audio",
        "response_format",
        "json_schema",
    ];
    let word = || prop::sample::select(&WORDS[..]).prop_map(str::to_owned);
    let leaf = prop_oneof![
        word().prop_map(Value::String),
        any::<String>().prop_map(Value::String),
        any::<i64>().prop_map(|n| json!(n)),
        Just(Value::Null),
        Just(json!("data:image/jpeg;base64,/9j/4QAGRXhpZv/A")),
    ];
    leaf.prop_recursive(8, 200, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::vec((word(), inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_counted_or_refused_and_a_budget_only_stops_early(
        messages in hostile(), tools in hostile(), format in hostile(), budget in 0u64..200,
    ) {
        let body = json!({
            "messages": [{"role": "user", "content": &messages}, &messages],
            "input": &messages, "tools": [tools], "response_format": &format, "text": &format,
        });
        let body = body.to_string();
        for prompt in [Prompt::Chat, Prompt::Responses, Prompt::Completions, Prompt::Embeddings] {
            let whole = count(body.as_bytes(), prompt, GPT, u64::MAX);
            let stopped = count(body.as_bytes(), prompt, GPT, budget);
            match (whole, stopped) {
                (Some(whole), Some(stopped)) => {
                    prop_assert!(stopped == whole || (stopped > budget && stopped <= whole));
                }
                // What surprises comes after the budget is passed.
                (None, Some(stopped)) => prop_assert!(stopped > budget),
                (Some(_), None) => prop_assert!(false, "a budget refuses nothing"),
                (None, None) => {}
            }
        }
    }
}
