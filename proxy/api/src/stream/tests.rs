use bytes::Bytes;
use proptest::prelude::*;
use proxy_core::names::Code;

use super::{Ending, Stream, has_event};
use crate::{chat, responses, usage};

const FILTER: &str = "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n";
const ONE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}],\"usage\":null}\n\n";
const TWO: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" \\\"you\\\"\"}}],\"usage\":null}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\
     \"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn chat_stream(strip: bool) -> Stream {
    Stream::new(&chat::GRAMMAR, usage::generation, strip)
}

fn run(text: &str, strip: bool, cuts: &[usize]) -> (String, Stream) {
    let mut stream = chat_stream(strip);
    let mut out = Vec::new();
    let mut at = 0;
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(text.len());
    for cut in cuts {
        let part = Bytes::copy_from_slice(&text.as_bytes()[at..cut]);
        at = cut;
        if !part.is_empty() {
            out.extend_from_slice(&stream.push(part));
        }
    }
    out.extend_from_slice(&stream.finish());
    (String::from_utf8(out).expect("text"), stream)
}

#[test]
fn finds_usage_and_the_end() {
    let text = [FILTER, ONE, TWO, USAGE, DONE].concat();
    let (out, stream) = run(&text, false, &[]);
    assert_eq!(out, text);
    let usage = stream.usage().expect("usage");
    assert_eq!(
        (
            usage.input_tokens,
            usage.cached_input_tokens,
            usage.output_tokens
        ),
        (9, 4, 2)
    );
    assert!(stream.is_done());
    assert_eq!(stream.counted_output(|_| None), 3);
    assert_eq!(
        stream.counted_output(|text| u64::try_from(text.len()).ok()),
        11
    );
    assert_eq!(stream.model(), None);
}

#[test]
fn takes_out_only_the_chunk_that_is_nothing_but_usage() {
    let (out, _) = run(&[FILTER, ONE, USAGE, DONE].concat(), true, &[]);
    assert_eq!(out, [FILTER, ONE, DONE].concat());
    let last = "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n";
    let (out, stream) = run(last, true, &[]);
    assert_eq!(out, last);
    assert!(stream.usage().is_some());
}

#[test]
fn text_about_usage_is_not_usage() {
    let said = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\": {\"}}]}\n\n";
    let (out, stream) = run(said, true, &[]);
    assert_eq!((out.as_str(), stream.usage()), (said, None));
}

#[test]
fn reads_data_over_several_lines_and_without_a_final_blank_line() {
    let text = "data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":3,\ndata: \"completion_tokens\":1}}";
    let (out, stream) = run(text, true, &[]);
    assert_eq!(out, "");
    assert_eq!(stream.usage().map(|usage| usage.input_tokens), Some(3));
}

#[test]
fn an_event_without_end_is_passed_on_at_the_bound() {
    let mut stream = chat_stream(true);
    let big = Bytes::from(vec![b'x'; super::MAX_HELD + 1]);
    assert_eq!(stream.push(big.clone()), big);
}

#[test]
fn only_whole_events_go_on_before_the_end() {
    for strip in [false, true] {
        let mut stream = chat_stream(strip);
        let (begin, rest) = TWO.split_at(20);
        assert_eq!(stream.push(Bytes::from([ONE, begin].concat())), ONE);
        assert_eq!(stream.push(Bytes::from_static(b"data")), "");
        let mut stream = chat_stream(strip);
        stream.push(Bytes::from(begin));
        assert_eq!(stream.push(Bytes::from([rest, "da"].concat())), TWO);
        stream.finish();
        let error = stream.error_event(Code::UpstreamFailed, "broke off", None);
        assert!(error.starts_with(b"data: {\"error\":{"));
        // Of an event that is too large to be held the client has a part already.
        let mut stream = chat_stream(strip);
        stream.push(Bytes::from(vec![b'x'; super::MAX_HELD + 1]));
        let error = stream.error_event(Code::UpstreamFailed, "broke off", None);
        assert!(error.starts_with(b"\n\ndata: {\"error\":{"));
        stream.push(Bytes::from(["y\n\n", ONE].concat()));
        let error = stream.error_event(Code::UpstreamFailed, "broke off", None);
        assert!(error.starts_with(b"data: {\"error\":{"));
    }
}

#[test]
fn nothing_goes_on_after_the_end() {
    for end in [
        "data: [DONE]\n\n",
        "data:[DONE]\n\n",
        "data:  [DONE] \r\n\r\n",
        ": bye\nid: 7\ndata: [DONE]\nretry: 1\n\n",
        "event: end\r\ndata: [DONE]\r\n\r\n",
        "data:\ndata: [DONE]\n\n",
    ] {
        let text = [ONE, USAGE, end, ONE, "data: [DONE]\n\n", "x"].concat();
        for strip in [false, true] {
            let (out, stream) = run(&text, strip, &[]);
            let usage = if strip { "" } else { USAGE };
            assert_eq!(out, [ONE, usage, end].concat());
            assert!(stream.is_done());
            assert_eq!(stream.counted_output(|_| None), 2);
            assert_eq!(stream.ending(), Ending::Complete);
            // In the same call.
            let mut stream = chat_stream(strip);
            let whole = [ONE, end].concat();
            assert_eq!(stream.push(Bytes::from(whole.clone())), whole.as_bytes());
            assert_eq!(stream.push(Bytes::from(ONE)), "");
            assert_eq!(stream.finish(), "");
            // In two calls.
            let mut stream = chat_stream(strip);
            let (first, second) = end.split_at(4);
            let mut out = stream.push(Bytes::from(first)).to_vec();
            out.extend_from_slice(&stream.push(Bytes::from([second, ONE].concat())));
            assert_eq!(out, end.as_bytes());
        }
    }
}

#[test]
fn text_about_the_end_is_not_the_end() {
    for text in [
        "data: {\"choices\":[{\"delta\":{\"content\":\"data: [DONE]\"}}]}\n\n",
        "data: \"[DONE]\"\n\n",
        ": data: [DONE]\n\n",
        "event: [DONE]\n\n",
    ] {
        let (out, stream) = run(&[text, ONE].concat(), true, &[]);
        assert_eq!(out, [text, ONE].concat());
        assert!(!stream.is_done());
    }
}

#[test]
fn the_usage_chunk_that_was_asked_for_is_taken_out_in_any_spelling() {
    for chunk in [
        r#"{"choices": [ ],"usage": {"prompt_tokens":9,"completion_tokens":2,"input_tokens":9,"output_tokens":2}}"#,
        r#"{"usage":{"input_tokens":9,"output_tokens":2.0},"choices":[]}"#,
        // Taken out though it cannot be read: the client did not ask for it.
        r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":null}}"#,
    ] {
        let text = format!("data: {chunk}\n\n{DONE}");
        assert_eq!(run(&text, true, &[]).0, DONE, "{chunk}");
        assert_eq!(run(&text, false, &[]).0, text, "{chunk}");
    }
    for chunk in [
        r#"{"choices":[],"usage":null}"#,
        r#"{"choices":[],"a":{"usage":{"prompt_tokens":1,"completion_tokens":1}}}"#,
        r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
    ] {
        let text = format!("data: {chunk}\n\n");
        assert_eq!(run(&text, true, &[]).0, text, "{chunk}");
    }
}

#[test]
fn the_last_usage_counts_however_the_stream_ends() {
    let chunk = |tokens: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"usage\"}}}}],\"usage\":{{\"prompt_tokens\":9,\
             \"completion_tokens\":{tokens}}}}}\n\n"
        )
    };
    let text = [&chunk("1"), &chunk("2"), &chunk("null"), "data: {\"choi"].concat();
    let (out, stream) = run(&text, true, &[]);
    assert_eq!(out, text);
    assert_eq!(stream.usage().map(|usage| usage.output_tokens), Some(2));
    assert_eq!(stream.ending(), Ending::Unended);
}

#[test]
fn the_ending_is_judged_by_the_events() {
    let check = |parts: &[&str], expect| {
        let (_, stream) = run(&parts.concat(), true, &[]);
        assert_eq!(stream.ending(), expect, "{parts:?}");
    };
    let finish = r#"data: {"choices":[{"delta":{},"finish_reason": "length"}]}"#;
    let finish = &format!("{finish}\n\n");
    check(&[ONE, DONE], Ending::Complete);
    check(&[ONE, finish], Ending::Complete);
    check(&[ONE, finish, USAGE, FILTER], Ending::Complete);
    check(&[ONE], Ending::Unended);
    check(&[ONE, USAGE], Ending::Unended);
    check(
        &["data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"\"}]}\n\n"],
        Ending::Unended,
    );
    check(&[], Ending::Empty);
    check(&[": ping\n\n", "\n\n"], Ending::Empty);
    check(&[DONE], Ending::Empty);
    for error in [
        "data: {\"error\":{\"message\":\"m\"}}\n\n",
        "data: {\"error\" : \"m\", \"choices\":[{\"delta\":{}}]}\n\n",
        "event: error\ndata: {\"type\":\"error\",\"code\":\"c\"}\n\n",
        "event:error\r\ndata: sorry\r\n\r\n",
        "data: {\"a\":1,\ndata: \"error\":{\"code\":500}}\n\n",
    ] {
        check(&[error], Ending::Error);
        check(&[ONE, error, DONE], Ending::Error);
        check(&[ONE, error.trim_end()], Ending::Error);
    }
    for fine in [
        "data: {\"choices\":[{\"delta\":{\"content\":\"error\"}}],\"error\":null}\n\n",
        "data: {\"choices\":[{\"content_filter_result\":{\"error\":{\"code\":\"content_filter_error\"}}}]}\n\n",
        "event: no-error\ndata: {}\n\n",
    ] {
        check(&[fine, DONE], Ending::Complete);
    }
}

#[test]
fn an_error_of_the_gateway_takes_the_next_number_of_the_stream() {
    let error = |events: &[&str]| {
        let mut stream = Stream::new(&responses::GRAMMAR, usage::response, false);
        for event in events {
            stream.push(Bytes::copy_from_slice(event.as_bytes()));
        }
        stream.finish();
        let event = stream.error_event(Code::UpstreamFailed, "broke off", None);
        String::from_utf8(event).expect("text")
    };
    let created =
        "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0}\n\n";
    let delta = "data: {\"type\":\"response.output_text.delta\",\"sequence_number\":41,\"delta\":\"a\"}\n\n";
    let broken = "data: {\"type\":\"response.output_text.delta\",\"del";
    for (events, number) in [
        (&[][..], 0),
        (&[created], 1),
        (&[created, delta], 42),
        (&[created, ": still here\n\n"], 1),
        (&[created, delta, broken], 42),
    ] {
        let data = format!("data: {{\"type\":\"error\",\"sequence_number\":{number},\"error\":{{");
        assert!(error(events).contains(&data), "{}", error(events));
    }
    let chat = chat_stream(true).error_event(Code::UpstreamFailed, "broke off", None);
    assert!(chat.starts_with(b"data: {\"error\":{"));
}

#[test]
fn the_model_is_the_first_that_is_named() {
    let text = [
        "data: {\"model\":\"\",\"choices\":[]}\n\n",
        "data: {\"model\":\"gpt-5\",\"choices\":[]}\n\n",
        "data: {\"model\":\"other\"}\n\n",
    ];
    assert_eq!(run(&text.concat(), true, &[]).1.model(), Some("gpt-5"));
}

#[test]
fn a_byte_order_mark_hides_nothing() {
    let text = ["\u{feff}", ONE, "\u{feff}", DONE].concat();
    let (out, stream) = run(&text, false, &[]);
    assert_eq!(out, text);
    assert_eq!(stream.counted_output(|_| None), 2);
}

#[test]
fn an_event_in_tiny_pieces_is_searched_once() {
    let mut stream = chat_stream(true);
    let line = Bytes::from_static(b"data: 1234\n");
    let pieces = 60_000;
    for _ in 0..pieces {
        assert_eq!(stream.push(line.clone()), "");
    }
    let out = stream.push(Bytes::from_static(b"\n"));
    assert_eq!(out.len(), pieces * line.len() + 1);
}

/// Pieces of streams, in odd spacing, and broken.
const PIECES: [&str; 17] = [
    FILTER,
    ONE,
    TWO,
    USAGE,
    ": ping\n\n",
    "\n",
    "event: error\ndata: {\"error\":{}}\n\n",
    "data: {\"error\":{\"code\":1}}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\": [],\ndata: \"usage\": {\"prompt_tokens\": 3, \"completion_tokens\": 1}}\n\n",
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"audio\":{\"data\":\"UklG\"}}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"\\ud83d\"}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"broken",
    "id: 1\ndata:[DONE]\n\n",
    "data: [DONE]\n\n",
    "data: {\"model\":\"gpt-5\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":8},\"choices\":[{}]}\n\n",
];

#[test]
fn a_stream_has_begun_with_its_first_whole_event() {
    for (begin, has) in [
        ("", false),
        (": alive\n\n", false),
        (": alive\n\n: alive\n\n", false),
        ("data: {", false),
        ("data: {}\n", false),
        ("data: {}\n\n", true),
        (": alive\r\n\r\nevent: ping\r\ndata: {}\r\n\r\n", true),
        ("\u{feff}data: {}\n\n", true),
    ] {
        assert_eq!(has_event(begin.as_bytes()), has, "{begin:?}");
    }
}

proptest! {
    #[test]
    fn any_cutting_of_the_bytes_gives_the_same_result(
        cuts in prop::collection::vec(any::<usize>(), 0..12), strip: bool,
        ending in prop::sample::select(vec!["\n", "\r\n", "\r"]), comment: bool,
    ) {
        let ping = if comment { ": ping\n\n" } else { "" };
        let text = [FILTER, ONE, ping, TWO, USAGE, DONE].concat().replace('\n', ending);
        let stripped = [FILTER, ONE, ping, TWO, DONE].concat().replace('\n', ending);
        let (out, stream) = run(&text, strip, &cuts);
        prop_assert_eq!(out, if strip { stripped } else { text });
        prop_assert_eq!(stream.usage().map(|usage| usage.output_tokens), Some(2));
        prop_assert!(stream.is_done());
        prop_assert_eq!(stream.counted_output(|_| None), 3);
    }

    #[test]
    fn any_stream_reads_the_same_in_pieces(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..10),
        cuts in prop::collection::vec(any::<usize>(), 0..12), strip: bool,
        ending in prop::sample::select(vec!["\n", "\r\n", "\r"]),
    ) {
        let text = pieces.concat().replace('\n', ending);
        let (whole, cut) = (run(&text, strip, &[]), run(&text, strip, &cuts));
        let seen = |(out, stream): &(String, Stream)| (
            out.clone(),
            stream.usage(),
            stream.counted_output(|_| None),
            stream.counted_output(|text| u64::try_from(text.len()).ok()),
            stream.ending(),
            stream.is_done(),
            stream.model().map(str::to_owned),
        );
        prop_assert_eq!(seen(&cut), seen(&whole));
        if !strip {
            prop_assert!(text.starts_with(&whole.0));
            prop_assert!(whole.1.is_done() || whole.0 == text);
        }
    }

    #[test]
    fn arbitrary_bytes_pass_unchanged(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..10)) {
        let mut stream = chat_stream(true);
        let mut out = Vec::new();
        for part in &parts {
            out.extend_from_slice(&stream.push(Bytes::copy_from_slice(part)));
        }
        out.extend_from_slice(&stream.finish());
        prop_assert_eq!(out, parts.concat());
    }
}
