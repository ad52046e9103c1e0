use bytes::Bytes;

use super::{GRAMMAR, usage};
use crate::stream::{Ending, Stream};

const DELTA: &str = "data: {\"type\":\"speech.audio.delta\",\"audio\":\"AAAA\"}\n\n";
const DONE: &str = "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":2,\
     \"output_tokens\":20,\"total_tokens\":22}}\n\n";

fn read(events: &[&str]) -> Stream {
    let mut stream = Stream::new(&GRAMMAR, usage, false);
    let text = events.concat();
    assert_eq!(stream.push(Bytes::from(text.clone())), text);
    stream
}

#[test]
fn the_last_event_has_the_usage_and_all_its_output_is_sound() {
    let stream = read(&[DELTA, DELTA, DONE]);
    let told = stream.usage().expect("a usage");
    assert_eq!((told.input_tokens, told.output_tokens), (2, 20));
    assert_eq!(told.audio_output_tokens, 20);
    assert_eq!(stream.ending(), Ending::Complete);
}

#[test]
fn a_stream_without_its_last_event_is_not_complete() {
    let stream = read(&[DELTA]);
    assert_eq!((stream.usage(), stream.ending()), (None, Ending::Unended));
    assert!(!stream.has_words());
    let stream = read(&[DELTA, "data: {\"error\":{\"code\":\"x\"}}\n\n"]);
    assert_eq!(stream.ending(), Ending::Error);
}
