use std::path::Path;

use proxy_admin::pages::explanation::Explanation;
use proxy_core::names::Operation;
use proxy_core::table::Table;
use proxy_core::whatif::Question;

use super::{attributes, forecast_unused, lines};
use crate::manifests::Folder;

fn question(consumer: &str, model: &str) -> Question {
    Question {
        host: "localhost".to_owned(),
        operation: Operation::ChatCompletions,
        model: model.to_owned(),
        consumer: Some(consumer.to_owned()),
        attributes: Vec::new(),
        input_tokens: 10,
        max_tokens: Some(20),
    }
}

fn quickstart(question: &Question) -> Result<Explanation, String> {
    by_example("quickstart", question)
}

fn by_example(name: &str, question: &Question) -> Result<Explanation, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(name);
    let mut folder = Folder::new(&path, "tundish-system", Vec::new());
    folder.refresh().map_err(|error| format!("{error:#}"))?;
    let table = Table::new(folder.compile().compiled.contents);
    forecast_unused(&table, question, 512).map_err(|error| error.to_string())
}

#[test]
fn explains_the_quickstart_as_text() {
    let question = question("intern", "gpt-5");
    let shown = lines(&question, &quickstart(&question).expect("known"));
    let expected = [
        "request   ChatCompletions of gpt-5 by default/intern on localhost",
        "route     default/chat, rule chat",
        "class     Standard",
        "reserves  10 input tokens, 20 output tokens, 338 micros",
        "",
        "LIMIT                         UNIT         WINDOW  SUBJECT                  ASKS  REMAINING  ALLOWED  RESERVED  FITS",
        "default/fair-use/minute       Tokens       Minute  consumer=default/intern  30    1000000    1000000  0         yes",
        "default/fair-use/at-once      Concurrency  Held    consumer=default/intern  1     50         50       0         yes",
        "default/interns/two-a-minute  Requests     Minute  consumer=default/intern  1     2          2        0         yes",
        "",
        "TIER  BACKEND          DEPLOYMENT  WEIGHT  SHARE  MICROS",
        "0     default/foundry  gpt-5       1       100%   213",
        "",
        "admitted: every limit has room, and a backend serves it",
    ];
    assert_eq!(shown, expected, "{shown:#?}");
}

#[test]
fn a_backend_without_a_token_is_named() {
    let question = question("intern", "gpt-5");
    let mut explanation = quickstart(&question).expect("known");
    explanation.backends[0].no_token = Some("AADSTS7000215".to_owned());
    let shown = lines(&question, &explanation);
    let line = "default/foundry gets no call: AADSTS7000215";
    assert!(shown.iter().any(|one| one == line), "{shown:#?}");
}

const BOUNDED: &str = "\
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: eu}
spec:
  type: Foundry
  endpoint: https://eu.example
  auth: {type: None}
  deployments:
  - {name: priced, price: {inputPerMillion: 1000000, outputPerMillion: 2000000}}
  - {name: unpriced}
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat}
spec:
  authentication: {anonymous: {}}
  rules:
  - name: all
    outputTokens: {default: 4096, max: 8192}
    backendRefs:
    - {name: eu, deployment: priced}
    - {name: eu, deployment: unpriced, priority: 1}
";

#[test]
fn the_bounds_of_a_rule_and_unknown_prices_are_shown() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("all.yaml"), BOUNDED).expect("written");
    let mut folder = Folder::new(dir.path(), "tundish-system", Vec::new());
    folder.refresh().expect("a folder");
    let table = Table::new(folder.compile().compiled.contents);
    let check = |max_tokens, reserves: &str, costs: &str| {
        let question = Question {
            consumer: None,
            max_tokens,
            ..question("", "gpt-4o")
        };
        let explanation = forecast_unused(&table, &question, 512).expect("known");
        let shown = lines(&question, &explanation).join("\n");
        assert!(
            shown.contains(&format!("reserves  {reserves}, unknown cost\n")),
            "{shown}"
        );
        assert!(shown.contains(&format!("100%   {costs}\n")), "{shown}");
        assert!(
            shown.contains("unpriced    1       100%   unknown\naffinity: Conversation\n"),
            "{shown}"
        );
    };
    check(
        None,
        "10 input tokens, 4096 output tokens (the rule's outputTokens.default)",
        "8202",
    );
    check(
        Some(9_000),
        "10 input tokens, 8192 output tokens (the rule's outputTokens.max)",
        "16394",
    );
    check(Some(5), "10 input tokens, 5 output tokens", "20");
}

#[test]
fn a_refusal_is_shown_with_its_code() {
    let question = question("intern", "llama");
    let shown = lines(&question, &quickstart(&question).expect("known"));
    assert_eq!(
        shown.last().map(String::as_str),
        Some("refused: model_not_found: no rule serves model \"llama\" for ChatCompletions")
    );
}

#[test]
fn an_unknown_consumer_is_an_error_that_suggests_similar_names() {
    let error = quickstart(&question("interm", "gpt-5")).expect_err("unknown");
    assert!(error.contains("near it: default/intern"), "{error}");
}

#[test]
fn a_consumer_with_a_token_is_explained_by_its_attributes() {
    let of = |model: &str, given: &[(&str, &str)]| {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let given: Vec<_> = given.iter().map(pair).collect();
        let question = Question {
            host: "ai.example.com".to_owned(),
            attributes: attributes(&given),
            ..question("default/app", model)
        };
        by_example("jwt", &question).expect("an issuer is listed")
    };
    let small = of("gpt-5-mini", &[]);
    let rule = small.rule.expect("a rule");
    assert_eq!((&*rule.route, &*rule.rule), ("default/entra", "small"));
    assert!(small.verdict.admitted);
    assert!(!of("gpt-5", &[("role", "Models.Call")]).verdict.admitted);
    // By the first group in their order.
    let large = of(
        "gpt-5",
        &[("role", "Models.Large"), ("group", "b"), ("group", "a")],
    );
    assert!(large.verdict.admitted);
    let subjects: Vec<&str> = large.limits.iter().map(|one| &*one.subject).collect();
    let expect = ["consumer=default/app", "group=default/a"];
    assert_eq!(subjects, expect);
}
