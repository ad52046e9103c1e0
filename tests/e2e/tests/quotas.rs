//! The example of quotas, in a gateway that serves: amounts of some consumers, models as they are
//! deployed, counters by namespace, and warnings.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{Quickstart, binary, eventually, http, workspace};

const LIMIT: Duration = Duration::from_secs(20);

/// Consumers beside the quickstart's.
const CONSUMERS: &str = "
apiVersion: v1
kind: Secret
metadata: {name: plain, labels: {tundish.dev/keys: chat}}
stringData: {key: plain-key}
---
apiVersion: v1
kind: Secret
metadata: {name: late-payer, labels: {tundish.dev/keys: chat, attributes.tundish.dev/state: suspended}}
stringData: {key: late-payer-key}
";

/// The quickstart with the example of quotas, 5 requests a day instead of 1,000, 10 for the search team, and
/// a rule that sends every model to one deployment.
async fn start() -> Result<Quickstart> {
    let examples = workspace().join("examples");
    let quotas = fs::read_to_string(examples.join("quotas/quotas.yaml"))?;
    let quotas = quotas.replace("limit: 1000", "limit: 5");
    let quotas = quotas.replace("limit: 4000", "limit: 10");
    let route = fs::read_to_string(examples.join("quickstart/route.yaml"))?;
    let route = route.replace("- name: foundry", "- {name: foundry, deployment: gpt-5}");
    Quickstart::start(&[
        ("quotas.yaml", &quotas),
        ("route.yaml", &route),
        ("more.yaml", CONSUMERS),
    ])
    .await
}

async fn ask(gateway: &Quickstart, key: &str, model: &str) -> Result<http::Answer> {
    let body = json!({
        "model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}],
    });
    http::post_json(&gateway.chat_url(), &[("api-key", key)], body.to_string()).await
}

/// The answers to calls with names of models that nothing else has, until one is refused.
async fn until_refused(gateway: &Quickstart, key: &str) -> Result<Vec<http::Answer>> {
    let mut answers = Vec::new();
    for number in 0..20 {
        answers.push(ask(gateway, key, &format!("gpt-made-up-{number}")).await?);
        if answers.last().is_some_and(|last| last.status != 200) {
            break;
        }
    }
    Ok(answers)
}

fn tundish(gateway: &Quickstart, args: &[&str]) -> Result<Value> {
    let mut command = Command::new(binary("tundish")?);
    command.args(args);
    command.args(["--admin", &gateway.admin, "-o", "json"]);
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).context(errors)
}

#[tokio::test]
async fn names_that_clients_make_up_share_the_amount_of_the_deployed_model() -> Result<()> {
    let gateway = start().await?;
    for (key, amount) in [("plain-key", 5), ("search-team-key", 10)] {
        let answers = until_refused(&gateway, key).await?;
        assert_eq!(answers.len(), amount + 1, "{key}");
        let refused = answers.last().context("some")?;
        assert_eq!(refused.status, 429);
        let body: Value = refused.json()?;
        assert_eq!(
            body.pointer("/error/param"),
            Some(&json!("default/daily/day"))
        );
        let limit = refused.header("x-ratelimit-limit-requests");
        assert_eq!(limit, Some(amount.to_string().as_str()));
        assert!(refused.header("retry-after-ms").is_some());
    }
    // The deployment by its own name is the same model.
    assert_eq!(ask(&gateway, "plain-key", "gpt-5").await?.status, 429);

    let page = tundish(&gateway, &["quota"])?;
    let of = |name: &str| -> Vec<(String, u64, Option<u64>)> {
        let limits = page.get("limits").and_then(Value::as_array);
        let mut limits = limits.into_iter().flatten();
        let limit = limits.find(|limit| limit.get("limit").is_some_and(|one| one == name));
        let subjects = limit.and_then(|limit| limit.get("subjects")?.as_array());
        let each = subjects.into_iter().flatten().filter_map(|subject| {
            let text = subject.get("subject")?.as_str()?.to_owned();
            let amount = subject.get("amount").and_then(Value::as_u64);
            Some((text, subject.get("used")?.as_u64()?, amount))
        });
        each.collect()
    };
    let subject = |consumer| format!("consumer=default/{consumer} model=gpt-5");
    assert_eq!(
        of("default/daily/day"),
        [
            (subject("search-team"), 10, Some(10)),
            (subject("plain"), 5, None)
        ]
    );
    let ceiling = of("tundish-system/ceiling/month");
    assert!(
        matches!(&*ceiling, [(namespace, used, None)] if namespace == "namespace=default" && *used > 0),
        "{ceiling:?}"
    );

    let args = ["explain", "--host", "127.0.0.1", "--max-tokens", "5"];
    let explained = |consumer: &str| {
        let more = ["--model", "gpt-other", "--consumer", consumer];
        tundish(&gateway, &[&args[..], &more[..]].concat())
    };
    let limit = |page: &Value| -> Option<(u64, u64)> {
        let limits = page.get("limits")?.as_array()?;
        let mut daily = limits.iter();
        let daily = daily.find(|one| one.get("limit").is_some_and(|l| l == "default/daily/day"))?;
        Some((daily.get("amount")?.as_u64()?, daily.get("used")?.as_u64()?))
    };
    assert_eq!(limit(&explained("search-team")?), Some((10, 10)));
    assert_eq!(limit(&explained("plain")?), Some((5, 5)));
    assert_eq!(limit(&explained("late-payer")?), Some((0, 0)));
    Ok(())
}

#[tokio::test]
async fn an_amount_of_0_refuses_a_consumer_and_says_why() -> Result<()> {
    let gateway = start().await?;
    let refused = ask(&gateway, "late-payer-key", "gpt-5").await?;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(refused.header("retry-after-ms"), None);
    let text = refused.text();
    ensure!(
        text.contains("an override of its AIQuota says so"),
        "{text}"
    );
    assert_eq!(ask(&gateway, "plain-key", "gpt-5").await?.status, 200);
    // Its label is all that decides: without it the consumer has the usual amount, at once.
    let consumers = gateway.manifests().join("more.yaml");
    fs::write(&consumers, CONSUMERS.replace(": suspended", ": paying"))?;
    eventually("the consumer is served", LIMIT, async || {
        let answer = ask(&gateway, "late-payer-key", "gpt-5").await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_limit_warns_once_for_each_level_and_in_every_answer_above() -> Result<()> {
    let mut gateway = start().await?;
    let answers = until_refused(&gateway, "plain-key").await?;
    let warnings: Vec<Option<&str>> = answers
        .iter()
        .map(|answer| answer.header("x-tundish-quota-warning"))
        .collect();
    let at = |percent| Some(format!("default/daily/day; used={percent}%"));
    let expect = [None, None, None, at(80), at(100), at(100)];
    assert_eq!(warnings, expect.each_ref().map(Option::as_deref));
    let reached = "a counter has reached a warning level of its limit";
    let line = gateway.run.wait_for_line("warn_at", LIMIT).await?;
    for part in [
        "WARN",
        reached,
        "default/daily/day",
        "consumer=default/plain model=gpt-5",
    ] {
        assert!(line.contains(part), "{line}");
    }
    let metrics = http::get(&format!("{}/metrics", gateway.admin)).await?;
    let counted = "tundish_quota_warnings_total{limit=\"default/daily/day\"} 2\n";
    assert!(metrics.text().contains(counted), "{}", metrics.text());
    assert_eq!(gateway.run.log().matches(reached).count(), 2);
    Ok(())
}
