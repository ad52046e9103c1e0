//! How a rule names the end user of a request for backends.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use proxy_core::table::{Backend, BackendAuth, Contents};
use proxy_core::test_util::deployment;
use serde_json::{Value, json};
use tests_foundry::{Fault, Sim};

use crate::bench::{Bench, at, routed};

/// Of the consumer `ns/ann`: `printf ns/ann | sha256sum | cut -c-32`.
const ANN: &str = "356be3f3099bae8e998bfd2c81f8ca68";

const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// A rule that names the end user, in front of all deployments.
fn contents(sim: &Sim) -> Result<Contents> {
    let backend = Backend {
        deployments: vec![
            deployment("gpt-5", "gpt-5"),
            deployment("claude-sonnet-5-5", "claude-sonnet-5-5"),
        ],
        ..at(&sim.url())
    };
    let mut contents = routed(vec![backend], Vec::new());
    let route = Arc::make_mut(contents.routes.first_mut().context("a route")?);
    let rule = Arc::make_mut(route.rules.first_mut().context("a rule")?);
    rule.names_end_user = true;
    rule.targets.first_mut().context("a target")?.deployment = None;
    Ok(contents)
}

fn naming() -> Result<Bench> {
    let sim = Sim::start(&tests_foundry::Config::default())?;
    let contents = contents(&sim)?;
    Bench::of(vec![sim], contents)
}

impl Bench {
    /// The bodies that reached the backend, oldest first.
    fn bodies(&self) -> Result<Vec<Value>> {
        let requests = self.upstream().into_iter();
        let bodies = requests.map(|one| serde_json::from_str(&one.body).map_err(Into::into));
        bodies.collect()
    }

    /// What reached the backend of this call.
    async fn reaches(&self, path: &str, key: (&str, &str), body: &Value) -> Result<Value> {
        let answer = self.post(path, &[key, VERSION], &body.to_string()).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.text());
        self.bodies()?.pop().context("a request")
    }
}

const KEY: (&str, &str) = ("api-key", "ann-key");

#[tokio::test]
async fn the_consumer_is_named_where_each_api_has_it() -> Result<()> {
    let bench = naming()?;
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let chat = json!({"model": "gpt-5", "messages": messages, "user": "the client's own"});
    let sent = bench.reaches("/v1/chat/completions", KEY, &chat).await?;
    assert_eq!(sent["user"], ANN);
    assert_eq!(sent["safety_identifier"], ANN);

    // The dated API is older than the second member.
    let path = "/openai/deployments/gpt-5/chat/completions?api-version=2024-10-21";
    let sent = bench.reaches(path, KEY, &chat).await?;
    assert_eq!(
        (&sent["user"], sent.get("safety_identifier")),
        (&json!(ANN), None)
    );

    let input = json!({"model": "gpt-5", "input": "Hi"});
    let sent = bench.reaches("/v1/responses", KEY, &input).await?;
    assert_eq!(sent["safety_identifier"], ANN);
    let sent = bench.reaches("/v1/responses/compact", KEY, &input).await?;
    assert_eq!(sent, input);

    let claude = json!({
        "model": "claude-sonnet-5-5", "max_tokens": 5, "messages": messages,
        "metadata": {"user_id": "the client's own"},
    });
    let sent = bench.reaches("/v1/messages", KEY, &claude).await?;
    assert_eq!(sent["metadata"], json!({"user_id": ANN}));
    Ok(())
}

#[tokio::test]
async fn a_rule_that_keeps_it_changes_nothing() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let chat = json!({"model": "gpt-4o-mini", "messages": messages, "user": "bob"});
    let path = "/v1/chat/completions";
    assert_eq!(bench.reaches(path, KEY, &chat).await?, chat);
    Ok(())
}

#[tokio::test]
async fn a_member_that_an_endpoint_refuses_is_left_out() -> Result<()> {
    let bench = naming()?;
    bench.sims[0].faults(vec![Fault {
        refuse: Some("safety_identifier".into()),
        ..Fault::default()
    }])?;
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let chat = json!({"model": "gpt-5", "messages": messages});
    for expected in [2, 3] {
        let sent = bench.reaches("/v1/chat/completions", KEY, &chat).await?;
        assert_eq!(
            (&sent["user"], sent.get("safety_identifier")),
            (&json!(ANN), None)
        );
        assert_eq!(bench.bodies()?.len(), expected, "it is remembered");
    }
    Ok(())
}

#[tokio::test]
async fn strangers_are_told_apart() -> Result<()> {
    let sim = Sim::start(&tests_foundry::Config {
        api_keys: vec!["first".into(), "second".into()],
        ..tests_foundry::Config::default()
    })?;
    let mut contents = contents(&sim)?;
    let backend = Arc::make_mut(contents.backends.first_mut().context("a backend")?);
    backend.auth = BackendAuth::PassThrough;
    let route = Arc::make_mut(contents.routes.first_mut().context("a route")?);
    route.authentication.keys.clear();
    route.authentication.pass_through = true;
    contents.keys.clear();
    let bench = Bench::of(vec![sim], contents)?;
    let input = json!({"model": "gpt-5", "input": "Hi"});
    let mut users = Vec::new();
    for key in ["first", "second", "first"] {
        let sent = bench
            .reaches("/v1/responses", ("api-key", key), &input)
            .await?;
        let user = sent["user"].as_str().context("a user")?;
        ensure!(user.len() == 32, "{user}");
        users.push(user.to_owned());
    }
    assert!(users[0] != users[1] && users[0] == users[2], "{users:?}");
    Ok(())
}
