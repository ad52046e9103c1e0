use proxy_core::names::Usage;

use super::{GRAMMAR, usage};
use crate::stream::{Ending, Stream};
use crate::text::Text;

fn counted(answer: &str) -> u64 {
    let mut text = Text::default();
    (GRAMMAR.answer.expect("it writes text"))(answer.as_bytes(), &mut text);
    text.tokens(|_| None)
}

fn told(answer: &str) -> Option<[u64; 4]> {
    let Usage {
        input_tokens,
        audio_input_tokens,
        output_tokens,
        sound_ms,
        ..
    } = usage(answer.as_bytes(), None)?;
    Some([input_tokens, audio_input_tokens, output_tokens, sound_ms])
}

#[test]
fn tokens_and_seconds_are_read() {
    let tokens = r#"{"text":"hi","usage":{"type":"tokens","total_tokens":26,"input_tokens":14,
        "input_token_details":{"text_tokens":2,"audio_tokens":12},"output_tokens":12}}"#;
    assert_eq!(told(tokens), Some([14, 12, 12, 0]));
    let seconds = r#"{"text":"hi","usage":{"type":"duration","seconds":4.2}}"#;
    assert_eq!(told(seconds), Some([42, 0, 0, 4_200]));
    let verbose = r#"{"task":"transcribe","duration":8.470000267028809,"text":"hi"}"#;
    assert_eq!(told(verbose), Some([85, 0, 0, 8_471]));
    assert_eq!(
        told(r#"{"duration":"8.5","text":"hi"}"#),
        Some([85, 0, 0, 8_500])
    );
    for unknown in [
        r#"{"text":"hi"}"#,
        r#"{"text":"hi","duration":null}"#,
        r#"{"text":"hi","duration":-1}"#,
        "1\n00:00:00,000 --> 00:00:01,000\nhi\n",
    ] {
        assert_eq!(told(unknown), None, "{unknown}");
    }
}

#[test]
fn an_answer_without_usage_is_counted_by_its_text_in_every_format() {
    assert_eq!(counted(r#"{"text":"twelve bytes","duration":3}"#), 3);
    assert_eq!(counted("WEBVTT\n\n00:00.000 --> 00:01.000\nhi\n"), 9);
    assert_eq!(counted("just words\n"), 3);
}

#[test]
fn a_stream_ends_with_its_usage() {
    let delta = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"one two \"}\n\n";
    let done = "data: {\"type\":\"transcript.text.done\",\"text\":\"one two\",\"usage\":{\"type\":\"tokens\",\
                \"input_tokens\":9,\"output_tokens\":3,\"total_tokens\":12}}\n\n";
    let mut whole = Stream::new(&GRAMMAR, usage, false);
    let text = [delta, delta, done].concat();
    let out = whole.push(bytes::Bytes::from(text.clone()));
    assert_eq!(out, text);
    assert_eq!(whole.ending(), Ending::Complete);
    let usage_told = whole
        .usage()
        .map(|told| (told.input_tokens, told.output_tokens));
    assert_eq!(usage_told, Some((9, 3)));
    let mut cut = Stream::new(&GRAMMAR, usage, false);
    drop(cut.push(bytes::Bytes::from([delta, delta].concat())));
    assert_eq!((cut.ending(), cut.usage()), (Ending::Unended, None));
    assert_eq!(cut.counted_output(|_| None), 4);
}
