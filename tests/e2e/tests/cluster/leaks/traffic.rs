//! Calls of every kind, while everything works and while everything fails.

use anyhow::{Result, ensure};
use bytes::Bytes;
use serde_json::json;
use tests_foundry::SECRET;
use tests_support::http;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::known::{
    ADMIN_TOKEN, BACKEND_KEY, IN_QUERY, JWT, MODELS, OWN, PASSWORD, RAW_KEY, WRITTEN,
};
use super::outputs::Outputs;
use crate::installation::chat;

/// Calls of every kind, to one gateway.
pub(super) async fn calls(outputs: &mut Outputs, url: &str, bound: &str) -> Result<()> {
    let chats = format!("{url}/v1/chat/completions");
    for model in MODELS {
        for header in ["api-key", "x-api-key"] {
            outputs
                .call(&chats, &[(header, RAW_KEY)], &chat(model))
                .await?;
        }
        let bearer = format!("Bearer {bound}");
        outputs
            .call(&chats, &[("authorization", &bearer)], &chat(model))
            .await?;
    }
    credentials(outputs, &chats, bound).await?;
    let basic = "Basic dXNlcjprZXktaW4tdGhlLWJhc2ljLXNjaGVtZS03MDcwNw==";
    outputs
        .call(&chats, &[("authorization", basic)], &chat("by-key"))
        .await?;
    for path in [
        "v1/chat/completions",
        "v1/models",
        "nothing/of/ours",
        "healthz",
    ] {
        let target = format!("{url}/{path}?api-key={IN_QUERY}&code={IN_QUERY}");
        outputs
            .call(&target, &[("api-key", RAW_KEY)], &chat("by-key"))
            .await?;
    }
    // A stream, stored responses with ids that carry tags, and a body that is none.
    let key = [("api-key", RAW_KEY)];
    let stream =
        json!({"model": "by-key", "stream": true, "messages": [{"role": "user", "content": "Hi"}]});
    outputs.call(&chats, &key, &stream.to_string()).await?;
    let respond = json!({"model": "by-key", "input": "Hi"}).to_string();
    let responses = format!("{url}/v1/responses");
    outputs.call(&responses, &key, &respond).await?;
    outputs
        .call(&responses, &key, &respond.replace("Hi", "\u{0}"))
        .await?;
    http2(outputs, url, RAW_KEY).await
}

/// Every secret in the place of a credential.
async fn credentials(outputs: &mut Outputs, chats: &str, bound: &str) -> Result<()> {
    let broken = bound.replace("tdh_leaks_", "tdh_leak5_");
    let mut shown: Vec<&str> = WRITTEN.iter().map(|(_, secret)| *secret).collect();
    shown.extend(OWN.iter().map(|(_, secret)| *secret));
    shown.extend([JWT, SECRET, PASSWORD, ADMIN_TOKEN, &broken, bound]);
    for secret in shown {
        let bearer = format!("Bearer {secret}");
        // A backend may repeat what its own client shows.
        let passes = secret != BACKEND_KEY;
        let hosts = ["localhost", "pass.example.com"].into_iter();
        for host in hosts.take(if passes { 2 } else { 1 }) {
            for header in [("api-key", secret), ("authorization", &*bearer)] {
                let headers = [header, ("host", host)];
                outputs.call(chats, &headers, &chat("by-key")).await?;
            }
        }
        // Two of them, and broken forms.
        let two = [("api-key", RAW_KEY), ("authorization", &*bearer)];
        outputs.call(chats, &two, &chat("by-key")).await?;
        for odd in [
            format!("Token {secret}"),
            secret.to_owned(),
            format!("bearer  {secret} x"),
        ] {
            outputs.call(chats, &[("authorization", &odd)], "{").await?;
        }
        let key = ("api-key", secret);
        outputs.call(chats, &[key, key], &chat("by-key")).await?;
    }
    Ok(())
}

/// A call over HTTP/2 with prior knowledge.
async fn http2(outputs: &mut Outputs, url: &str, key: &str) -> Result<()> {
    let address = url.trim_start_matches("http://");
    let stream = TcpStream::connect(address).await?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let mut sender = sender.ready().await?;
    let request = ::http::Request::post(format!("{url}/v1/chat/completions"))
        .header("api-key", key)
        .header("content-type", "application/json")
        .body(())?;
    let (answer, mut body) = sender.send_request(request, false)?;
    body.send_data(Bytes::from(chat("by-key")), true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut text = format!("{:?}\n", head.headers).into_bytes();
    while let Some(data) = body.data().await {
        text.extend_from_slice(&data?);
    }
    outputs.add("an answer on HTTP/2", text);
    Ok(())
}

/// Everything fails at once: the resource refuses the credential and says which, and so does Entra.
pub(super) async fn failures(sim: &str, assertion: &str) -> Result<()> {
    let echo =
        |secret: &str| json!({"error": {"code": "401", "message": format!("wrong key: {secret}")}});
    let faults =
        json!([{"api_key": BACKEND_KEY, "status": 401, "body": echo(BACKEND_KEY), "times": 12}]);
    let description = format!("AADSTS700024: Client assertion is not valid: {assertion}");
    let denied = json!({"error": "invalid_client", "error_description": description,
        "error_codes": [700_024]});
    let of_entra = json!([{"status": 401, "body": denied, "times": 8}]);
    for (name, rules) in [("faults", faults), ("entra-faults", of_entra)] {
        let url = format!("{sim}/_sim/{name}");
        let put = http::request("PUT".parse()?, &url, &[], rules.to_string()).await?;
        ensure!(put.status == 204, "{}", put.text());
    }
    let url = format!("{sim}/_sim/tokens");
    http::request("DELETE".parse()?, &url, &[], "").await?;
    Ok(())
}
