//! Ids by an older key of the tags.

use anyhow::{Context, Result};
use proxy_gateway::StateKeys;
use serde_json::{Value, json};
use tests_foundry::Sim;

use crate::bench::{Bench, sims};
use crate::kept::{ANN, NONE, ask, config, contents, id, made};
use crate::kept_stores::{got, plain, store};

const OLD: &str = "0123456789abcdef0123456789abcdef";
const NEW: &str = "fedcba9876543210fedcba9876543210";

/// A replica with these keys of the tags.
fn keyed(sims: &[Sim], keys: &str) -> Result<Bench> {
    let keys = StateKeys::read(keys)?;
    Bench::serve(Vec::new(), contents(sims), |config| {
        config.state_keys = keys;
    })
}

#[tokio::test]
async fn an_id_answers_as_it_was_asked_for_while_its_key_is_kept() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let old = keyed(&sims, OLD)?;
    let [store, file, batch] = store(&old).await?;
    let asked = json!({"model": "gpt-5", "input": "x", "tools": [{"type": "file_search", "vector_store_ids": [store]}]});
    let response = made(&old, "/v1/responses", &asked).await?;
    let response = id(&response)?.to_owned();
    let both = keyed(&sims, &format!("{NEW}\n{OLD}"))?;
    let path = format!("/v1/vector_stores/{store}");
    let of_file = format!("{path}/files/{file}");
    assert_eq!(id(&got(&both, &path).await?)?, store);
    assert_eq!(
        id(&got(&both, &format!("/v1/responses/{response}")).await?)?,
        response
    );
    assert_eq!(id(&got(&both, &format!("/v1/files/{file}")).await?)?, file);
    assert_eq!(
        id(&got(&both, &format!("{path}/file_batches/{batch}")).await?)?,
        batch
    );
    let own = got(&both, &of_file).await?;
    assert_eq!(
        (id(&own)?, &own["vector_store_id"]),
        (&*file, &json!(store))
    );
    let next = json!({"model": "gpt-5", "input": "y", "previous_response_id": response,
        "tools": [{"type": "file_search", "vector_store_ids": [store]}]});
    let next = made(&both, "/v1/responses", &next).await?;
    assert_eq!(
        (
            &next["previous_response_id"],
            &next["tools"][0]["vector_store_ids"]
        ),
        (&json!(response), &json!([store]))
    );
    // What is new has the new key, and both are good.
    let list = got(&both, &format!("{path}/files")).await?;
    let renewed = list["data"][0]["id"].as_str().context("a file")?;
    assert_eq!(plain(renewed), plain(&file));
    assert_ne!(renewed, file);
    let new = keyed(&sims, NEW)?;
    got(&new, &format!("/v1/files/{renewed}")).await?;
    for path in [
        path,
        of_file,
        format!("/v1/responses/{response}"),
        format!("/v1/files/{file}"),
    ] {
        let gone = ask(&new, ANN, "GET", &path, &NONE).await?;
        let error = gone.json::<Value>()?;
        assert_eq!(error["error"]["code"], "not_kept", "{path}");
    }
    Ok(())
}
