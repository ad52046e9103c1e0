//! Batches: whose they are, and what their lines may ask for.

use std::sync::Arc;
use std::time::Duration;

use ::http::Method;
use anyhow::{Context, Result, ensure};
use proxy_core::names::{ModelPattern, Operation};
use proxy_core::quota::{Limit, Unit};
use proxy_core::route::Match;
use proxy_core::table::{Contents, OutputTokens, Rule};
use proxy_core::test_util::deployment;
use proxy_gateway::StateKeys;
use serde_json::{Value, json};
use tests_foundry::{Config, Sim};
use tests_support::http::{self, Answer};

use crate::bench::{Bench, minute, sims};
use crate::kept::{ANN, BOB, NONE, ask, counted, id, limited};

const KEYS: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const CHAT: &str = "/v1/chat/completions";

pub(crate) fn config(time: Duration) -> Result<Config> {
    Ok(Config {
        deployments: vec![
            "gpt-5,reasoning=3,cached=2".parse()?,
            "other=gpt-5".parse()?,
        ],
        background_time: time,
        ..Config::default()
    })
}

pub(crate) fn quick() -> Result<Config> {
    config(Duration::from_millis(300))
}

/// A replica, whose table is changed before.
pub(crate) fn replica(
    sims: &[Sim],
    limit: Limit,
    change: impl FnOnce(&mut Contents),
) -> Result<Bench> {
    let mut contents = limited(sims, limit);
    change(&mut contents);
    let keys = StateKeys::read(KEYS)?;
    Bench::serve(Vec::new(), contents, |config| config.state_keys = keys)
}

pub(crate) fn plain(sims: &[Sim]) -> Result<Bench> {
    replica(sims, minute(Unit::Tokens, 1_000_000), |_contents| ())
}

/// Changes the one rule of a table.
pub(crate) fn rule(contents: &mut Contents, change: impl FnOnce(&mut Rule)) {
    let route = Arc::make_mut(contents.routes.first_mut().expect("a route"));
    change(Arc::make_mut(route.rules.first_mut().expect("a rule")));
}

pub(crate) fn line(number: usize, url: &str, body: &Value) -> String {
    let line =
        json!({"custom_id": format!("r{number}"), "method": "POST", "url": url, "body": body});
    format!("{line}\n")
}

pub(crate) fn chat(number: usize, more: &Value) -> String {
    let mut body = json!({
        "model": "gpt-5", "messages": [{"role": "user", "content": "What is a tundish?"}],
        "max_completion_tokens": 40,
    });
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    line(number, CHAT, &body)
}

pub(crate) fn chats(count: usize) -> String {
    (0..count).map(|number| chat(number, &json!({}))).collect()
}

pub(crate) async fn upload(bench: &Bench, caller: (&str, &str), text: &str) -> Result<String> {
    let form = format!(
        "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; \
         name=\"file\"; filename=\"x.jsonl\"\r\n\r\n{text}\r\n--b--\r\n"
    );
    let kind = ("content-type", "multipart/form-data; boundary=b");
    let url = format!("{}/v1/files", bench.url);
    let answer = http::request(Method::POST, &url, &[caller, kind], form).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    Ok(id(&answer.json::<Value>()?)?.to_owned())
}

pub(crate) fn about(file: &str, endpoint: &str) -> Value {
    json!({"input_file_id": file, "endpoint": endpoint, "completion_window": "24h"})
}

/// Uploads a file, and asks for a batch of it.
pub(crate) async fn begun(bench: &Bench, text: &str) -> Result<Answer> {
    let file = upload(bench, ANN, text).await?;
    ask(bench, ANN, "POST", "/v1/batches", &about(&file, CHAT)).await
}

/// The code and the message of a refusal.
pub(crate) fn refusal(answer: &Answer) -> Result<(String, String)> {
    let body = answer.json::<Value>()?;
    let error = body.get("error").context("an error")?;
    let text = |name: &str| Some(error.get(name)?.as_str()?.to_owned());
    Ok((
        text("code").context("a code")?,
        text("message").context("a message")?,
    ))
}

pub(crate) fn settled(bench: &Bench, how: &str) -> Option<u64> {
    bench.metric(&format!("settlements_total{{kind=\"{how}\"}}"))
}

pub(crate) fn class(bench: &Bench, class: &str) -> u64 {
    let lines = bench.counted("tokens_total").into_iter();
    let lines = lines.filter(|line| line.contains(&format!("type=\"{class}\"")));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

/// Asks for a batch until it has ended.
pub(crate) async fn ended(bench: &Bench, path: &str) -> Result<Value> {
    tests_support::eventually("an end", Duration::from_secs(10), async || {
        let got = ask(bench, ANN, "GET", path, &NONE)
            .await
            .ok()?
            .json::<Value>()
            .ok()?;
        let status = got.get("status")?.as_str()?;
        ["completed", "failed", "cancelled"]
            .contains(&status)
            .then_some(got)
    })
    .await
}

#[tokio::test]
async fn a_batch_settles_once_by_its_lines_however_often_it_is_polled() -> Result<()> {
    let sims = sims(2, &quick()?)?;
    let (one, other) = (plain(&sims)?, plain(&sims)?);
    for form in ["/v1", "/openai/v1"] {
        let file = upload(&one, ANN, &chats(3)).await?;
        let path = format!("{form}/batches");
        let before = counted(&other);
        let made = ask(&other, ANN, "POST", &path, &about(&file, CHAT)).await?;
        ensure!(made.status == 200, "{}", made.text());
        let made = made.json::<Value>()?;
        assert_eq!(
            made["input_file_id"],
            json!(file),
            "the id that the client knows"
        );
        assert_eq!(counted(&other), before, "it has only begun");
        let path = format!("{path}/{}", id(&made)?);
        let done = ended(&one, &path).await?;
        assert_eq!(done["status"], "completed", "{done}");
        for caller in [ANN, BOB] {
            let output = done["output_file_id"].as_str().context("a file")?;
            let path = format!("/v1/files/{output}/content");
            let content = ask(&one, caller, "GET", &path, &NONE).await?;
            let is_maker = caller == ANN;
            assert_eq!(content.status, if is_maker { 200 } else { 404 });
            assert_eq!(content.text().contains("chat.completion"), is_maker);
        }
        other.quiet().await?;
        let bills = sims
            .iter()
            .filter_map(|sim| sim.billed().deployments.get("gpt-5").copied());
        let bill = bills.fold([0; 4], |sum: [u64; 4], one| {
            [
                sum[0] + one.prompt_tokens,
                sum[1] + one.completion_tokens,
                sum[2] + one.cached_tokens,
                sum[3] + one.reasoning_tokens,
            ]
        });
        let mine = ["input", "output", "cached_input", "reasoning"].map(|name| class(&other, name));
        assert_eq!(mine, bill);
        assert_eq!(class(&one, "output"), 0, "who asks settles nothing");
    }
    assert_eq!(settled(&other, "measured"), Some(2));
    Ok(())
}

#[tokio::test]
async fn a_batch_and_its_file_are_not_there_for_anyone_else() -> Result<()> {
    let sims = sims(2, &quick()?)?;
    let bench = plain(&sims)?;
    let file = upload(&bench, ANN, &chats(1)).await?;
    let made = ask(&bench, ANN, "POST", "/v1/batches", &about(&file, CHAT)).await?;
    let made = made.json::<Value>()?;
    let batch = id(&made)?;
    bench.quiet().await?;
    let before: usize = sims.iter().map(|sim| sim.requests().len()).sum();
    for known in [batch, &batch[..batch.len() - 16], "batch_1"] {
        let path = format!("/v1/batches/{known}");
        for (method, path) in [("GET", path.clone()), ("POST", format!("{path}/cancel"))] {
            let answer = ask(&bench, BOB, method, &path, &NONE).await?;
            assert_eq!(
                (answer.status, refusal(&answer)?.0),
                (404, "not_kept".to_owned())
            );
        }
    }
    for file in [&*file, &file[..file.len() - 16], "file-1"] {
        let body = about(file, CHAT);
        let answer = ask(&bench, BOB, "POST", "/v1/batches", &body).await?;
        assert_eq!(
            (answer.status, refusal(&answer)?.0),
            (404, "not_kept".to_owned())
        );
    }
    let list = ask(&bench, ANN, "GET", "/v1/batches", &NONE).await?;
    assert_eq!(refusal(&list)?.0, "operation_not_served");
    let after: usize = sims.iter().map(|sim| sim.requests().len()).sum();
    assert_eq!(after, before, "a backend was asked");
    Ok(())
}

/// Files that are refused, with the status and a part of the message.
fn unsendable() -> Vec<(String, u16, &'static str)> {
    let responses = json!({"model": "gpt-5", "input": "x"});
    vec![
        (
            chat(1, &json!({})) + &chat(2, &json!({"model": "other"})),
            400,
            "line 2 of the file: its model is \"other\"",
        ),
        (
            chat(1, &json!({"model": "other"})),
            404,
            "line 1 of the file: no rule serves model \"other\"",
        ),
        (
            chat(1, &json!({"model": "alias"})),
            400,
            "the rule reaches there: gpt-5",
        ),
        (
            chat(1, &json!({"model": null})),
            400,
            "line 1 of the file: \"model\" must be a string",
        ),
        (
            chat(1, &json!({"stream": true})),
            400,
            "leave out \"stream\"",
        ),
        (
            chat(
                1,
                &json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}),
            ),
            400,
            "messages[0].content[0].file.file_id names what a backend keeps",
        ),
        (
            chat(
                1,
                &json!({"tools": [{"type": "mcp", "server_url": "https://x.example"}]}),
            ),
            403,
            "line 1 of the file: rule",
        ),
        (
            line(1, "/v1/responses", &responses),
            400,
            "the \"endpoint\" of the batch is",
        ),
        (
            line(1, "/v1/files", &json!({})),
            400,
            "is none that a batch may ask for",
        ),
        (
            chat(1, &json!({})) + &line(2, "/v1/responses", &responses),
            400,
            "line 2 of the file: its url is",
        ),
        (
            chats(1) + "\n{\"custom_id\":1}\n",
            400,
            "line 3 of the file: \"custom_id\" must be a string",
        ),
        (
            chats(1) + "{}",
            400,
            "line 2 of the file: \"custom_id\" is missing",
        ),
        (" \n\n".to_owned(), 400, "the file of the batch has no line"),
    ]
}

#[tokio::test]
async fn a_line_that_its_caller_could_not_send_is_named() -> Result<()> {
    let sims = sims(1, &quick()?)?;
    // Of two rules the caller may use the first alone for `gpt-5`, and another serves `other`.
    let bench = replica(&sims, minute(Unit::Tokens, 1_000_000), |contents| {
        for backend in &mut contents.backends {
            Arc::make_mut(backend).deployments =
                vec![deployment("gpt-5", "gpt-5"), deployment("other", "other")];
        }
        rule(contents, |rule| {
            rule.mcp_servers = Some(Vec::new());
            rule.matches = vec![Match {
                models: vec![
                    ModelPattern::Exact("gpt-5".into()),
                    ModelPattern::Exact("alias".into()),
                ],
                operations: vec![
                    Operation::ChatCompletions,
                    Operation::Batches,
                    Operation::Files,
                ],
                ..Match::default()
            }];
        });
    })?;
    for (text, status, because) in unsendable() {
        let answer = begun(&bench, &text).await?;
        let (_, message) = refusal(&answer)?;
        ensure!(message.contains(because), "{because}: {message}");
        assert_eq!(answer.status, status, "{message}");
    }
    let responses = json!({"model": "gpt-5", "input": "x"});
    let file = upload(&bench, ANN, &line(1, "/v1/responses", &responses)).await?;
    let body = about(&file, "/v1/responses");
    let answer = ask(&bench, ANN, "POST", "/v1/batches", &body).await?;
    let (_, message) = refusal(&answer)?;
    ensure!(
        message.contains("no rule serves model \"gpt-5\" for Responses"),
        "{message}"
    );
    let made = sims[0].requests();
    assert!(
        made.iter().all(|one| !one.path.ends_with("/batches")),
        "a batch was made"
    );
    assert_eq!(counted(&bench), 0);
    Ok(())
}

#[tokio::test]
async fn a_line_names_the_model_as_the_resource_does() -> Result<()> {
    let sims = sims(1, &quick()?)?;
    let bench = replica(&sims, minute(Unit::Tokens, 1_000_000), |contents| {
        rule(contents, |rule| {
            for target in &mut rule.targets {
                target.deployment = Some("gpt-5".into());
            }
        });
    })?;
    let answer = begun(&bench, &chat(1, &json!({"model": "smart"}))).await?;
    let (code, message) = refusal(&answer)?;
    assert_eq!((answer.status, &*code), (400, "invalid_request"));
    ensure!(message.contains("write \"model\": \"gpt-5\""), "{message}");
    let node = "/openai/deployments/smart/batches?api-version=2024-10-21";
    let file = upload(&bench, ANN, &chats(1)).await?;
    let answer = ask(&bench, ANN, "POST", node, &about(&file, CHAT)).await?;
    ensure!(
        refusal(&answer)?
            .1
            .contains("the path of the batch names \"smart\"")
    );
    let node = node.replace("smart", "gpt-5");
    let answer = ask(&bench, ANN, "POST", &node, &about(&file, CHAT)).await?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn a_rule_that_bounds_answers_bounds_those_of_a_file() -> Result<()> {
    let sims = sims(1, &quick()?)?;
    let bench = replica(&sims, minute(Unit::Tokens, 1_000_000), |contents| {
        rule(contents, |rule| {
            rule.output_tokens = OutputTokens {
                default: None,
                max: Some(30),
            };
        });
    })?;
    for more in [json!({}), json!({"max_completion_tokens": null})] {
        let answer = begun(&bench, &chat(1, &more)).await?;
        let (_, message) = refusal(&answer)?;
        ensure!(
            message.contains("write \"max_completion_tokens\": 30"),
            "{message}"
        );
    }
    let answer = begun(&bench, &chat(1, &json!({"max_completion_tokens": 30}))).await?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn what_only_the_backend_can_read_needs_a_rule_without_a_meter() -> Result<()> {
    let sims = sims(1, &quick()?)?;
    let blob = json!({"input_blob": "https://x.blob.core.windows.net/in/x.jsonl", "endpoint": CHAT, "completion_window": "24h"});
    let folder =
        json!({"output_folder": {"url": "https://x.blob.core.windows.net/out"}, "endpoint": CHAT});
    let bench = plain(&sims)?;
    for body in [&blob, &folder] {
        let answer = ask(&bench, ANN, "POST", "/v1/batches", body).await?;
        assert_eq!(refusal(&answer)?.0, "unmetered");
    }
    for (models, expect) in [
        (Vec::new(), "upstream"),
        (vec![ModelPattern::Exact("gpt-5".into())], "unmetered"),
    ] {
        let bench = replica(&sims, minute(Unit::Tokens, 1_000_000), |contents| {
            rule(contents, |rule| {
                rule.allows_unmetered = true;
                rule.matches = vec![Match {
                    models,
                    ..Match::default()
                }];
            });
        })?;
        let answer = ask(&bench, ANN, "POST", "/v1/batches", &blob).await?;
        // The simulator has no storage account, and misses the file.
        let is_upstream = answer
            .text()
            .contains("Missing required parameter: 'input_file_id'");
        assert_eq!(is_upstream, expect == "upstream", "{}", answer.text());
        bench.quiet().await?;
    }
    Ok(())
}
