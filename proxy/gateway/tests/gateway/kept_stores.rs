//! Vector stores and containers, of their makers, at their resources, on every replica.

use std::sync::Arc;

use ::http::Method;
use anyhow::{Context, Result, ensure};
use proxy_core::names::Operation;
use proxy_core::quota::Unit;
use proxy_core::route::Match;
use proxy_core::table::Contents;
use serde_json::{Value, json};
use tests_foundry::Sim;
use tests_support::http;

use crate::bench::{Bench, minute, sims};
use crate::kept::{ANN, BOB, NONE, ask, config, contents, id, limited, made, passed, replica};
use crate::kept_files::{FORM, at_two, put};

const SENT: &str = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\ntwo lines\r\n--b--\r\n";

/// What the backends know as the id.
pub(crate) fn plain(id: &str) -> &str {
    id.get(..id.len().saturating_sub(16)).unwrap_or_default()
}

pub(crate) async fn got(bench: &Bench, path: &str) -> Result<Value> {
    let answer = ask(bench, ANN, "GET", path, &NONE).await?;
    ensure!(answer.status == 200, "{path}: {}", answer.text());
    answer.json()
}

async fn file(bench: &Bench) -> Result<String> {
    Ok(id(&put(bench, ANN, "/v1/files", FORM).await?)?.to_owned())
}

/// A store with a file, and a batch of it.
pub(crate) async fn store(bench: &Bench) -> Result<[String; 3]> {
    let file = file(bench).await?;
    let store = made(bench, "/v1/vector_stores", &json!({"file_ids": [file]})).await?;
    let store = id(&store)?.to_owned();
    let batches = format!("/v1/vector_stores/{store}/file_batches");
    let batch = made(bench, &batches, &json!({"files": [{"file_id": file}]})).await?;
    Ok([store, file, id(&batch)?.to_owned()])
}

/// A container with a file, and what that is a copy of.
pub(crate) async fn container(bench: &Bench) -> Result<[String; 3]> {
    let file = file(bench).await?;
    let about = json!({"name": "c", "file_ids": [file]});
    let container = made(bench, "/v1/containers", &about).await?;
    let container = id(&container)?.to_owned();
    let files = format!("/v1/containers/{container}/files");
    let copy = made(bench, &files, &json!({"file_id": file})).await?;
    Ok([container, id(&copy)?.to_owned(), file])
}

#[tokio::test]
async fn a_store_comes_back_to_its_maker_on_every_replica() -> Result<()> {
    let sims = sims(3, &config()?)?;
    let (one, other) = (replica(&sims)?, replica(&sims)?);
    for _ in 0..6 {
        let [store, file, batch] = store(&one).await?;
        let path = format!("/openai/v1/vector_stores/{store}");
        let whole = got(&other, &path).await?;
        assert_eq!(
            (id(&whole)?, &whole["file_counts"]["total"]),
            (&*store, &json!(1))
        );
        let dated = format!("/openai/vector_stores/{store}?api-version=2025-04-01-preview");
        assert_eq!(got(&other, &dated).await?, whole);
        let hits = made(&other, &format!("{path}/search"), &json!({"query": "line"})).await?;
        assert_eq!(hits["data"][0]["file_id"], json!(file));
        let of_file = format!("{path}/files/{file}");
        let own = got(&other, &of_file).await?;
        assert_eq!(
            (id(&own)?, &own["vector_store_id"]),
            (&*file, &json!(store))
        );
        let about = json!({"attributes": {"file_id": "mine"}});
        let updated = made(&one, &of_file, &about).await?;
        assert_eq!(updated["attributes"], about["attributes"]);
        let content = got(&other, &format!("{of_file}/content")).await?;
        assert_eq!(content["data"][0]["text"], "one line");
        let of_batch = format!("{path}/file_batches/{batch}");
        let in_batch = got(&other, &format!("{of_batch}/files?limit=1&order=asc")).await?;
        assert_eq!(
            (
                &in_batch["data"][0]["id"],
                &in_batch["first_id"],
                &in_batch["last_id"]
            ),
            (&json!(file), &json!(file), &json!(file))
        );
        let cancelled = made(&other, &format!("{of_batch}/cancel"), &NONE).await?;
        assert_eq!(cancelled, got(&one, &of_batch).await?);
        assert_eq!(id(&cancelled)?, batch);
        let search = json!({"type": "file_search", "vector_store_ids": [store]});
        let asked = json!({"model": "gpt-5", "input": "x", "tools": [search]});
        let answer = made(&other, "/v1/responses", &asked).await?;
        assert_eq!(answer["tools"][0]["vector_store_ids"], json!([store]));
        for path in [of_file, path] {
            let gone = ask(&other, ANN, "DELETE", &path, &NONE).await?;
            assert_eq!(gone.json::<Value>()?["deleted"], true, "{path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_container_comes_back_to_its_maker_on_every_replica() -> Result<()> {
    let sims = sims(3, &config()?)?;
    let (one, other) = (replica(&sims)?, replica(&sims)?);
    for _ in 0..6 {
        let [container, copy, _file] = container(&one).await?;
        let path = format!("/v1/containers/{container}");
        assert_eq!(id(&got(&other, &path).await?)?, container);
        let sent = put(&other, ANN, &format!("{path}/files"), SENT).await?;
        assert_eq!(sent["container_id"], json!(container));
        let list = got(&one, &format!("{path}/files?order=asc")).await?;
        let ids: Vec<_> = list["data"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| &one["id"])
            .collect();
        assert_eq!(ids[1..], [&json!(copy), &sent["id"]]);
        let of_file = format!("{path}/files/{}", id(&sent)?);
        let content = ask(&one, ANN, "GET", &format!("{of_file}/content"), &NONE).await?;
        assert_eq!((content.status, &*content.text()), (200, "two lines"));
        let tool = json!({"type": "code_interpreter", "container": container});
        let asked = json!({"model": "gpt-5", "input": "x", "tools": [tool]});
        let answer = made(&other, "/v1/responses", &asked).await?;
        assert_eq!(answer["tools"][0]["container"], json!(container));
        for path in [of_file, path] {
            let gone = ask(&other, ANN, "DELETE", &path, &NONE).await?;
            assert_eq!(gone.json::<Value>()?["deleted"], true, "{path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_list_goes_on_behind_an_id_of_its_own() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let bench = replica(&sims)?;
    let [store, first, _] = store(&bench).await?;
    let path = format!("/v1/vector_stores/{store}/files");
    let copies = format!("{path}?order=asc&limit=1");
    let page = got(&bench, &copies).await?;
    assert_eq!(
        (&page["last_id"], &page["has_more"]),
        (&json!(first), &json!(false))
    );
    let rest = got(&bench, &format!("{copies}&after={first}")).await?;
    assert_eq!(rest["data"], json!([]));
    let sent = sims.iter().flat_map(Sim::requests);
    let queries: Vec<_> = sent
        .map(|one| one.query)
        .filter(|query| query.contains("after="))
        .collect();
    let [query] = &*queries else {
        anyhow::bail!("{queries:?}");
    };
    ensure!(
        query.ends_with(&format!("after={}", plain(&first))),
        "{query}"
    );
    for cursor in [plain(&first), "x", ""] {
        let refused = ask(
            &bench,
            ANN,
            "GET",
            &format!("{copies}&before={cursor}"),
            &NONE,
        )
        .await?;
        let error = refused.json::<Value>()?;
        assert_eq!(error["error"]["code"], "not_kept", "{cursor}");
    }
    Ok(())
}

#[tokio::test]
async fn a_store_of_files_from_another_resource_cannot_be() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let bench = replica(&sims)?;
    let both = at_two(&bench, &sims).await?;
    let store = made(&bench, "/v1/vector_stores", &json!({"file_ids": [both[0]]})).await?;
    let path = format!("/v1/vector_stores/{}", id(&store)?);
    for (method, path, body, places) in [
        (
            "POST",
            "/v1/vector_stores".to_owned(),
            json!({"file_ids": both}),
            "file_ids[0] and file_ids[1] name",
        ),
        (
            "POST",
            format!("{path}/files"),
            json!({"file_id": both[1]}),
            "the path and file_id name",
        ),
        (
            "GET",
            format!("{path}/files/{}", both[1]),
            NONE,
            "the path and the end of the path name",
        ),
    ] {
        let refused = ask(&bench, ANN, method, &path, &body).await?;
        let message = refused.json::<Value>()?["error"]["message"].clone();
        let message = message.as_str().unwrap_or_default();
        assert_eq!(refused.status, 400, "{message}");
        ensure!(message.starts_with(places), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn lists_of_all_are_refused_and_served_where_the_resource_knows_its_callers() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let bench = replica(&sims)?;
    store(&bench).await?;
    for path in ["/v1/vector_stores", "/v1/containers"] {
        let refused = ask(&bench, ANN, "GET", path, &NONE).await?;
        let error = refused.json::<Value>()?;
        assert_eq!(refused.status, 404);
        assert_eq!(error["error"]["code"], "operation_not_served");
        ensure!(
            error["error"]["message"]
                .to_string()
                .contains("other consumers"),
            "{error}"
        );
    }
    let shown = ("api-key", "sim-key");
    let bench = Bench::serve(Vec::new(), passed(&sims, &["gpt-5"]), |_config| ())?;
    let own = ask(&bench, shown, "POST", "/v1/vector_stores", &json!({})).await?;
    let own = own.json::<Value>()?;
    ensure!(id(&own)?.len() < 60, "no tag: {own}");
    let list = ask(&bench, shown, "GET", "/v1/vector_stores?order=asc", &NONE).await?;
    let list = list.json::<Value>()?;
    let listed = list["data"].as_array().context("a list")?;
    ensure!(listed.iter().any(|one| one["id"] == own["id"]), "{list}");
    Ok(())
}

#[tokio::test]
async fn stores_and_containers_count_as_requests_and_not_in_tokens() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let limit = limited(&sims, minute(Unit::Requests, 4));
    let bench = Bench::serve(Vec::new(), limit, |_config| ())?;
    let [store, _, _] = store(&bench).await?;
    let path = format!("/v1/vector_stores/{store}");
    made(&bench, &format!("{path}/search"), &json!({"query": "x"})).await?;
    for path in [
        "/v1/containers",
        "/v1/vector_stores",
        &format!("{path}/search"),
    ] {
        let body = json!({"name": "c", "query": "x"});
        let spent = ask(&bench, ANN, "POST", path, &body).await?;
        assert_eq!(spent.status, 429, "{path}");
    }
    got(&bench, &path).await?;
    got(&bench, &format!("{path}/files")).await?;
    let bench = Bench::serve(
        Vec::new(),
        limited(&sims, minute(Unit::Tokens, 0)),
        |_config| (),
    )?;
    made(&bench, "/v1/containers", &json!({"name": "c"})).await?;
    made(&bench, "/v1/vector_stores", &json!({})).await?;
    let full = limited(&sims, minute(Unit::Concurrency, 0));
    let bench = Bench::serve(Vec::new(), full, |_config| ())?;
    let full = ask(&bench, ANN, "POST", "/v1/vector_stores", &json!({})).await?;
    assert_eq!(
        full.json::<Value>()?["error"]["code"],
        "concurrency_exceeded"
    );
    Ok(())
}

#[tokio::test]
async fn a_limit_of_money_needs_leave_for_what_has_an_untold_price() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let mut money = limited(&sims, minute(Unit::CostMicros, 1_000_000));
    let bench = Bench::serve(Vec::new(), money.clone(), |_config| ())?;
    for (path, body) in [
        ("/v1/containers", json!({"name": "c"})),
        ("/v1/vector_stores", json!({})),
    ] {
        let refused = ask(&bench, ANN, "POST", path, &body).await?;
        let error = refused.json::<Value>()?;
        let found = (refused.status, &error["error"]["code"]);
        assert_eq!(found, (403, &json!("unmetered")), "{error}");
    }
    // A file is not billed.
    put(&bench, ANN, "/v1/files", FORM).await?;
    for_each_rule(&mut money, |rule| rule.allows_unmetered = true);
    let bench = Bench::serve(Vec::new(), money, |_config| ())?;
    store(&bench).await?;
    container(&bench).await?;
    Ok(())
}

fn for_each_rule(contents: &mut Contents, change: impl Fn(&mut proxy_core::table::Rule)) {
    for route in &mut contents.routes {
        for rule in &mut Arc::make_mut(route).rules {
            change(Arc::make_mut(rule));
        }
    }
}

#[tokio::test]
async fn a_store_that_no_caller_can_make_is_every_consumers() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let mut contents = contents(&sims);
    for_each_rule(&mut contents, |rule| {
        rule.matches = vec![Match {
            operations: vec![Operation::Responses],
            ..Match::default()
        }];
    });
    let bench = Bench::serve(Vec::new(), contents, |_config| ())?;
    let direct = format!("{}/openai/v1/vector_stores", sims[0].url());
    let headers = [("api-key", "sim-key"), ("content-type", "application/json")];
    let direct = http::request(Method::POST, &direct, &headers, "{}").await?;
    let direct = direct.json::<Value>()?;
    let direct = id(&direct)?;
    let search = |store: &str| {
        let tool = json!({"type": "file_search", "vector_store_ids": [store]});
        json!({"model": "gpt-5", "input": "x", "tools": [tool]})
    };
    let answer = made(&bench, "/v1/responses", &search(direct)).await?;
    let store = answer.pointer("/tools/0/vector_store_ids/0");
    let store = store.and_then(Value::as_str).context("a store")?;
    assert_eq!(plain(store), direct);
    assert_eq!(
        made(&bench, "/v1/responses", &search(store)).await?["tools"],
        answer["tools"]
    );
    let bobs = ask(&bench, BOB, "POST", "/v1/responses", &search(direct)).await?;
    assert_eq!(bobs.status, 200, "{}", bobs.text());
    // As soon as one rule lets callers make stores there, a bare id may be another's.
    let other = replica(&sims)?;
    let refused = ask(&other, ANN, "POST", "/v1/responses", &search(direct)).await?;
    assert_eq!(refused.status, 404, "{}", refused.text());
    Ok(())
}

/// Resources know nothing of each other's files, and a caller that puts files into a store does not choose one.
#[tokio::test]
async fn what_a_consumer_puts_together_is_at_one_resource() -> Result<()> {
    let sims = sims(3, &config()?)?;
    let (one, other) = (replica(&sims)?, replica(&sims)?);
    let mut files = Vec::new();
    for _ in 0..4 {
        files.extend([file(&one).await?, file(&other).await?]);
    }
    for replica in [&one, &other] {
        let store = made(replica, "/v1/vector_stores", &json!({"file_ids": files})).await?;
        let store = format!("/v1/vector_stores/{}/files", id(&store)?);
        made(&one, &store, &json!({"file_id": file(&other).await?})).await?;
        made(
            replica,
            "/v1/containers",
            &json!({"name": "c", "file_ids": files}),
        )
        .await?;
    }
    let asked = sims.iter().filter(|sim| !sim.requests().is_empty());
    assert_eq!(asked.count(), 1);
    // Where that one is out, another takes what is new.
    let out = sims.iter().find(|sim| !sim.requests().is_empty());
    let fault = tests_foundry::Fault {
        status: Some(503),
        ..tests_foundry::Fault::default()
    };
    out.context("a resource")?.faults(vec![fault])?;
    file(&one).await?;
    Ok(())
}
