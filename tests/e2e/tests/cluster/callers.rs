//! Callers with the tokens of the cluster's own ServiceAccounts, through operator and proxies.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{ControlPlane, eventually_ok, http};

use crate::installation::{ANN, GOOD, Installation, LIMIT, Token};
use crate::parts::Proxy;

const AUDIENCE: &str = "ai-gateway";

/// [`GOOD`]'s route, for callers with a token of the cluster beside those with a key.
fn route(plane: &ControlPlane, change: Value) -> Result<String> {
    let mut entry = json!({
        "issuer": "https://kubernetes.default.svc.cluster.local",
        "jwksURI": format!("{}/openid/v1/jwks", plane.url()),
        "audiences": [AUDIENCE],
        "attributeClaims": {"namespace": "/kubernetes.io/namespace"},
    });
    let Value::Object(change) = change else {
        anyhow::bail!("no members: {change}");
    };
    entry.as_object_mut().context("an object")?.extend(change);
    let route = json!({
        "apiVersion": "tundish.dev/v1alpha1",
        "kind": "AIRoute",
        "metadata": {"name": "chat"},
        "spec": {
            "authentication": {
                "apiKeys": {"secretSelector": {"matchLabels": {"tundish.dev/keys": "chat"}}},
                "jwt": [entry],
            },
            "rules": [{
                "name": "chat",
                "matches": [
                    {"models": ["gpt-4o"], "consumers": {"attributes": {"namespace": "callers"}}},
                    {"models": ["gpt-4o"], "consumers": {"names": ["ann"]}},
                ],
                "backendRefs": [{"name": "sim"}],
            }],
        },
    });
    Ok(route.to_string())
}

async fn refusal(proxy: &Proxy, credential: &str) -> Result<(u16, String)> {
    let answer = proxy.ask(credential, "gpt-4o").await?;
    let body: Value = answer.json()?;
    let code = body.pointer("/error/code").and_then(Value::as_str);
    let code = code.context("a code")?;
    Ok((answer.status, code.to_owned()))
}

#[tokio::test]
async fn pods_call_with_the_tokens_of_their_accounts() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    let mut installation = Installation::prepare(plane, "callers", &[]).await?;
    installation.follows_cluster_issuer = true;
    let operator = installation.operator(0).await?;
    let proxies = installation.proxies().await?;
    let plane = &installation.plane;
    installation.apply(GOOD).await?;
    installation.apply(&route(plane, json!({}))?).await?;
    installation.wait("air/chat", "condition=Ready").await?;
    let pod = plane.create_token("pod", "callers", AUDIENCE).await?;
    let account = "callers/system:serviceaccount:callers:pod";
    for proxy in &proxies {
        proxy.answers((&pod, "gpt-4o"), 200, LIMIT).await?;
        // A key serves as before.
        proxy.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
        let name = format!(
            "tundish_consumer_requests_total{{route=\"callers/chat\",consumer=\"{account}\""
        );
        eventually_ok("the consumer's metric", LIMIT, async || {
            let counted = proxy.metric(&name).await?;
            ensure!(counted >= 1.0, "it is {counted}");
            Ok(())
        })
        .await?;
    }
    let [first, second] = proxies;

    // A token for another audience is not for the gateway.
    let other = plane.create_token("pod", "callers", "elsewhere").await?;
    let invalid = (401, "invalid_credential".to_owned());
    assert_eq!(refusal(&first, &other).await?, invalid);
    // The rule wants pods of one namespace.
    plane.namespace("callers-other", &[]).await?;
    let stranger = plane.create_token("pod", "callers-other", AUDIENCE).await?;
    let none = (404, "model_not_found".to_owned());
    assert_eq!(refusal(&first, &stranger).await?, none);

    // A change of the route takes force, and its status tells of an entry in error.
    let required = json!({"requiredRoles": ["Models.Call"]});
    installation.apply(&route(plane, required)?).await?;
    first.answers((&pod, "gpt-4o"), 403, LIMIT).await?;
    let foundry = json!({"audiences": ["https://ai.azure.com"]});
    let refused = installation.try_apply(&route(plane, foundry)?).await?;
    let said = refused.failure()?;
    assert!(
        said.contains("a token for this audience is for Foundry itself"),
        "{said}"
    );
    installation.apply(&route(plane, json!({}))?).await?;
    first.answers((&pod, "gpt-4o"), 200, LIMIT).await?;

    // Without operators and API server a new process has the table and the keys of its predecessor.
    let keys = installation.issuer_keys("proxy-0");
    ensure!(std::fs::read_dir(keys)?.next().is_some(), "no key is kept");
    drop((operator, second));
    first.process.kill();
    let mut again = installation.proxy("proxy-0", &Token::Own).await?;
    again.ready().await?;
    again.answers((&pod, "gpt-4o"), 200, LIMIT).await?;
    let explained = http::get(&format!(
        "{}/explain?model=gpt-4o&consumer={account}",
        again.admin
    ))
    .await?;
    assert_eq!(explained.status, 200, "{}", explained.text());
    Ok(())
}
