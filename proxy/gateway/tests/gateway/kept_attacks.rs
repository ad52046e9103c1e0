//! Another consumer's stores, containers and files, at each place where one may stand.

use ::http::Method;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_foundry::Sim;
use tests_support::http;

use crate::bench::{Bench, sims};
use crate::kept::{ANN, BOB, NONE, ask, config, id, replica};
use crate::kept_files::{FORM, put};
use crate::kept_stores::{container, plain, store};

/// A call at a path, by its method and body.
type Asked = (&'static str, String, Value);

fn asked(sims: &[Sim]) -> usize {
    sims.iter().map(|sim| sim.requests().len()).sum()
}

/// Each call that names a store, a batch, a container or a file of one.
fn calls(store: &[String; 3], container: &[String; 3]) -> Vec<Asked> {
    let ([store, file, batch], [container, copy, source]) = (store, container);
    let of_store = format!("/v1/vector_stores/{store}");
    let of_batch = format!("{of_store}/file_batches/{batch}");
    let of_container = format!("/v1/containers/{container}");
    let (own, copied) = (
        format!("{of_store}/files/{file}"),
        format!("{of_container}/files/{copy}"),
    );
    let empty = || json!({});
    vec![
        ("GET", of_store.clone(), NONE),
        ("POST", of_store.clone(), json!({"name": "n"})),
        ("DELETE", of_store.clone(), NONE),
        ("POST", format!("{of_store}/search"), json!({"query": "x"})),
        ("GET", format!("{of_store}/files"), NONE),
        (
            "POST",
            format!("{of_store}/files"),
            json!({"file_id": file}),
        ),
        ("GET", own.clone(), NONE),
        ("POST", own.clone(), json!({"attributes": {}})),
        ("DELETE", own.clone(), NONE),
        ("GET", format!("{own}/content"), NONE),
        (
            "POST",
            format!("{of_store}/file_batches"),
            json!({"file_ids": [file]}),
        ),
        ("GET", of_batch.clone(), NONE),
        ("POST", format!("{of_batch}/cancel"), empty()),
        ("GET", format!("{of_batch}/files"), NONE),
        ("GET", of_container.clone(), NONE),
        ("DELETE", of_container.clone(), NONE),
        ("GET", format!("{of_container}/files"), NONE),
        (
            "POST",
            format!("{of_container}/files"),
            json!({"file_id": source}),
        ),
        ("GET", copied.clone(), NONE),
        ("GET", format!("{copied}/content"), NONE),
        ("DELETE", copied, NONE),
    ]
}

/// Calls that name a stranger's within what is the caller's own, or beside it.
fn within(own: [&str; 3], stores: &[String; 3], containers: &[String; 3]) -> Vec<Asked> {
    let [own_store, own_container, own_file] = own;
    let ([store, file, batch], [container, copy, source]) = (stores, containers);
    let with = |tool: Value| {
        let body = json!({"model": "gpt-5", "input": "x", "tools": [tool]});
        ("POST", "/v1/responses".to_owned(), body)
    };
    let search = |store: &str| with(json!({"type": "file_search", "vector_store_ids": [store]}));
    let run = |id: &str| with(json!({"type": "code_interpreter", "container": id}));
    vec![
        search(store),
        search(plain(store)),
        run(container),
        run(plain(container)),
        (
            "GET",
            format!("/v1/vector_stores/{own_store}/files/{file}"),
            NONE,
        ),
        (
            "GET",
            format!("/v1/vector_stores/{own_store}/file_batches/{batch}"),
            NONE,
        ),
        (
            "GET",
            format!("/v1/vector_stores/{own_store}/files?after={file}"),
            NONE,
        ),
        (
            "GET",
            format!("/v1/vector_stores/{own_store}/file_batches/{batch}/files"),
            NONE,
        ),
        (
            "POST",
            format!("/v1/vector_stores/{own_store}/files"),
            json!({"file_id": file}),
        ),
        (
            "POST",
            format!("/v1/vector_stores/{own_store}/file_batches"),
            json!({"file_ids": [file, own_file]}),
        ),
        (
            "POST",
            format!("/v1/vector_stores/{own_store}/file_batches"),
            json!({"files": [{"file_id": file}]}),
        ),
        (
            "POST",
            "/v1/vector_stores".to_owned(),
            json!({"file_ids": [file]}),
        ),
        (
            "POST",
            "/v1/containers".to_owned(),
            json!({"name": "n", "file_ids": [file]}),
        ),
        (
            "POST",
            format!("/v1/containers/{own_container}/files"),
            json!({"file_id": source}),
        ),
        (
            "GET",
            format!("/v1/containers/{own_container}/files/{copy}/content"),
            NONE,
        ),
        (
            "GET",
            format!("/v1/containers/{own_container}/files?before={copy}"),
            NONE,
        ),
        (
            "POST",
            "/v1/conversations".to_owned(),
            json!({"items": [{"type": "file_search_call", "vector_store_ids": [plain(store)]}]}),
        ),
    ]
}

#[tokio::test]
async fn no_place_takes_the_store_or_container_of_another() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let bench = replica(&sims)?;
    let ([store, file, batch], [container, copy, source]) =
        (store(&bench).await?, container(&bench).await?);
    let (stores, containers) = (
        [store.clone(), file.clone(), batch.clone()],
        [container.clone(), copy.clone(), source.clone()],
    );
    let bare = |ids: &[String; 3]| ids.clone().map(|id| plain(&id).to_owned());
    let theirs = made_by_bob(&bench).await?;
    let [own_store, own_container, own_file] = &theirs;
    let mut attacks: Vec<((&str, &str), Asked)> = Vec::new();
    attacks.extend(
        calls(&stores, &containers)
            .into_iter()
            .map(|one| (BOB, one)),
    );
    for caller in [ANN, BOB] {
        let bare = calls(&bare(&stores), &bare(&containers));
        attacks.extend(bare.into_iter().map(|one| (caller, one)));
    }
    let mixed = within([own_store, own_container, own_file], &stores, &containers);
    attacks.extend(mixed.into_iter().map(|one| (BOB, one)));
    let before = asked(&sims);
    for (caller, (method, path, body)) in attacks {
        let answer = ask(&bench, caller, method, &path, &body).await?;
        let error = answer.json::<Value>()?;
        let found = (answer.status, &error["error"]["code"]);
        assert_eq!(
            found,
            (404, &json!("not_kept")),
            "{method} {path} {body}: {error}"
        );
    }
    assert_eq!(asked(&sims), before, "no backend was asked");
    Ok(())
}

/// A store, a container and a file of another consumer.
async fn made_by_bob(bench: &Bench) -> Result<[String; 3]> {
    let mut ids = Vec::new();
    for (path, body) in [
        ("/v1/vector_stores", json!({})),
        ("/v1/containers", json!({"name": "b"})),
    ] {
        let answer = ask(bench, BOB, "POST", path, &body)
            .await?
            .json::<Value>()?;
        ids.push(id(&answer)?.to_owned());
    }
    ids.push(id(&put(bench, BOB, "/v1/files", FORM).await?)?.to_owned());
    ids.try_into().ok().context("three of them")
}

#[tokio::test]
async fn a_form_names_no_file_by_its_id() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let bench = replica(&sims)?;
    let [container, _copy, source] = container(&bench).await?;
    let before = asked(&sims);
    for (path, name) in [
        (format!("/v1/containers/{container}/files"), "file_id"),
        ("/v1/images/edits".to_owned(), "images[0][file_id]"),
    ] {
        let form = format!(
            "--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{source}\r\n--b--\r\n"
        );
        let kind = ("content-type", "multipart/form-data; boundary=b");
        let url = format!("{}{path}", bench.url);
        let answer = http::request(Method::POST, &url, &[ANN, kind], form).await?;
        assert_eq!(answer.status, 400, "{path}");
        ensure!(
            answer.text().contains("send ids as JSON"),
            "{}",
            answer.text()
        );
    }
    // Edits take forms alone: as JSON not even an own file goes on.
    for caller in [ANN, BOB] {
        let images = json!([{"file_id": source}]);
        let body = json!({"model": "gpt-image-2", "prompt": "x", "images": images});
        let answer = ask(&bench, caller, "POST", "/v1/images/edits", &body).await?;
        assert_eq!(answer.status, 400);
        ensure!(
            answer.text().contains("multipart/form-data"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(asked(&sims), before, "no backend was asked");
    Ok(())
}
