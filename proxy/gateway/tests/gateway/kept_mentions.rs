//! Files that a request names in its body: of their makers alone, and at the resource that has them.

use std::collections::HashSet;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests_foundry::Sim;
use tests_support::http::Answer;

use crate::bench::{Bench, sims};
use crate::kept::{ANN, BOB, NONE, ask, config, id, made, passed, replica};
use crate::kept_files::{FORM, at_two, put};

/// A call of each kind that names a file, at each place.
fn calls(file: &str) -> Vec<(&'static str, Value)> {
    let part = json!({"type": "input_file", "file_id": file});
    let asked = |part: &Value| json!([{"role": "user", "content": [part]}]);
    let image = json!({"type": "input_image", "file_id": file});
    let output = json!([{"type": "function_call_output", "call_id": "c", "output": [part]}]);
    let code =
        json!({"type": "code_interpreter", "container": {"type": "auto", "file_ids": [file]}});
    let mask = json!({"type": "image_generation", "input_image_mask": {"file_id": file}});
    let response = |input: Value| json!({"model": "gpt-5", "input": input});
    let tool = |tool: &Value| json!({"model": "gpt-5", "input": "x", "tools": [tool]});
    let chat = json!([{"role": "user", "content": [{"type": "file", "file": {"file_id": file}}]}]);
    vec![
        ("/v1/responses", response(asked(&part))),
        ("/openai/v1/responses", response(asked(&image))),
        ("/v1/responses", response(output)),
        ("/v1/responses", tool(&code)),
        ("/v1/responses", tool(&mask)),
        ("/v1/responses/input_tokens", response(asked(&part))),
        (
            "/v1/chat/completions",
            json!({"model": "gpt-5", "messages": chat}),
        ),
        (
            "/openai/deployments/gpt-5/chat/completions?api-version=2025-04-01-preview",
            json!({"messages": chat}),
        ),
        ("/v1/conversations", json!({"items": asked(&part)})),
    ]
}

async fn file(bench: &Bench) -> Result<String> {
    let file = put(bench, ANN, "/v1/files", FORM).await?;
    Ok(id(&file)?.to_owned())
}

/// What the backends know as the id.
fn plain(file: &str) -> &str {
    let end = file.len().saturating_sub(16);
    file.get(..end).unwrap_or_default()
}

fn asked(sims: &[Sim]) -> usize {
    sims.iter().map(|sim| sim.requests().len()).sum()
}

fn error(answer: &Answer) -> Result<(u16, String, String)> {
    let error = answer.json::<Value>()?;
    let text = |name: &str| error.pointer(name)?.as_str().map(str::to_owned);
    let code = text("/error/code").context("a code")?;
    let message = text("/error/message").context("a message")?;
    Ok((answer.status, code, message))
}

#[tokio::test]
async fn a_file_is_found_wherever_a_request_names_it() -> Result<()> {
    let sims = sims(3, &config()?)?;
    let (one, other) = (replica(&sims)?, replica(&sims)?);
    for _ in 0..4 {
        let file = file(&one).await?;
        for (path, body) in calls(&file) {
            let answer = ask(&other, ANN, "POST", path, &body).await?;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
    }
    let bodies = sims.iter().flat_map(Sim::requests);
    let sent = bodies.filter(|one| one.body.contains("file-"));
    for request in sent {
        let length = request.headers.iter().find(|one| one.0 == "content-length");
        let length = length.context("a length")?.1.parse::<usize>()?;
        assert_eq!(length, request.body.len(), "{}", request.path);
    }
    Ok(())
}

#[tokio::test]
async fn all_other_bytes_arrive_as_they_were() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let bench = replica(&sims)?;
    let file = file(&bench).await?;
    let body = |file: &str| {
        format!(
            r#"{{ "model":"gpt-5","input":[ {{"role":"user", "content":[{{"type":"input_text","text":"\"file_id\":\"{file}\" \u00e4"}},{{"type":"input_file", "file_id" : "{file}"}}]}}],"metadata":{{"file_id":"{file}"}} }}"#
        )
    };
    let sent = body(&file);
    let headers = [("content-type", "application/json"), ANN];
    let url = format!("{}/v1/responses", bench.url);
    let answer = tests_support::http::request(::http::Method::POST, &url, &headers, sent.clone());
    let answer = answer.await?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let arrived = sims[0].requests().pop().context("a request")?.body;
    let named = format!(r#""file_id" : "{file}""#);
    let plain = format!(r#""file_id" : "{}""#, plain(&file));
    assert_eq!(arrived, sent.replace(&named, &plain));
    let answer = answer.json::<Value>()?;
    assert_eq!(
        answer["metadata"]["file_id"],
        json!(file),
        "the client's own"
    );
    let path = format!("/v1/responses/{}/input_items", id(&answer)?);
    let items = ask(&bench, ANN, "GET", &path, &NONE).await?;
    let items = items.json::<Value>()?;
    assert_eq!(items["data"][0]["content"][1]["file_id"], json!(file));
    Ok(())
}

#[tokio::test]
async fn tools_come_back_with_the_ids_that_the_client_gave() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let bench = replica(&sims)?;
    let file = file(&bench).await?;
    let tool =
        json!({"type": "code_interpreter", "container": {"type": "auto", "file_ids": [file]}});
    let body = json!({"model": "gpt-5", "input": "x", "tools": [tool]});
    let answer = made(&bench, "/v1/responses", &body).await?;
    assert_eq!(answer["tools"][0]["container"]["file_ids"], json!([file]));
    let streamed = json!({"model": "gpt-5", "input": "x", "stream": true, "tools": [tool]});
    let streamed = ask(&bench, ANN, "POST", "/v1/responses", &streamed).await?;
    let text = streamed.text();
    assert_eq!(
        text.matches(&file).count(),
        text.matches("file_ids").count()
    );
    Ok(())
}

#[tokio::test]
async fn no_place_takes_the_file_of_another() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let bench = replica(&sims)?;
    let file = file(&bench).await?;
    let before = asked(&sims);
    let forged = format!("{}x", &file[..file.len() - 1]);
    for (caller, file) in [
        (BOB, &*file),
        (ANN, plain(&file)),
        (BOB, plain(&file)),
        (ANN, &*forged),
    ] {
        let mut places = HashSet::new();
        for (path, body) in calls(file) {
            let hidden = body.to_string().replace("file_id", "file\\u005fid");
            let twice = body
                .to_string()
                .replace("\"file_id\":", "\"file_id\":null,\"file_id\":");
            for body in [body.to_string(), hidden, twice] {
                let url = format!("{}{path}", bench.url);
                let headers = [("content-type", "application/json"), caller];
                let post = ::http::Method::POST;
                let answer = tests_support::http::request(post, &url, &headers, body.clone());
                let (status, code, message) = error(&answer.await?)?;
                assert_eq!((status, &*code), (404, "not_kept"), "{path}: {body}");
                places.insert(message.rsplit(' ').next().map(str::to_owned));
            }
        }
        assert!(places.len() >= 6, "{places:?}");
    }
    let anthropic = json!({"model": "gpt-5", "max_tokens": 9, "messages": [
        {"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": file}}]}]});
    let answer = ask(&bench, BOB, "POST", "/v1/messages", &anthropic).await?;
    let shape = answer.json::<Value>()?;
    assert_eq!(
        (&shape["type"], &shape["error"]["code"]),
        (&json!("error"), &json!("not_kept"))
    );
    assert_eq!(asked(&sims), before, "no backend was asked");
    Ok(())
}

#[tokio::test]
async fn files_of_two_resources_cannot_meet() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let bench = replica(&sims)?;
    let [one, other] = at_two(&bench, &sims).await?;
    let before = asked(&sims);
    let body = json!({"model": "gpt-5", "input": [{"role": "user", "content": [
        {"type": "input_file", "file_id": one}, {"type": "input_file", "file_id": other}]}]});
    let refused = ask(&bench, ANN, "POST", "/v1/responses", &body).await?;
    let (status, code, message) = error(&refused)?;
    assert_eq!((status, &*code), (400, "invalid_request"));
    assert!(
        message.starts_with("input[0].content[0].file_id and input[0].content[1].file_id name"),
        "{message}"
    );
    assert_eq!(asked(&sims), before, "no backend was asked");
    Ok(())
}

#[tokio::test]
async fn callers_with_a_key_of_the_resource_name_files_as_they_are() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let bench = Bench::serve(Vec::new(), passed(&sims, &["gpt-5"]), |_config| ())?;
    let shown = ("api-key", "sim-key");
    let file = put(&bench, shown, "/v1/files", FORM).await?;
    for (path, body) in calls(id(&file)?) {
        let answer = ask(&bench, shown, "POST", path, &body).await?;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    Ok(())
}
