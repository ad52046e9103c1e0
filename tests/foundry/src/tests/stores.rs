//! Vector stores and containers, with the files that are put into them.

use serde_json::{Value, json};

use super::client::{Answer, build, post, run, send, sim};
use crate::Sim;

const KEY: (&str, &str) = ("api-key", "sim-key");
const KIND: (&str, &str) = ("content-type", "multipart/form-data; boundary=b");
const FORM: &str = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n\
     --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\none line\r\n--b--\r\n";

async fn get(sim: &Sim, method: &str, path: &str) -> Answer {
    send(sim, build(method, path, &[KEY], "")).await
}

async fn form(sim: &Sim, path: &str, form: &str) -> Value {
    send(sim, build("POST", path, &[KEY, KIND], form))
        .await
        .json()
}

fn id(made: &Value) -> &str {
    made["id"].as_str().unwrap()
}

#[test]
fn searches_the_files_of_a_store() {
    run(async {
        let sim = sim();
        let file = form(&sim, "/openai/v1/files", FORM).await;
        let stores = "/openai/vector_stores?api-version=2025-04-01-preview";
        let about = json!({"name": "s", "file_ids": [id(&file)], "metadata": {"a": "b"}});
        let store = post(&sim, stores, &about).await.json();
        assert_eq!(store["file_counts"]["total"], 1);
        assert_eq!(store["usage_bytes"], 8);
        let path = format!("/openai/v1/vector_stores/{}", id(&store));
        let other = json!({"name": "t"});
        let updated = post(&sim, &path, &other).await.json();
        assert_eq!(
            (&updated["name"], &updated["metadata"]),
            (&json!("t"), &json!({"a": "b"}))
        );
        let asked = json!({"query": "line"});
        let found = post(&sim, &format!("{path}/search"), &asked).await.json();
        let hit = &found["data"][0];
        assert_eq!(
            (&hit["file_id"], &hit["content"][0]["text"]),
            (&file["id"], &json!("one line"))
        );
        let own = format!("{path}/files/{}", id(&file));
        let about = json!({"attributes": {"year": 2}});
        let updated = post(&sim, &own, &about).await.json();
        assert_eq!(get(&sim, "GET", &own).await.json(), updated);
        assert_eq!(updated["attributes"], about["attributes"]);
        let content = get(&sim, "GET", &format!("{own}/content")).await.json();
        assert_eq!(content["data"][0]["text"], "one line");
        assert_eq!(get(&sim, "DELETE", &own).await.json()["deleted"], true);
        assert_eq!(get(&sim, "GET", &own).await.status, 404);
        let list = get(&sim, "GET", "/openai/v1/vector_stores").await.json();
        assert_eq!(list["data"][0]["id"], store["id"]);
        assert_eq!(get(&sim, "DELETE", &path).await.json()["id"], store["id"]);
        assert_eq!(get(&sim, "GET", &path).await.status, 404);
    });
}

#[test]
fn puts_files_into_a_store_by_batches() {
    run(async {
        let sim = sim();
        let (one, two) = (
            form(&sim, "/openai/v1/files", FORM).await,
            form(&sim, "/openai/v1/files", FORM).await,
        );
        let store = post(&sim, "/openai/v1/vector_stores", &json!({}))
            .await
            .json();
        let path = format!("/openai/v1/vector_stores/{}", id(&store));
        let batches = format!("{path}/file_batches");
        let both = json!({"files": [{"file_id": id(&one), "attributes": {"n": 1}}, {"file_id": id(&two)}]});
        let batch = post(&sim, &batches, &both).await.json();
        assert_eq!(
            (&batch["status"], &batch["vector_store_id"]),
            (&json!("in_progress"), &store["id"])
        );
        let own = format!("{batches}/{}", id(&batch));
        let page = get(&sim, "GET", &format!("{own}/files?order=asc&limit=1"))
            .await
            .json();
        assert_eq!(
            (&page["last_id"], &page["has_more"]),
            (&one["id"], &json!(true))
        );
        let rest = format!("{path}/files?order=asc&after={}", id(&one));
        let rest = get(&sim, "GET", &rest).await.json();
        assert_eq!(rest["data"][0]["id"], two["id"]);
        let cancelled = post(&sim, &format!("{own}/cancel"), &json!({}))
            .await
            .json();
        assert_eq!(cancelled["status"], "cancelled");
        assert_eq!(get(&sim, "GET", &own).await.json(), cancelled);
        for about in [
            json!({}),
            json!({"file_ids": ["file-x"]}),
            json!({"file_ids": [id(&one)], "files": [{"file_id": id(&two)}]}),
        ] {
            let status = post(&sim, &batches, &about).await.status;
            assert!([400, 404].contains(&status.as_u16()), "{about}");
        }
        let alone = post(
            &sim,
            &format!("{path}/files"),
            &json!({"file_id": id(&one)}),
        )
        .await;
        assert_eq!(alone.json()["id"], one["id"]);
    });
}

#[test]
fn copies_files_into_a_container() {
    run(async {
        let sim = sim();
        let file = form(&sim, "/openai/v1/files", FORM).await;
        let about = json!({"name": "c", "file_ids": [id(&file)]});
        let made = post(&sim, "/openai/v1/containers", &about).await.json();
        let path = format!("/openai/v1/containers/{}", id(&made));
        assert_eq!(get(&sim, "GET", &path).await.json(), made);
        let files = format!("{path}/files");
        let copy = post(&sim, &files, &json!({"file_id": id(&file)}))
            .await
            .json();
        let sent = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"b.txt\"\r\n\r\ntwo\r\n--b--\r\n";
        let sent = form(&sim, &files, sent).await;
        assert_eq!(
            (&sent["bytes"], &sent["container_id"]),
            (&json!(3), &made["id"])
        );
        assert_ne!(copy["id"], file["id"]);
        let list = get(&sim, "GET", &files).await.json();
        assert_eq!(list["data"].as_array().map(Vec::len), Some(3));
        let own = format!("{files}/{}", id(&sent));
        assert_eq!(
            get(&sim, "GET", &format!("{own}/content")).await.text,
            "two"
        );
        assert_eq!(get(&sim, "DELETE", &own).await.json()["id"], sent["id"]);
        assert_eq!(get(&sim, "GET", &own).await.status, 404);
        let asked = json!({"model": "gpt-5", "input": "x", "tools": [{"type": "code_interpreter", "container": id(&made)}]});
        assert_eq!(post(&sim, "/openai/v1/responses", &asked).await.status, 200);
        assert_eq!(get(&sim, "DELETE", &path).await.status, 200);
        assert_eq!(post(&sim, "/openai/v1/responses", &asked).await.status, 404);
        let list = get(&sim, "GET", "/openai/v1/containers").await.json();
        assert_eq!(list["data"], json!([]));
        let dated = "/openai/containers?api-version=2025-04-01-preview";
        assert_eq!(get(&sim, "GET", dated).await.status, 404);
    });
}
