use bytes::Bytes;
use proptest::prelude::*;

use super::{Marker, Tag};

const TAG: Tag = *b"_TAG_TAG_TAG_TAG";

#[expect(clippy::unnecessary_wraps, reason = "as the marker wants it")]
fn tag(_id: &str) -> Option<Tag> {
    Some(TAG)
}

fn marked(mut marker: Marker, text: &str) -> String {
    let out = marker.push(Bytes::copy_from_slice(text.as_bytes()), tag);
    String::from_utf8(out.to_vec()).expect("text")
}

/// `#` stands for a tag.
fn with_tags(text: &str) -> String {
    text.replace('#', std::str::from_utf8(&TAG).expect("text"))
}

fn check(marker: fn() -> Marker, marked_text: &str) {
    let plain = marked_text.replace('#', "");
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
        text in r#"([{}\[\]:,"\\ \r\n]|data:|"id"|"response"|"conversation"|"resp_1"){0,60}"#,
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
        prop_assert_eq!(whole.replace(std::str::from_utf8(&TAG).expect("text"), ""), text);
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
