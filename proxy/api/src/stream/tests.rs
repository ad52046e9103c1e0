use bytes::Bytes;
use proptest::prelude::*;

use super::Stream;
use crate::{chat, usage};

const FILTER: &str = "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n";
const ONE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}],\"usage\":null}\n\n";
const TWO: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" \\\"you\\\"\"}}],\"usage\":null}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\
     \"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn chat_stream(strip: bool) -> Stream {
    Stream::new(&chat::GRAMMAR, usage::openai, strip)
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
    assert_eq!(stream.counted_output(), 2);
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
        prop_assert_eq!(stream.counted_output(), 2);
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
