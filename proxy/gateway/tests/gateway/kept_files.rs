//! Files and uploads, of their makers, at their resources, on every replica.

use ::http::Method;
use anyhow::{Context, Result, ensure};
use proxy_core::quota::Unit;
use serde_json::{Value, json};
use tests_foundry::{Fault, Sim};
use tests_support::http;

use crate::bench::{Bench, minute, sims};
use crate::kept::{ANN, BOB, NONE, ask, config, id, limited, made, passed, replica};

pub(crate) const FORM: &str = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
                    --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\none line\r\n--b--\r\n";
const PART: &str = "--b\r\nContent-Disposition: form-data; name=\"data\"; filename=\"x\"\r\n\r\none line\r\n--b--\r\n";

pub(crate) async fn put(
    bench: &Bench,
    caller: (&str, &str),
    path: &str,
    form: &'static str,
) -> Result<Value> {
    let kind = ("content-type", "multipart/form-data; boundary=b");
    let url = format!("{}{path}", bench.url);
    let answer = http::request(Method::POST, &url, &[caller, kind], form).await?;
    ensure!(answer.status == 200, "{path}: {}", answer.text());
    answer.json()
}

/// Ann's files at two resources: the first one fails when the second file comes.
pub(crate) async fn at_two(bench: &Bench, sims: &[Sim]) -> Result<[String; 2]> {
    let one = put(bench, ANN, "/v1/files", FORM).await?;
    let mut asked = sims.iter().filter(|sim| !sim.requests().is_empty());
    asked.next().context("a resource")?.faults(vec![Fault {
        status: Some(503),
        times: Some(1),
        ..Fault::default()
    }])?;
    let other = put(bench, ANN, "/v1/files", FORM).await?;
    let [one, other] = [id(&one)?, id(&other)?].map(str::to_owned);
    // The tag begins with the resource: four bytes.
    let resource = |file: &str| file[file.len() - 16..file.len() - 11].to_owned();
    assert_ne!(resource(&one), resource(&other));
    Ok([one, other])
}

#[tokio::test]
async fn a_file_comes_back_to_its_maker_on_every_replica() -> Result<()> {
    let sims = sims(3, &config()?)?;
    let (one, other) = (replica(&sims)?, replica(&sims)?);
    for round in 0..8 {
        let file = put(&one, ANN, "/v1/files", FORM).await?;
        let path = format!("/openai/v1/files/{}", id(&file)?);
        let content = ask(&other, ANN, "GET", &format!("{path}/content"), &NONE).await?;
        assert_eq!(
            (content.status, &*content.text()),
            (200, "one line"),
            "round {round}"
        );
        for (method, path) in [
            ("GET", path.clone()),
            ("DELETE", path.clone()),
            ("GET", format!("{path}/content")),
        ] {
            let asked = ask(&other, BOB, method, &path, &NONE).await?;
            let error = asked.json::<Value>()?;
            assert_eq!(
                error.pointer("/error/code"),
                Some(&json!("not_kept")),
                "{path}"
            );
        }
        let gone = ask(&other, ANN, "DELETE", &path, &NONE).await?;
        assert_eq!(gone.json::<Value>()?["id"], file["id"]);
    }
    Ok(())
}

#[tokio::test]
async fn the_parts_of_an_upload_meet_at_one_resource() -> Result<()> {
    let sims = sims(3, &config()?)?;
    let (one, other) = (replica(&sims)?, replica(&sims)?);
    let about =
        json!({"bytes": 16, "filename": "x", "mime_type": "text/plain", "purpose": "batch"});
    for _ in 0..6 {
        let upload = made(&one, "/v1/uploads", &about).await?;
        let path = format!("/v1/uploads/{}", id(&upload)?);
        let mut parts = Vec::new();
        for replica in [&one, &other] {
            let part = put(replica, ANN, &format!("{path}/parts"), PART).await?;
            assert_eq!(part["upload_id"], upload["id"]);
            parts.push(part["id"].clone());
        }
        let elsewhere = made(&other, "/v1/uploads", &about).await?;
        let complete = format!("/v1/uploads/{}/complete", id(&elsewhere)?);
        let stolen = ask(&other, BOB, "POST", &complete, &json!({"part_ids": parts})).await?;
        assert_eq!(stolen.status, 404, "{}", stolen.text());
        let whole = made(
            &other,
            &format!("{path}/complete"),
            &json!({"part_ids": parts}),
        )
        .await?;
        let file = whole["file"]["id"].as_str().context("a file")?;
        let content = format!("/v1/files/{file}/content");
        let content = ask(&one, ANN, "GET", &content, &NONE).await?;
        assert_eq!(
            (content.status, &*content.text()),
            (200, "one lineone line")
        );
    }
    Ok(())
}

#[tokio::test]
async fn files_are_listed_where_the_resource_knows_whose_they_are() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let bench = replica(&sims)?;
    put(&bench, ANN, "/v1/files", FORM).await?;
    let refused = ask(&bench, ANN, "GET", "/v1/files", &NONE).await?;
    let error = refused.json::<Value>()?;
    assert_eq!(refused.status, 404);
    assert_eq!(
        error.pointer("/error/code"),
        Some(&json!("operation_not_served"))
    );
    let shown = ("api-key", "sim-key");
    let bench = Bench::serve(Vec::new(), passed(&sims, &["gpt-5"]), |_config| ())?;
    let file = put(&bench, shown, "/v1/files", FORM).await?;
    let list = ask(
        &bench,
        shown,
        "GET",
        "/v1/files?purpose=batch&limit=1",
        &NONE,
    )
    .await?;
    let list = list.json::<Value>()?;
    assert_eq!(
        (&list["data"][0]["object"], &list["has_more"]),
        (&json!("file"), &json!(true))
    );
    assert!(id(&file)?.len() < 40, "no tag");
    Ok(())
}

#[tokio::test]
async fn an_upload_is_not_read_at_its_path_but_is_served() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let bench = replica(&sims)?;
    let asked = ask(&bench, ANN, "GET", "/v1/uploads/upload_1", &NONE).await?;
    let error = asked.json::<Value>()?["error"].clone();
    assert_eq!(
        (&error["code"], &error["message"]),
        (
            &json!("unknown_path"),
            &json!("Files is served, but not at this path")
        )
    );
    Ok(())
}

async fn refused(bench: &Bench, path: &str, form: &'static str) -> Result<(u16, Value)> {
    let kind = ("content-type", "multipart/form-data; boundary=b");
    let url = format!("{}{path}", bench.url);
    let answer = http::request(Method::POST, &url, &[ANN, kind], form).await?;
    let code = answer.json::<Value>()?.pointer("/error/code").cloned();
    Ok((answer.status, code.context("a code")?))
}

#[tokio::test]
async fn limits_of_requests_count_what_makes_or_moves_files() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let limit = limited(&sims, minute(Unit::Requests, 5));
    let bench = Bench::serve(Vec::new(), limit, |_config| ())?;
    let file = put(&bench, ANN, "/v1/files", FORM).await?;
    let path = format!("/v1/files/{}", id(&file)?);
    let about = json!({"bytes": 8, "filename": "x", "mime_type": "text/plain", "purpose": "batch"});
    let upload = made(&bench, "/v1/uploads", &about).await?;
    let parts = format!("/v1/uploads/{}/parts", id(&upload)?);
    put(&bench, ANN, &parts, PART).await?;
    let content = format!("{path}/content");
    assert_eq!(ask(&bench, ANN, "GET", &content, &NONE).await?.status, 200);
    made(&bench, "/v1/conversations", &json!({})).await?;
    let spent = (429, json!("rate_limited"));
    assert_eq!(refused(&bench, "/v1/files", FORM).await?, spent);
    assert_eq!(refused(&bench, &parts, PART).await?, spent);
    assert_eq!(ask(&bench, ANN, "GET", &content, &NONE).await?.status, 429);
    let judged = json!({"model": "gpt-5", "input": "x"});
    let judged = ask(&bench, ANN, "POST", "/v1/moderations", &judged).await?;
    assert_eq!(judged.status, 429);
    // A look, an end and a deletion are never refused for a limit.
    for method in ["GET", "DELETE"] {
        assert_eq!(ask(&bench, ANN, method, &path, &NONE).await?.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn limits_of_tokens_let_files_pass_and_those_of_concurrency_do_not() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let tokens = limited(&sims, minute(Unit::Tokens, 0));
    let bench = Bench::serve(Vec::new(), tokens, |_config| ())?;
    put(&bench, ANN, "/v1/files", FORM).await?;
    let running = limited(&sims, minute(Unit::Concurrency, 0));
    let bench = Bench::serve(Vec::new(), running, |_config| ())?;
    let full = (429, json!("concurrency_exceeded"));
    assert_eq!(refused(&bench, "/v1/files", FORM).await?, full);
    let running = limited(&sims, minute(Unit::Concurrency, 1));
    let bench = Bench::serve(Vec::new(), running, |_config| ())?;
    for _ in 0..3 {
        put(&bench, ANN, "/v1/files", FORM).await?;
    }
    Ok(())
}
