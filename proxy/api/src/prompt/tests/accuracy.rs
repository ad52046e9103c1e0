//! How far the estimate of the input is off: for each family, before any answer has taught the gateway and after.

use std::fmt::Write as _;
use std::time::Duration;

use expect_test::expect_file;
use proxy_core::names::Usage;
use proxy_core::tokens::{
    Encoding, Expected, Family, ObservedSizes, Shape, context_window, estimate, overhead,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{count, media};
use super::{Case, corpus, prompt_of, with_images};

const PAGE: &str = include_str!("../../../../../docs/quotas.md");
const BEGIN: &str = "<!-- estimates:begin -->\n";
const END: &str = "<!-- estimates:end -->";

const BY_VOCABULARY: &str = "vocabulary and OpenAI's format";

/// A text and its tokens by several vocabularies, counted by the crate `tiktoken` 4.1.
#[derive(Deserialize)]
struct Sample {
    name: String,
    class: String,
    tokens: Map<String, Value>,
    text: String,
}

/// A request and what it was billed.
struct Request {
    name: String,
    shape: Shape,
    /// What is known of it before any answer.
    at_first: Expected,
    truth: u64,
}

/// The requests of one row.
struct Group {
    family: &'static str,
    requests: String,
    truth: &'static str,
    all: Vec<Request>,
}

// === requests ===

/// As the gateway sees it: see `Estimate` there.
fn request(name: &str, model: &str, body: &Value, counted: Option<u64>, truth: u64) -> Request {
    let bytes = body.to_string().into_bytes();
    let media = media(&bytes, model, context_window(model));
    let has_tools = body.get("tools").is_some() && model.starts_with("claude");
    let size = u64::try_from(bytes.len()).unwrap();
    let text = (media.tokens == 0).then_some(&*bytes);
    Request {
        name: name.to_owned(),
        shape: Shape {
            body_bytes: size - media.bytes,
            media_tokens: media.tokens,
            overhead: overhead(has_tools),
            ..Shape::default()
        },
        at_first: Expected {
            input_tokens: counted,
            usual_per_mille: Some(Family::of_model(model).per_mille(text)),
            ..Expected::default()
        },
        truth,
    }
}

fn of_case(case: Case) -> Request {
    let mut body = case.body;
    with_images(&mut body);
    let model = body["model"].as_str().expect("a model").to_owned();
    let prompt = prompt_of(&case.operation);
    let bytes = body.to_string().into_bytes();
    let counted = prompt.and_then(|prompt| count(&bytes, prompt, &model, u64::MAX));
    request(&case.name, &model, &body, counted, case.tokens)
}

/// One message with this text. `around` is what the chat format adds, where it is published.
fn of_sample(sample: &Sample, model: &str, vocabulary: &str, around: u64) -> Request {
    let body = json!({
        "model": model, "max_tokens": 1_024,
        "messages": [{"role": "user", "content": sample.text}],
    });
    let counted = count(body.to_string().as_bytes(), super::CHAT, model, u64::MAX);
    let truth = sample.tokens[vocabulary].as_u64().expect("a number") + around;
    request(&sample.name, model, &body, counted, truth)
}

fn lines<T: for<'a> Deserialize<'a>>(lines: &str) -> Vec<T> {
    let parse = |line| serde_json::from_str(line).expect("a line is JSON");
    lines.lines().map(parse).collect()
}

// === groups ===

fn groups() -> Vec<Group> {
    let mut groups = of_corpus();
    let samples: Vec<Sample> = lines(include_str!("../texts.jsonl"));
    let text_alone = "vocabulary, the text alone";
    for (family, model, vocabulary, truth, around) in [
        (
            "GPT-4o to GPT-5, o-series",
            "gpt-5.5",
            "o200k_base",
            BY_VOCABULARY,
            7,
        ),
        ("GPT-4, GPT-3.5", "gpt-4", "cl100k_base", BY_VOCABULARY, 7),
        (
            "DeepSeek V4",
            "DeepSeek-V4-Pro",
            "deepseek_v4",
            text_alone,
            0,
        ),
        ("Kimi K2", "Kimi-K2.6", "kimi_k2", text_alone, 0),
        ("Llama 3", "Llama-3.3-70B-Instruct", "llama3", text_alone, 0),
        ("Mistral", "Mistral-Large-3", "mistral_v3", text_alone, 0),
    ] {
        for class in ["prose", "other scripts", "code and data"] {
            let of_class = samples.iter().filter(|sample| sample.class == class);
            let all = of_class
                .map(|sample| of_sample(sample, model, vocabulary, around))
                .collect();
            groups.push(Group {
                family,
                requests: class.to_owned(),
                truth,
                all,
            });
        }
    }
    groups
}

/// Those that a provider has billed.
fn of_corpus() -> Vec<Group> {
    let group = |family, requests: &str, cases: Vec<Case>| Group {
        family,
        requests: requests.to_owned(),
        truth: "as billed",
        all: cases.into_iter().map(of_case).collect(),
    };
    let claude: Vec<Case> = lines(include_str!("../messages.jsonl"));
    let (with_tools, without) = claude.into_iter().partition(Case::has_tools);
    let openai = corpus().into_iter();
    let (calculated, billed): (Vec<_>, Vec<_>) =
        openai.partition(|case| case.source.contains("overhead"));
    let calculated = calculated.into_iter().filter(|case| !case.has_image());
    let billed = billed.into_iter();
    let (images, text): (Vec<_>, Vec<_>) = billed.partition(Case::has_image);
    let (apart, text): (Vec<_>, Vec<_>) = text.into_iter().partition(Case::is_kept_apart);
    let (tools, chats): (Vec<_>, Vec<_>) = text.into_iter().partition(Case::has_tools);
    let openai = "GPT-3.5 to GPT-5, o-series";
    vec![
        group(openai, "short chats", chats),
        group(openai, "tools and schemas", tools),
        group(openai, "tools and schemas, kept apart", apart),
        group(openai, "images", images),
        Group {
            truth: BY_VOCABULARY,
            ..group(openai, "long chats, code, embeddings", calculated.collect())
        },
        group("Claude", "without tools", without),
        group("Claude", "with tools", with_tools),
    ]
}

// === the table ===

/// Error in per mille, signed: more is an estimate that holds too much.
fn error(estimate: u64, truth: u64) -> i64 {
    let number = |tokens: u64| i64::try_from(tokens).unwrap();
    (number(estimate) - number(truth)) * 1_000 / number(truth)
}

/// Median and 95th percentile of the errors without their signs, and the furthest on either side.
fn summary(errors: &[i64]) -> String {
    let mut sizes: Vec<i64> = errors.iter().map(|error| error.abs()).collect();
    sizes.sort_unstable();
    let at = |per_cent: usize| sizes[(sizes.len() * per_cent).div_ceil(100).max(1) - 1];
    let percent = |error: i64| format!("{} %", (error + 5).div_euclid(10));
    let least = errors.iter().min().copied().unwrap_or(0).min(0);
    let most = errors.iter().max().copied().unwrap_or(0).max(0);
    format!(
        "{} | {} | {} | {}",
        percent(at(50)),
        percent(at(95)),
        percent(least.abs()),
        percent(most)
    )
}

fn errors(requests: &[Request], expected: impl Fn(&Request) -> Expected) -> Vec<i64> {
    let held = |one: &Request| estimate(one.shape, expected(one), 1).input_tokens;
    requests
        .iter()
        .map(|one| error(held(one), one.truth))
        .collect()
}

/// What answers to these requests teach.
fn taught(requests: &[Request]) -> Expected {
    let mut sizes = ObservedSizes::default();
    for one in requests.iter().cycle().take(requests.len() * 20) {
        let usage = Usage {
            input_tokens: one.truth,
            ..Usage::default()
        };
        sizes.observe(one.shape, usage, Duration::ZERO);
    }
    sizes.expected()
}

fn row(group: &Group) -> String {
    let before = errors(&group.all, |one| one.at_first);
    for (one, error) in group.all.iter().zip(&before) {
        println!("{}: {} tokens, {error} per mille off", one.name, one.truth);
    }
    let learned = taught(&group.all);
    let after = errors(&group.all, |one| Expected {
        // The ratio spares the count.
        input_tokens: learned
            .input_per_mille
            .map_or(one.at_first.input_tokens, |_| None),
        input_per_mille: learned.input_per_mille,
        ..one.at_first
    });
    format!(
        "| {} | {} | {} | {} | {} | {} |\n",
        group.family,
        group.requests,
        group.truth,
        group.all.len(),
        summary(&before),
        summary(&after)
    )
}

#[test]
fn the_table_of_estimates_is_current() {
    let mut table = String::from(
        "| family | requests | truth | n | before: median | p95 | most below | most above | learned: median | p95 \
         | most below | most above |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for group in groups() {
        write!(table, "{}", row(&group)).expect("a string");
    }
    let (before, rest) = PAGE.split_once(BEGIN).expect("a mark where it begins");
    let (_, after) = rest.split_once(END).expect("a mark where it ends");
    let page = [before, BEGIN, &table, END, after].concat();
    expect_file!["../../../../../docs/quotas.md"].assert_eq(&page);
}

#[test]
fn a_vocabulary_counts_the_samples_to_the_token() {
    for sample in lines::<Sample>(include_str!("../texts.jsonl")) {
        for (encoding, name) in [
            (Encoding::O200k, "o200k_base"),
            (Encoding::Cl100k, "cl100k_base"),
        ] {
            let counted = encoding.count(&sample.text, u64::MAX);
            assert_eq!(
                Some(counted),
                sample.tokens[name].as_u64(),
                "{}",
                sample.text
            );
        }
    }
}
