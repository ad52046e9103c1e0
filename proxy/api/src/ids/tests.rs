use bytes::Bytes;
use proptest::prelude::*;

use super::{Mark, Marker, Tag};

const TAG: Tag = *b"_TAG_TAG_TAG_TAG";

#[expect(clippy::unnecessary_wraps, reason = "as the marker wants it")]
fn tag(_mark: Mark<'_>) -> Option<Tag> {
    Some(TAG)
}

fn marked(mut marker: Marker, text: &str) -> String {
    let out = marker.push(Bytes::copy_from_slice(text.as_bytes()), tag);
    String::from_utf8(out.to_vec()).expect("text")
}

/// `#` stands for a tag, and `~` for one in front of something sealed.
fn with_tags(text: &str) -> String {
    let tag = std::str::from_utf8(&TAG).expect("text");
    text.replace('#', tag).replace('~', &format!("{tag}."))
}

fn check(marker: impl Fn() -> Marker, marked_text: &str) {
    let plain = marked_text.replace(['#', '~'], "");
    assert_eq!(marked(marker(), &plain), with_tags(marked_text));
    for cut in 0..=plain.len() {
        let mut marker = marker();
        let bytes = Bytes::from(plain.clone());
        let (one, other) = (bytes.slice(..cut), bytes.slice(cut..));
        let out = [marker.push(one, tag), marker.push(other, tag)].concat();
        assert_eq!(out, with_tags(marked_text).as_bytes(), "cut at {cut}");
    }
}

#[test]
fn an_answer_has_its_own_id_that_of_the_one_before_and_its_conversation() {
    check(
        Marker::json,
        r#"{"id":"resp_1#","object":"response","previous_response_id" : "resp_0#","conversation":{"x":["id"],"id":"conv_1#"},
           "output":[{"id":"msg_1","type":"message","content":[{"text":"\"id\":\"resp_9\"","id":"x"}]}],
           "metadata":{"id":"mine","conversation":{"id":"mine"}},"tools":[]}"#,
    );
    check(Marker::json, r#"{"conversation":"conv_1#","id":"resp_1#"}"#);
    check(
        Marker::json,
        r#"{"previous_response_id":null,"conversation":null,"id":""}"#,
    );
    check(
        Marker::json,
        r#"{"object":"list","data":[{"id":"msg_1"}],"first_id":"msg_1"}"#,
    );
    check(
        Marker::json,
        r#"{"a\u0062":"id","id\n":"x","id":"resp_\u0031"}"#,
    );
}

#[test]
fn an_event_has_them_in_its_response() {
    check(
        Marker::events,
        "event: response.created\ndata: {\"type\":\"response.created\",\"id\":\"x\",\"response\":{\"id\":\"resp_1#\",\"conversation\":{\"id\":\"c#\"}}}\n\n\
         event: response.output_text.delta\ndata: {\"item_id\":\"msg_1\",\"delta\":\"\\\"response\\\": {\"}\n\n\
         : comment\r\ndata:{\"response\"\r\ndata::{\"id\":\"resp_1#\"}}\r\n\r\ndata: {\"response\":{\"previous_response_id\":\"resp_0#\"}}\r\r\
         data: [DONE]\n\n",
    );
}

#[test]
fn a_broken_event_does_not_reach_into_the_next() {
    check(
        Marker::events,
        "data: {\"response\":{\"x\":\"\ndata:\n\ndata: {\"response\":{\"id\":\"resp_1#\"}}\n\n",
    );
}

#[test]
fn the_first_id_of_the_answer_is_known() {
    let mut marker = Marker::events();
    assert_eq!(marker.id(), None);
    let text = "data: {\"response\":{\"conversation\":{\"id\":\"c\"},\"id\":\"resp_1\"}}\n\n";
    marker.push(Bytes::from_static(text.as_bytes()), tag);
    assert_eq!(marker.id(), Some("resp_1"));
}

#[test]
fn what_is_too_long_for_an_id_stays() {
    let text = format!("{{\"id\":\"{}\"}}", "x".repeat(200));
    assert_eq!(marked(Marker::json(), &text), text);
}

proptest! {
    #[test]
    fn a_cut_changes_nothing(
        text in r#"([{}\[\]:,"\\ \r\n]|data:|"id"|"response"|"conversation"|"file_ids"|"encrypted_content"|"metadata"|"resp_1"){0,60}"#,
        cut in 0_usize..100,
        events: bool,
    ) {
        let marker = if events { Marker::events } else { Marker::json };
        let whole = marked(marker(), &text);
        let bytes = Bytes::from(text.clone());
        let cut = cut.min(bytes.len());
        let mut halves = marker();
        let parts = [halves.push(bytes.slice(..cut), tag), halves.push(bytes.slice(cut..), tag)];
        prop_assert_eq!(parts.concat(), whole.as_bytes());
        let tag = std::str::from_utf8(&TAG).expect("text");
        let plain = whole.replace(&format!("{tag}."), "").replace(tag, "");
        prop_assert_eq!(plain, text);
    }
}

#[test]
fn an_upload_has_the_id_of_its_file_and_a_part_that_of_its_upload() {
    check(
        Marker::json,
        r#"{"id":"upload_1#","object":"upload","filename":"id","file":{"id":"file-1#","object":"file"},"purpose":"batch"}"#,
    );
    check(
        Marker::json,
        r#"{"id":"part_1#","object":"upload.part","created_at":1,"upload_id":"upload_1#"}"#,
    );
}

#[test]
fn an_answer_has_the_ids_of_files_and_containers_wherever_they_stand() {
    check(
        Marker::json,
        r#"{"id":"resp_1#","output":[{"id":"ci_1","type":"code_interpreter_call","container_id":"cntr_1#","outputs":[{"logs":"\"file_id\":\"x\""}]},
             {"content":[{"type":"output_text","annotations":[{"type":"file_citation","file_id":"file-1#","index":1},
               {"type":"container_file_citation","container_id":"cntr_1#","file_id":"cfile_1#"}]}]},
             {"type":"file_search_call","results":[{"attributes":{"file_id":"mine"},"file_id":"file-1#"}]},
             {"type":"function_call","arguments":"{\"file_id\":\"mine\"}"}],
           "tools":[{"container":{"type":"auto","file_ids":["file-1#",null,"file-2#"]},"parameters":{"file_id":"mine"}},{"vector_store_ids":["vs_1#"]},{"container":"cntr_2#"}],
           "prompt":{"variables":{"file_id":"mine","a":{"file_id":"file-3#"}}},"metadata":{"file_id":"mine"}}"#,
    );
    check(
        Marker::items,
        r#"{"object":"list","data":[{"id":"msg_1","content":[{"type":"input_file","file_id":"file-1#"}]}],"first_id":"msg_1"}"#,
    );
    check(
        Marker::events,
        "data: {\"type\":\"response.output_text.annotation.added\",\"annotation\":{\"file_id\":\"file-1#\"}}\n\n\
         data: {\"delta\":\"\\\"file_id\\\":\\\"x\\\"\"}\n\n",
    );
}

#[test]
fn a_page_has_the_ids_of_its_elements_and_of_its_ends() {
    check(
        Marker::page,
        r#"{"object":"list","first_id":"file-1#","data":[{"id":"file-1#","object":"vector_store.file","vector_store_id":"vs_1#",
             "attributes":{"id":"mine","file_id":"mine"},"chunking_strategy":{"id":"x"},"last_error":null},{"id":"file-2#"},"id",["id"]],
             "last_id":"file-2#","id":"x","has_more":false}"#,
    );
    check(
        Marker::items,
        r#"{"object":"vector_store.search_results.page","search_query":["id"],"data":[{"file_id":"file-1#","attributes":{"file_id":"mine"},
             "content":[{"type":"text","text":"\"file_id\":\"x\""}]}],"next_page":null}"#,
    );
    check(
        Marker::page,
        r#"{"data":{"id":"x"},"first_id":null,"last_id":""}"#,
    );
}

#[test]
fn what_is_spoken_has_an_id() {
    check(
        || Marker::speech(false),
        r#"{"id":"chatcmpl-1","choices":[{"index":0,"message":{"audio":{"id":"audio_1#","data":"UklG","transcript":"\"id\":\"x\""},
             "annotations":[{"id":"x"}],"tool_calls":[{"id":"call_1","function":{"arguments":"{\"audio\":{\"id\":\"x\"}}"}}]}},
             {"message":{"audio":{"data":"","id":"audio_2#"}}},{"audio":[{"id":"x"}]},{"audio":null}]}"#,
    );
    check(
        || Marker::speech(true),
        "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"delta\":{\"audio\":{\"id\":\"audio_1#\",\"transcript\":\"la\"}}}]}\n\n\
         data: {\"choices\":[{\"delta\":{\"audio\":{\"data\":\"Ukl\"}}}]}\n\ndata: [DONE]\n\n",
    );
}

#[test]
fn what_is_sealed_has_a_tag_in_front() {
    check(
        Marker::json,
        r#"{"id":"resp_1#","output":[{"id":"rs_1","encrypted_content":"~gAAAA"},{"encrypted_content":""},{"encrypted_content":null}],"metadata":{"encrypted_content":"x"}}"#,
    );
    check(
        Marker::events,
        "data: {\"item\":{\"id\":\"rs_1\",\"encrypted_content\":\"~gA\\/AA\"}}\n\n\
         data: {\"response\":{\"output\":[{\"encrypted_content\":\"~gA\"}]}}\n\n",
    );
    let long = format!("{{\"encrypted_content\":\"~{}\"}}", "x".repeat(500));
    check(Marker::items, &long);
}

#[test]
fn what_lies_too_deep_is_no_answer_of_the_api() {
    let (open, close) = ("{\"a\":".repeat(127), "}".repeat(127));
    check(
        Marker::items,
        &format!(
            "{open}{{\"file_id\":\"f#\",\"a\":{{\"file_id\":\"f\"}},\"file_ids\":[\"f\"]}}{close}"
        ),
    );
}
