//! Forms: transcriptions, edits of images, files and uploads.

use serde_json::{Value, json};

use super::client::{Answer, build, last, post, run, send, sim, sim_with};
use crate::Sim;

const KEY: (&str, &str) = ("api-key", "sim-key");
const KIND: (&str, &str) = ("content-type", "multipart/form-data; boundary=b");
const HEAR: &str = "/openai/v1/audio/transcriptions";

fn form(parts: &[(&str, &str)]) -> String {
    let parts = parts.iter().map(|(name, value)| {
        let file = if value.starts_with('@') {
            "; filename=\"a.mp3\""
        } else {
            ""
        };
        let value = value.trim_start_matches('@');
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n")
    });
    parts.collect::<String>() + "--b--\r\n"
}

async fn put(sim: &Sim, path: &str, parts: &[(&str, &str)]) -> Answer {
    send(sim, build("POST", path, &[KEY, KIND], &form(parts))).await
}

async fn get(sim: &Sim, method: &str, path: &str) -> Answer {
    send(sim, build(method, path, &[KEY], "")).await
}

#[test]
fn writes_down_by_tokens_or_by_time() {
    run(async {
        let sound = format!("@{}", "x".repeat(7_999));
        let sim = sim_with("d=gpt-4o-transcribe");
        let fields = [
            ("model", "d"),
            ("file", sound.as_str()),
            ("prompt", "one two"),
        ];
        let json = put(&sim, HEAR, &fields).await.json();
        let usage = json!({
            "type": "tokens", "total_tokens": 28, "input_tokens": 22,
            "input_token_details": {"text_tokens": 2, "audio_tokens": 20}, "output_tokens": 6,
        });
        assert_eq!(json["usage"], usage);
        assert_eq!(json["text"].as_str().unwrap().split(' ').count(), 6);
        let stream = [("stream", "true"), ("model", "d"), ("file", sound.as_str())];
        let events = put(&sim, HEAR, &stream).await;
        assert_eq!(events.text.matches("transcript.text.delta").count(), 6);
        assert!(
            events.text.contains(r#""output_tokens":6"#),
            "{}",
            events.text
        );
        assert_eq!(sim.billed().deployments["d"].completion_tokens, 12);
        let srt = [
            ("model", "d"),
            ("file", sound.as_str()),
            ("response_format", "srt"),
        ];
        let refused = put(&sim, HEAR, &srt).await.json();
        assert_eq!(refused["error"]["code"], "unsupported_value");
        let timed = sim_with("d=whisper-001");
        let answer = put(&timed, HEAR, &srt).await;
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert!(
            answer
                .text
                .starts_with("1\n00:00:00,000 --> 00:00:02,000\n"),
            "{}",
            answer.text
        );
        assert_eq!(timed.billed().deployments["d"].seconds, 2);
        let path = "/openai/deployments/d/audio/translations?api-version=2025-04-01-preview";
        let json = put(&timed, path, &[("file", sound.as_str())]).await.json();
        assert_eq!(json["usage"], json!({"type": "duration", "seconds": 2}));
    });
}

#[test]
fn is_strict_about_forms() {
    run(async {
        let sim = sim_with("d=gpt-4o-transcribe");
        let refused = async |fields: &[(&str, &str)]| {
            let answer = put(&sim, HEAR, fields).await;
            (answer.status, answer.json()["error"]["param"].clone())
        };
        let missing = refused(&[("model", "d")]).await;
        assert_eq!(missing, (400.try_into().unwrap(), json!("file")));
        let unknown = refused(&[("model", "d"), ("file", "@x"), ("lang", "en")]).await;
        assert_eq!(unknown.1, "lang");
        let empty = refused(&[("model", "d"), ("file", "@")]).await;
        assert_eq!(empty.1, "file");
        assert_eq!(refused(&[("file", "@x")]).await.1, "model");
        assert_eq!(refused(&[("model", "other"), ("file", "@x")]).await.0, 404);
        let translated = put(
            &sim,
            "/openai/v1/audio/translations",
            &[("model", "d"), ("file", "@x")],
        );
        assert_eq!(
            translated.await.json()["error"]["code"],
            "OperationNotSupported"
        );
        let json = post(&sim, HEAR, &json!({"model": "d"})).await;
        assert_eq!(json.json()["error"]["code"], "invalid_content_type");
        let open = build("POST", HEAR, &[KEY, KIND], "--b\r\nContent-Disposition: x");
        assert_eq!(send(&sim, open).await.status, 400);
    });
}

#[test]
fn edits_images() {
    run(async {
        let sim = sim_with("d=gpt-image-2");
        let path = "/openai/v1/images/edits";
        let fields = [
            ("model", "d"),
            ("image[]", "@a"),
            ("image[]", "@b"),
            ("mask", "@c"),
            ("prompt", "a pot"),
            ("quality", "low"),
            ("n", "2"),
        ];
        let usage = put(&sim, path, &fields).await.json()["usage"].clone();
        assert_eq!(
            usage["input_tokens_details"],
            json!({"image_tokens": 200, "text_tokens": 2})
        );
        assert_eq!(usage["output_tokens"], 544);
        let stream = [
            ("model", "d"),
            ("image", "@a"),
            ("prompt", "x"),
            ("stream", "true"),
        ];
        let events = put(&sim, path, &stream).await;
        assert!(
            events.text.starts_with("event: image_edit.completed\n"),
            "{}",
            events.text
        );
        let without = put(&sim, path, &[("model", "d"), ("prompt", "x")]).await;
        assert_eq!(without.json()["error"]["param"], "image");
    });
}

#[test]
fn keeps_files_until_they_are_deleted() {
    run(async {
        let sim = sim();
        let fields = [("purpose", "batch"), ("file", "@one line")];
        let made = put(&sim, "/openai/v1/files", &fields).await.json();
        assert_eq!(
            (&made["bytes"], &made["filename"]),
            (&json!(8), &json!("a.mp3"))
        );
        let file = format!("/openai/v1/files/{}", made["id"].as_str().unwrap());
        assert_eq!(get(&sim, "GET", &file).await.json(), made);
        let content = get(&sim, "GET", &format!("{file}/content")).await;
        assert_eq!(content.text, "one line");
        assert_eq!(content.header("content-type"), "application/octet-stream");
        let list = get(&sim, "GET", "/openai/v1/files?purpose=batch")
            .await
            .json();
        assert_eq!(list["data"], json!([made]));
        let none = get(&sim, "GET", "/openai/v1/files?purpose=vision")
            .await
            .json();
        assert_eq!(none["data"], json!([]));
        assert_eq!(get(&sim, "DELETE", &file).await.json()["deleted"], true);
        assert_eq!(get(&sim, "GET", &file).await.status, 404);
        for (fields, param) in [
            (vec![("purpose", "batch")], "file"),
            (vec![("file", "@x")], "purpose"),
        ] {
            let refused = put(&sim, "/openai/v1/files", &fields).await.json();
            assert_eq!(refused["error"]["param"], param);
        }
        assert_eq!(last(&sim).await.status, Some(400));
    });
}

#[test]
fn makes_a_file_of_the_parts_of_an_upload() {
    run(async {
        let sim = sim();
        let about = json!({"bytes": 7, "filename": "x.jsonl", "mime_type": "text/jsonl", "purpose": "batch"});
        let upload = post(&sim, "/openai/v1/uploads", &about).await.json();
        let path = format!("/openai/v1/uploads/{}", upload["id"].as_str().unwrap());
        let mut ids: Vec<Value> = Vec::new();
        for data in ["@one", "@ two"] {
            let part = put(&sim, &format!("{path}/parts"), &[("data", data)])
                .await
                .json();
            assert_eq!(part["upload_id"], upload["id"]);
            ids.push(part["id"].clone());
        }
        let complete = format!("{path}/complete");
        let short = post(&sim, &complete, &json!({"part_ids": [ids[0]]})).await;
        assert_eq!(short.status, 400);
        let done = post(&sim, &complete, &json!({"part_ids": ids}))
            .await
            .json();
        let file = done["file"]["id"].as_str().unwrap();
        let content = get(&sim, "GET", &format!("/openai/v1/files/{file}/content")).await;
        assert_eq!(
            (content.text.as_str(), &done["status"]),
            ("one two", &json!("completed"))
        );
        let late = put(&sim, &format!("{path}/parts"), &[("data", "@x")]).await;
        assert_eq!(late.status, 400);
    });
}
