use bytes::Bytes;

use crate::body::{Body, Kept, Malformed};
use crate::rows::ROWS;

/// The scan of a body for the path of an operation.
fn scanned(path: &str, body: &str) -> Result<Body, Malformed> {
    let found = crate::find(ROWS, &http::Method::POST, path).ok();
    let call = found.and_then(|found| found.api.answer.call());
    let call = call.ok_or_else(|| Malformed("no such call".to_owned()))?;
    call.scan(None, &Bytes::copy_from_slice(body.as_bytes()), false)
}

fn found(path: &str, body: &str) -> Vec<(Kept, String, String)> {
    let body = scanned(path, body).expect("a body");
    let references = body.references.iter();
    let all = references.map(|one| (one.kept, one.place.to_string(), one.id.to_string()));
    all.collect()
}

fn check(path: &str, body: &str, expect: &[(Kept, &str, &str)]) {
    let expect: Vec<_> = expect
        .iter()
        .map(|(kept, place, id)| (*kept, (*place).to_owned(), (*id).to_owned()))
        .collect();
    assert_eq!(found(path, body), expect, "{body}");
}

#[test]
fn ids_are_found_at_each_place_of_the_apis() {
    check(
        "/v1/chat/completions",
        r#"{"model":"m","messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"file-1"}}]}]}"#,
        &[(Kept::File, "messages[0].content[0].file.file_id", "file-1")],
    );
    check(
        "/v1/responses",
        r#"{"model":"m","previous_response_id":"resp_1",
            "input":[{"content":[{"type":"input_text","text":"\"file_id\":\"no\""},{"type":"input_image","file_id":"file-1"}]},
                     {"type":"function_call_output","output":[{"type":"input_file","file_id" : "file-2"}]},
                     {"type":"code_interpreter_call","container_id":"cntr_1"}],
            "prompt":{"id":"pmpt_1","variables":{"file_id":"no","doc":{"type":"input_file","file_id":"file-3"}}},
            "tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["file-4","file-5"]}},
                     {"type":"code_interpreter","container":"cntr_2"},
                     {"type":"file_search","vector_store_ids":["vs_1"]},
                     {"type":"image_generation","input_image_mask":{"file_id":"file-6"}}]}"#,
        &[
            (Kept::Response, "previous_response_id", "resp_1"),
            (Kept::File, "input[0].content[1].file_id", "file-1"),
            (Kept::File, "input[1].output[0].file_id", "file-2"),
            (Kept::Container, "input[2].container_id", "cntr_1"),
            (Kept::File, "prompt.variables.doc.file_id", "file-3"),
            (Kept::File, "tools[0].container.file_ids[0]", "file-4"),
            (Kept::File, "tools[0].container.file_ids[1]", "file-5"),
            (Kept::Container, "tools[1].container", "cntr_2"),
            (Kept::VectorStore, "tools[2].vector_store_ids[0]", "vs_1"),
            (Kept::File, "tools[3].input_image_mask.file_id", "file-6"),
        ],
    );
    check(
        "/v1/messages",
        r#"{"model":"m","container":"theirs","messages":[{"content":[{"type":"document","source":{"type":"file","file_id":"file-1"}}]}]}"#,
        &[(
            Kept::File,
            "messages[0].content[0].source.file_id",
            "file-1",
        )],
    );
    check(
        "/v1/conversations",
        r#"{"file_id":"file-1","items":[{"content":[{"file_id":null},{"file":{"file_id":"file-2"}}]}]}"#,
        &[
            (Kept::File, "file_id", "file-1"),
            (Kept::File, "items[0].content[1].file.file_id", "file-2"),
        ],
    );
}

#[test]
fn what_is_the_clients_own_is_left_alone() {
    for body in [
        r#"{"model":"m","messages":[],"metadata":{"file_id":"mine"}}"#,
        r#"{"model":"m","messages":[{"tool_calls":[{"function":{"arguments":"{\"file_id\":\"mine\"}"}}]}]}"#,
        r#"{"model":"m","messages":[],"tools":[{"function":{"parameters":{"properties":{"file_id":{"type":"string"}},"file_id":"x"}}}]}"#,
        r#"{"model":"m","messages":[{"content":[{"type":"tool_use","input":{"file_id":"mine"}}]}]}"#,
        r#"{"model":"m","messages":[],"response_format":{"json_schema":{"schema":{"default":{"file_ids":["mine"]}}}}}"#,
    ] {
        check("/v1/chat/completions", body, &[]);
        check("/v1/messages", body, &[]);
    }
}

#[test]
fn no_way_of_writing_hides_an_id() {
    let place = "messages[0].content[0].file.file_id";
    let at = |member: &str| {
        format!(r#"{{"model":"m","messages":[{{"content":[{{"file":{{{member}}}}}]}}]}}"#)
    };
    check(
        "/v1/chat/completions",
        &at(r#""file\u005fid":"file\u002d1""#),
        &[(Kept::File, place, "file-1")],
    );
    check(
        "/v1/chat/completions",
        &at(r#""file_id":"file-1","file_id":"file-2""#),
        &[(Kept::File, place, "file-1"), (Kept::File, place, "file-2")],
    );
    for name in ["File_Id", "FILE_ID", "file_id\u{17f}", "file_ID\\u017f"] {
        let folded = scanned("/v1/chat/completions", &at(&format!("\"{name}\":\"x\"")));
        let why = folded.expect_err(name).0;
        assert!(why.contains("write \"file_id"), "{why}");
    }
    let many = vec!["\"f\""; 2_001].join(",");
    let refused = scanned(
        "/v1/chat/completions",
        &at(&format!("\"file_ids\":[{many}]")),
    );
    assert_eq!(
        refused.expect_err("too many").0,
        "the body names more than 2000 files, vector stores and containers"
    );
}

#[test]
fn an_id_of_another_type_is_refused_by_its_place() {
    let place = "messages[0].content[0].file";
    let at = |member: &str| {
        let body =
            format!(r#"{{"model":"m","messages":[{{"content":[{{"file":{{{member}}}}}]}}]}}"#);
        scanned("/v1/chat/completions", &body)
    };
    for (name, value, inner) in [
        ("file_id", r#"{"file_id":"file-1"}"#, ""),
        ("file_id", "{}", ""),
        ("file_id", "7", ""),
        ("file_id", "true", ""),
        ("file_id", r#"[{"id":"file-1"}]"#, "[0]"),
        ("file_ids", r#"["file-1",5]"#, "[1]"),
        ("file_ids", r#"{"0":"file-1"}"#, ""),
        ("vector_store_ids", r#"[["vs_1"],{"id":"vs_1"}]"#, "[1]"),
        ("container_id", "1", ""),
        ("container_id", r#"{"id":"cntr_1"}"#, ""),
        ("container", "true", ""),
    ] {
        let refused = at(&format!("\"{name}\":{value}")).expect_err(value);
        assert_eq!(
            refused.0,
            format!("\"{place}.{name}{inner}\" must be an id")
        );
    }
    for value in ["{}", "7", r#"["gAAAA"]"#] {
        let refused = at(&format!("\"encrypted_content\":{value}")).expect_err(value);
        assert_eq!(
            refused.0,
            format!("\"{place}.encrypted_content\" must be a string")
        );
    }
    for member in [
        r#""file_id":null"#,
        r#""file_ids":[null]"#,
        r#""encrypted_content":null"#,
        r#""container":{"type":"auto","file_ids":[]}"#,
    ] {
        assert_eq!(at(member).expect(member).references, []);
    }
}

#[test]
fn what_was_spoken_before_is_found_by_its_id() {
    let at = |audio: &str| {
        format!(r#"{{"model":"m","messages":[{{"role":"assistant","audio":{audio}}}]}}"#)
    };
    let chat = "/v1/chat/completions";
    check(
        chat,
        &at(r#"{"id":"audio_1","data":"id"}"#),
        &[(Kept::Audio, "messages[0].audio.id", "audio_1")],
    );
    check(
        chat,
        &at(r#"{"\u0069d":"audio_1","id":"audio_2"}"#),
        &[
            (Kept::Audio, "messages[0].audio.id", "audio_1"),
            (Kept::Audio, "messages[0].audio.id", "audio_2"),
        ],
    );
    for (audio, why) in [
        (r#"{"id":7}"#, "\"messages[0].audio.id\" must be an id"),
        (r#"{"ID":"audio_1"}"#, "write \"id\" instead of \"ID\""),
    ] {
        assert_eq!(scanned(chat, &at(audio)).expect_err(audio).0, why);
    }
    let asked = r#"{"model":"m","messages":[],"modalities":["text","audio"],"audio":{"voice":{"id":"v"},"format":"wav"}}"#;
    assert!(scanned(chat, asked).expect("a body").speaks);
    check(chat, asked, &[]);
    let text = r#"{"model":"m","messages":[{"content":"audio"}],"modalities":["text","audio"]}"#;
    assert!(!scanned(chat, text).expect("a body").speaks);
}

#[test]
fn a_container_in_an_object_has_its_owner_too() {
    let tool = |container: &str| {
        format!(
            r#"{{"model":"m","input":"x","tools":[{{"type":"code_interpreter","container":{container}}}]}}"#
        )
    };
    let found = scanned(
        "/v1/responses",
        &tool(r#"{"type":"auto","id":"cntr_1","file_ids":["file-1"]}"#),
    );
    let references = found.expect("a body").references;
    let references: Vec<_> = references
        .iter()
        .map(|one| (one.kept, &*one.place, &*one.id))
        .collect();
    assert_eq!(
        references,
        [
            (Kept::Container, "tools[0].container.id", "cntr_1"),
            (Kept::File, "tools[0].container.file_ids[0]", "file-1"),
        ]
    );
    for container in [
        r#"{"id":{"id":"cntr_1"}}"#,
        r#"{"ID":"cntr_1"}"#,
        r#"{"id":7}"#,
    ] {
        assert!(
            scanned("/v1/responses", &tool(container)).is_err(),
            "{container}"
        );
    }
}

#[test]
fn files_are_found_where_a_store_or_a_container_takes_them() {
    check(
        "/v1/vector_stores",
        r#"{"name":"s","file_ids":["file-1","file-2"],"metadata":{"file_id":"mine"}}"#,
        &[
            (Kept::File, "file_ids[0]", "file-1"),
            (Kept::File, "file_ids[1]", "file-2"),
        ],
    );
    check(
        "/v1/vector_stores/vs_1/file_batches",
        r#"{"files":[{"file_id":"file-1","attributes":{"file_id":"mine"}}]}"#,
        &[(Kept::File, "files[0].file_id", "file-1")],
    );
    check(
        "/v1/containers/cntr_1/files",
        r#"{"file_id":"file-1"}"#,
        &[(Kept::File, "file_id", "file-1")],
    );
    let search = r#"{"query":"file_id","filters":{"type":"eq","key":"file_id","value":"mine"}}"#;
    check("/v1/vector_stores/vs_1/search", search, &[]);
}

#[test]
fn a_seal_has_its_tag_in_front() {
    let body = r#"{"model":"m","input":[{"type":"reasoning","encrypted_content":"AAAABBBBCCCCDD-_.gAAAA"}]}"#;
    let scanned_body = scanned("/v1/responses", body).expect("a body");
    let [item] = &*scanned_body.references else {
        panic!("one item");
    };
    assert_eq!(
        (item.kept, &*item.id, &*item.place),
        (Kept::Item, "AAAABBBBCCCCDD-_", "input[0].encrypted_content")
    );
    assert_eq!(body.get(item.at.clone()), Some("AAAABBBBCCCCDD-_."));
    assert!(!scanned_body.has_bare_seals);
    for (bare, is_bare) in [
        ("gAAAA", true),
        ("", false),
        ("AAAABBBBCCCCDD+_.gAAAA", true),
    ] {
        let body = format!(r#"{{"model":"m","input":[{{"encrypted_content":"{bare}"}}]}}"#);
        let body = scanned("/v1/responses", &body).expect("a body");
        assert_eq!((body.references.len(), body.has_bare_seals), (0, is_bare));
    }
}

#[test]
fn mcp_servers_are_found_in_all_their_forms() {
    let check = |tools: &str, expect: &[(Option<&str>, &str)]| {
        let body = format!(r#"{{"model":"m","input":"a","max_tokens":1,"messages":[],{tools}}}"#);
        for path in ["/v1/responses", "/v1/messages"] {
            let found = scanned(path, &body).expect("a body").servers;
            let found: Vec<_> = found
                .iter()
                .map(|one| (one.host.as_deref(), &*one.place))
                .collect();
            assert_eq!(found, expect, "{body}");
        }
    };
    let url = |address: &str| format!(r#""tools":[{{"type":"mcp","server_url":"{address}"}}]"#);
    let at = "tools[0].server_url";
    check(
        &url("https://MCP.example.com:8443/sse?x=1"),
        &[(Some("mcp.example.com"), at)],
    );
    check(
        &url(r"https:\/\/mcp.example.com"),
        &[(Some("mcp.example.com"), at)],
    );
    check(
        &url("https://mcp.example.com#.other.example"),
        &[(Some("mcp.example.com"), at)],
    );
    for doubtful in [
        "https://mcp.example.com@evil.example",
        r"https://evil.example\\@mcp.example.com",
        r"https://evil.example\t.mcp.example.com",
        "https://evil%2eexample",
        r"https://evil.example\u3002com",
        "mcp.example.com/sse",
        "https://evil.example;.mcp.example.com",
        "https://a..mcp.example.com",
        "https://[::1]/",
        "",
    ] {
        check(&url(doubtful), &[(None, at)]);
    }
    check(r#""tools":[{"type":"mcp","server_url":null}]"#, &[]);
    check(
        r#""tools":[{"type":"mcp","server_url":["https://a"]}]"#,
        &[(None, at)],
    );
    check(
        r#""tools":[{"type":"mcp","connector_id":"connector_gmail"}]"#,
        &[(None, "tools[0].connector_id")],
    );
    check(
        r#""mcp_servers":[{"type":"url","url":"https://a"}]"#,
        &[(None, "mcp_servers")],
    );
    check(r#""mcp_servers":[]"#, &[]);
    check(
        r#""tools":[{"server_url":"https://a","server_url":"https://b"}]"#,
        &[(Some("a"), at), (Some("b"), at)],
    );
    check(
        r#""tools":[{"type":"function","parameters":{"server_url":"https://a"}}]"#,
        &[],
    );
}
