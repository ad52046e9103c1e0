//! The tricks: what a client sends, and where it hangs up.

use serde_json::{Value, json};

pub(crate) const CHAT: &str = "/v1/chat/completions";
const DATED_CHAT: &str = "/openai/deployments/gpt-5/chat/completions?api-version=2024-10-21";
pub(crate) const COMPLETIONS: &str = "/v1/completions";
pub(crate) const RESPONSES: &str = "/openai/v1/responses";
pub(crate) const MESSAGES: &str = "/anthropic/v1/messages";
pub(crate) const EMBEDDINGS: &str = "/v1/embeddings";
pub(crate) const IMAGES: &str = "/v1/images/generations";

/// Where the client hangs up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leaves {
    /// After the whole answer.
    Never,
    /// Once it has read this as often.
    After(&'static str, usize),
}

/// A way to get more than is paid for.
pub(crate) struct Trick {
    pub(crate) name: String,
    pub(crate) path: &'static str,
    /// Sent in turn.
    pub(crate) bodies: Vec<String>,
    pub(crate) leaves: Leaves,
}

fn trick(name: &str, path: &'static str, bodies: &[Value], leaves: Leaves) -> Trick {
    Trick {
        name: name.to_owned(),
        path,
        bodies: bodies.iter().map(Value::to_string).collect(),
        leaves,
    }
}

fn text() -> String {
    "What is a tundish, and what is it good for? ".repeat(4)
}

/// A body with more members.
pub(crate) fn with(mut body: Value, more: &Value) -> Value {
    if let (Some(members), Some(more)) = (body.as_object_mut(), more.as_object()) {
        members.extend(more.clone());
    }
    body
}

pub(crate) fn chat() -> Value {
    json!({"model": "gpt-5", "messages": [{"role": "user", "content": text()}]})
}

pub(crate) fn messages() -> Value {
    let says = json!([{"role": "user", "content": text()}]);
    json!({"model": "claude-sonnet-5-5", "max_tokens": 1_000, "messages": says})
}

pub(crate) fn responses() -> Value {
    json!({"model": "gpt-5", "input": text()})
}

pub(crate) fn completions() -> Value {
    json!({"model": "gpt-3.5-turbo-instruct", "prompt": text(), "max_tokens": 120})
}

pub(crate) fn embeddings() -> Value {
    json!({"model": "text-embedding-3-large", "input": text()})
}

pub(crate) fn image() -> Value {
    json!({"model": "gpt-image-2", "prompt": text(), "quality": "low"})
}

/// The APIs that stream text: name, path, body, and what stands once in each event with text.
fn streams() -> [(&'static str, &'static str, Value, &'static str); 5] {
    [
        ("chat", CHAT, chat(), "\"content\":\" "),
        ("dated-chat", DATED_CHAT, chat(), "\"content\":\" "),
        ("completions", COMPLETIONS, completions(), "\"text\":\" "),
        ("responses", RESPONSES, responses(), "\"delta\":\" "),
        ("messages", MESSAGES, messages(), "\"text\":\" "),
    ]
}

/// Streams that are left: after their first words, in the middle, after the last word and before the usage.
pub(crate) fn left_streams() -> Vec<Trick> {
    let mut tricks = Vec::new();
    for (api, path, body, delta) in streams() {
        let body = with(body, &json!({"stream": true}));
        for (name, times) in [("at-once", 1), ("midway", 40), ("before-usage", 119)] {
            let name = format!("{api}-{name}");
            let leaves = Leaves::After(delta, times);
            tricks.push(trick(&name, path, std::slice::from_ref(&body), leaves));
        }
    }
    let body = with(image(), &json!({"stream": true, "partial_images": 2}));
    let leaves = Leaves::After("partial_image\n", 1);
    tricks.push(trick("image-at-once", IMAGES, &[body], leaves));
    tricks
}

/// Streams of models that think, left after their first words: the resource bills thoughts that no event shows.
/// At first the gateway has seen no usage of such a model, then one answer in four tells it.
pub(crate) fn left_thoughts() -> Vec<Trick> {
    let mut tricks = Vec::new();
    for (api, path, body, delta) in streams() {
        let model = match api {
            "chat" | "responses" => "gpt-5.5",
            "messages" => "claude-opus-5-5",
            _ => continue,
        };
        let whole = with(body, &json!({"model": model}));
        let left = with(whole.clone(), &json!({"stream": true}));
        let leaves = Leaves::After(delta, 1);
        let name = format!("{api}-thoughts");
        tricks.push(trick(&name, path, std::slice::from_ref(&left), leaves));
        let bodies = [whole, left.clone(), left.clone(), left];
        tricks.push(trick(&format!("{name}-known"), path, &bodies, leaves));
    }
    tricks
}

/// One request for many answers.
pub(crate) fn many_in_one() -> Vec<Trick> {
    let stream = json!({"stream": true});
    let many = json!({"n": 4, "max_completion_tokens": 60});
    let legacy = [
        json!({"n": 4, "max_tokens": 30}),
        json!({"n": 1, "best_of": 6, "max_tokens": 30}),
        json!({"prompt": ["one two three", "four", "five", "six"], "max_tokens": 30}),
        json!({"prompt": [[1, 2, 3], [4, 5]], "n": 2, "best_of": 3, "max_tokens": 30}),
    ];
    let legacy = legacy.map(|more| with(completions(), &more));
    let unbounded = with(chat(), &json!({"n": 3}));
    let batch = vec!["one two three four five six seven eight nine ten"; 40];
    let ids = vec![vec![7; 300]; 2];
    vec![
        trick(
            "choices",
            CHAT,
            &[with(chat(), &many), unbounded.clone()],
            Leaves::Never,
        ),
        trick(
            "choices-left",
            CHAT,
            &[with(unbounded, &stream)],
            Leaves::After("\"content\":\" ", 150),
        ),
        trick("best-of", COMPLETIONS, &legacy, Leaves::Never),
        trick(
            "batch",
            EMBEDDINGS,
            &[
                with(embeddings(), &json!({"input": batch})),
                with(embeddings(), &json!({"input": ids})),
            ],
            Leaves::Never,
        ),
        trick(
            "images",
            IMAGES,
            &[with(image(), &json!({"n": 3}))],
            Leaves::Never,
        ),
    ]
}

/// Whole answers without a bound on their length, each over a connection of its own.
pub(crate) fn unbounded() -> Vec<Trick> {
    let stream = json!({"stream": true});
    [
        ("chat", CHAT, chat()),
        ("responses", RESPONSES, responses()),
    ]
    .into_iter()
    .map(|(api, path, body)| {
        let bodies = [body.clone(), with(body, &stream)];
        trick(&format!("{api}-unbounded"), path, &bodies, Leaves::Never)
    })
    .collect()
}

/// Bodies that two readers may read differently.
pub(crate) fn ambiguous() -> Vec<Trick> {
    let mut tricks = Vec::new();
    for (api, path, body, _) in streams() {
        let bound = match api {
            "responses" => "max_output_tokens",
            _ => "max_tokens",
        };
        let body = body.to_string();
        let members = body.trim_start_matches('{').trim_end_matches('}');
        let bodies = [
            format!(r#"{{{members},"stream":false,"stream":true}}"#),
            format!(r#"{{{members},"stream":true,"stream":false}}"#),
            format!(r#"{{{members},"Stream":true}}"#),
            format!(r#"{{{members},"stream":"true"}}"#),
            format!(r#"{{{members},"stream":1}}"#),
            format!(r#"{{{members},"str\u0065am":true}}"#),
            format!(r#"{{"{bound}":16,{members},"{bound}":120}}"#),
            format!(r#"{{{members},"{}":16}}"#, bound.to_uppercase()),
            format!(r#"{{{members},"{bound}":"120"}}"#),
            format!(r#"{{{members},"n":1,"n":5}}"#),
            format!(r#"{{{members},"N":5}}"#),
            format!(r#"{{{members},"stream_options":{{"include_usage":false}},"stream":true}}"#),
            format!(r#"{{{members},"model":"text-embedding-3-large"}}"#),
        ];
        tricks.push(Trick {
            name: format!("{api}-ambiguous"),
            path,
            bodies: bodies.to_vec(),
            leaves: Leaves::Never,
        });
    }
    tricks
}
