//! `tundish quota` and `tundish explain` beside a gateway that serves: what they tell is what was
//! used, and what they forecast is what a request then gets.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{Quickstart, binary, eventually, free_port, http, workspace};

const LIMIT: Duration = Duration::from_secs(20);

/// The quickstart, and one consumer that no route admits.
struct Gateway(Quickstart);

impl Gateway {
    async fn start() -> Result<Self> {
        // A route of its own makes the outsider a consumer, on another host.
        Ok(Self(
            Quickstart::start(&[("outsider.yaml", OUTSIDER)]).await?,
        ))
    }

    async fn ask(&self, key: &str, model: &str) -> Result<http::Answer> {
        let body = json!({
            "model": model, "max_tokens": 20, "messages": [{"role": "user", "content": "Hi"}],
        });
        http::post_json(&self.0.chat_url(), &[("api-key", key)], body.to_string()).await
    }

    fn quota(&self) -> Result<Value> {
        let output = tundish(&["quota", "--admin", &self.0.admin, "-o", "json"])?;
        ensure!(output.status.success(), "{output:?}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The exit code, and the verdict.
    fn explain(&self, consumer: &str, model: &str, tokens: &str) -> Result<(Option<i32>, Value)> {
        let output = tundish(&[
            "explain",
            "--model",
            model,
            "--consumer",
            consumer,
            "--input-tokens",
            tokens,
            "--max-tokens",
            "20",
            "--host",
            "127.0.0.1",
            "--admin",
            &self.0.admin,
            "-o",
            "json",
        ])?;
        let told: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok((output.status.code(), told))
    }
}

const OUTSIDER: &str = "
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: elsewhere}
spec:
  hostnames: [elsewhere.example]
  authentication:
    apiKeys:
      secretSelector:
        matchLabels: {tundish.dev/keys: elsewhere}
  rules:
  - name: all
    backendRefs: [{name: foundry}]
---
apiVersion: v1
kind: Secret
metadata:
  name: outsider
  labels: {tundish.dev/keys: elsewhere}
stringData: {key: outsider-key}
";

fn tundish(args: &[&str]) -> Result<Output> {
    Ok(Command::new(binary("tundish")?).args(args).output()?)
}

fn limit<'a>(quota: &'a Value, name: &str) -> Option<&'a Value> {
    let limits = quota.get("limits")?.as_array()?;
    limits
        .iter()
        .find(|limit| limit.get("limit").is_some_and(|l| l == name))
}

fn number(value: Option<&Value>, pointer: &str) -> Option<u64> {
    value?.pointer(pointer)?.as_u64()
}

#[tokio::test]
async fn quota_tells_what_was_used_to_the_token() -> Result<()> {
    let gateway = Gateway::start().await?;
    let before = gateway.quota()?;
    let minute = limit(&before, "default/fair-use/minute").context("listed")?;
    assert_eq!(minute.get("counters"), Some(&json!(0)));
    let mut used = 0;
    for _ in 0..3 {
        let answer = gateway.ask("search-team-key", "gpt-5").await?;
        ensure!(answer.status == 200, "{}", answer.text());
        let body: Value = answer.json()?;
        used += number(Some(&body), "/usage/total_tokens").context("usage")?;
    }
    // A request is settled when its answer has ended, which its client may see a moment before.
    let told = eventually("all is settled", LIMIT, async || {
        let quota = gateway.quota().ok()?;
        let minute = limit(&quota, "default/fair-use/minute");
        (number(minute, "/subjects/0/reserved") == Some(0)).then_some(quota)
    })
    .await?;
    let minute = limit(&told, "default/fair-use/minute");
    assert_eq!(number(minute, "/subjects/0/used"), Some(used), "{told}");
    assert_eq!(
        number(minute, "/subjects/0/remaining"),
        Some(1_000_000 - used)
    );
    let subject = minute.and_then(|minute| minute.pointer("/subjects/0/subject"));
    assert_eq!(subject, Some(&json!("consumer=default/search-team")));
    assert_eq!(number(minute, "/counters"), Some(1));
    let running = limit(&told, "default/fair-use/at-once");
    assert_eq!(
        number(running, "/counters"),
        Some(0),
        "nothing runs any more"
    );

    let table = tundish(&["quota", "--admin", &gateway.0.admin])?;
    let table = String::from_utf8(table.stdout)?;
    let row = table.lines().nth(1).context("a row")?;
    assert!(
        row.contains(&format!("consumer=default/search-team  {used} ")),
        "{table}"
    );
    assert!(!table.contains("search-team-key"), "no key is shown");
    let metrics = http::get(&format!("{}/metrics", gateway.0.admin))
        .await?
        .text();
    let sample = format!(
        "tundish_limit_highest_used{{limit=\"default/fair-use/minute\",unit=\"Tokens\"}} {used}\n"
    );
    assert!(metrics.contains(&sample), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn what_is_forecast_is_what_a_request_then_gets() -> Result<()> {
    let gateway = Gateway::start().await?;
    let compare = async |consumer: &str, key: &str, model: &str| -> Result<String> {
        let (exit, told) = gateway.explain(consumer, model, "10")?;
        let answer = gateway.ask(key, model).await?;
        let body: Value = answer.json()?;
        let code = body.pointer("/error/code").cloned().unwrap_or(Value::Null);
        assert_eq!(told.pointer("/verdict/code"), Some(&code), "{told} {body}");
        assert_eq!(exit == Some(0), answer.status == 200, "{exit:?} {told}");
        if answer.status == 429 {
            assert_eq!(told.pointer("/verdict/limit"), body.pointer("/error/param"));
            let wait = answer.headers.get("retry-after-ms").context("a wait")?;
            let wait: u64 = wait.to_str()?.parse()?;
            let told = number(Some(&told), "/verdict/fits_in_seconds").context("a wait")?;
            assert!(
                told * 1_000 + 1_000 >= wait * 9 / 10,
                "{told} s at the latest, {wait} ms"
            );
        }
        Ok(code.as_str().unwrap_or("ok").to_owned())
    };
    assert_eq!(
        compare("search-team", "search-team-key", "gpt-5").await?,
        "ok"
    );
    assert_eq!(
        compare("outsider", "outsider-key", "gpt-5").await?,
        "forbidden"
    );
    assert_eq!(
        compare("intern", "intern-key", "llama").await?,
        "model_not_found"
    );
    assert_eq!(
        compare("default/intern", "intern-key", "gpt-5").await?,
        "ok"
    );
    assert_eq!(compare("intern", "intern-key", "gpt-5-mini").await?, "ok");
    assert_eq!(
        compare("intern", "intern-key", "gpt-5").await?,
        "rate_limited"
    );
    assert_eq!(
        compare("intern", "intern-key", "gpt-none").await?,
        "rate_limited"
    );
    assert_eq!(
        compare("search-team", "search-team-key", "gpt-none").await?,
        "model_not_found"
    );

    Ok(())
}

#[tokio::test]
async fn asking_takes_nothing_and_a_folder_answers_as_a_fresh_gateway() -> Result<()> {
    let gateway = Gateway::start().await?;
    let (_, first) = gateway.explain("search-team", "gpt-5", "900000")?;
    assert_eq!(
        first.pointer("/verdict/admitted"),
        Some(&json!(true)),
        "{first}"
    );
    let (_, again) = gateway.explain("search-team", "gpt-5", "900000")?;
    let remaining = |told: &Value| number(Some(told), "/limits/0/remaining");
    assert_eq!(remaining(&first), remaining(&again));
    let (exit, never) = gateway.explain("search-team", "gpt-5", "1000000")?;
    assert_eq!(exit, Some(1));
    assert_eq!(
        never.pointer("/verdict/code"),
        Some(&json!("quota_exceeded"))
    );
    assert_eq!(
        never.pointer("/verdict/fits_in_seconds"),
        Some(&Value::Null)
    );

    // The folder says the same of a fresh gateway.
    let manifests = gateway.0.manifests();
    let manifests = manifests.to_str().context("UTF-8")?;
    let asked = [
        "explain",
        "--model",
        "gpt-5",
        "--consumer",
        "intern",
        "--manifests",
        manifests,
    ];
    let folder = tundish(&asked)?;
    assert_eq!(folder.status.code(), Some(0));
    let text = String::from_utf8(folder.stdout)?;
    assert!(text.contains("default/interns/two-a-minute"), "{text}");
    Ok(())
}

#[test]
fn wrong_questions_are_told_from_refusals() -> Result<()> {
    let quickstart = workspace().join("examples/quickstart");
    let quickstart = quickstart.to_str().context("UTF-8")?;
    let asked = [
        "explain",
        "--model",
        "m",
        "--manifests",
        quickstart,
        "--consumer",
        "interm",
    ];
    let unknown = tundish(&asked)?;
    assert_eq!(unknown.status.code(), Some(1));
    let told = String::from_utf8(unknown.stderr)?;
    assert!(told.contains("near it: default/intern"), "{told}");

    for usage in [
        &["explain", "--model", "m", "--manifests", quickstart][..],
        &[
            "explain",
            "--model",
            "m",
            "--anonymous",
            "--manifests",
            "d",
            "--admin",
            "h:1",
        ],
        &[
            "explain",
            "--model",
            "m",
            "--anonymous",
            "--admin",
            "h:1",
            "--operation",
            "Chat",
        ],
        &["quota", "--admin", "https://localhost:1"],
        &["quota", "-o", "yaml"],
    ] {
        assert_eq!(tundish(usage)?.status.code(), Some(64), "{usage:?}");
    }
    let unused = format!("http://127.0.0.1:{}", free_port()?);
    let away = tundish(&["quota", "--admin", &unused])?;
    assert_eq!(away.status.code(), Some(1));
    let told = String::from_utf8(away.stderr)?;
    assert!(
        told.contains(&format!("cannot ask {unused}/quota")),
        "{told}"
    );
    // The query is left out of the message.
    let explain = [
        "explain",
        "--model",
        "m",
        "--consumer",
        "c",
        "--admin",
        &unused,
    ];
    let away = tundish(&explain)?;
    assert_eq!(away.status.code(), Some(1));
    let told = String::from_utf8(away.stderr)?;
    assert!(
        told.contains(&format!("cannot ask {unused}/explain: ")),
        "{told}"
    );
    for command in ["quota", "explain"] {
        let help = tundish(&[command, "--help"])?;
        assert_eq!(help.status.code(), Some(0));
        assert!(String::from_utf8(help.stdout)?.contains("--admin <URL>"));
    }
    Ok(())
}
