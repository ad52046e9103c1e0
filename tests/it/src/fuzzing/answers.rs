//! What each family of APIs sends and gets: bodies by its members, streams by its grammar, usage by its reader.

use bytes::Bytes;
use proxy_api::ids::{Mark, Marker, SEAL, Tag};
use proxy_api::{Call, Edit, Ending, Form, Stream, splice};
use proxy_core::names::Usage;
use serde::de::IgnoredAny;

use super::rows::{DEPLOYMENT, call, calls, chat, chunks};

/// What the reader made of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Watched {
    bytes: Vec<u8>,
    usage: Option<Usage>,
    input: Option<Usage>,
    model: Option<String>,
    /// By bytes, and by a vocabulary of letters.
    counted: [u64; 2],
    ending: Ending,
    done: bool,
}

fn watch(call: &Call, chunks: &[&[u8]], strip: bool) -> Watched {
    let mut stream = Stream::new(call.events, call.read_usage, strip);
    let mut bytes = Vec::new();
    for chunk in chunks {
        bytes.extend_from_slice(&stream.push(Bytes::copy_from_slice(chunk)));
    }
    bytes.extend_from_slice(&stream.finish());
    Watched {
        bytes,
        usage: stream.usage(),
        input: stream.input(),
        model: stream.model().map(str::to_owned),
        counted: [
            stream.counted_output(|_| None),
            stream.counted_output(|text| u64::try_from(text.len()).ok()),
        ],
        ending: stream.ending(),
        done: stream.is_done(),
    }
}

/// A stream reads the same however it is split; all of it arrives, except for what follows its end and
/// what is removed on demand.
///
/// The first byte chooses the split.
///
/// # Panics
/// The contract is broken.
pub fn event_stream(data: &[u8]) {
    stream_of(chat(), data);
}

/// The same of completions.
///
/// # Panics
/// The contract is broken.
pub fn completions_stream(data: &[u8]) {
    stream_of(call("/v1/completions"), data);
}

/// The same of responses.
///
/// # Panics
/// The contract is broken.
pub fn responses_stream(data: &[u8]) {
    stream_of(call("/v1/responses"), data);
}

/// The same of Anthropic's messages.
///
/// # Panics
/// The contract is broken.
pub fn messages_stream(data: &[u8]) {
    stream_of(call("/v1/messages"), data);
}

fn stream_of(call: &Call, data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else {
        return;
    };
    let cut = chunks(stream, seed);
    for strip in [false, true] {
        let whole = watch(call, &[stream], strip);
        let pieces = watch(call, &cut, strip);
        assert_eq!(pieces, whole, "strip: {strip}, cut: {cut:?}");
        if !strip {
            assert!(
                stream.starts_with(&whole.bytes),
                "bytes were changed or added"
            );
            assert!(
                whole.done || whole.bytes == stream,
                "bytes were lost before the end"
            );
        }
    }
}

/// The ids of an answer get the same tags however it is split, and without them it is what it was.
///
/// The first byte chooses the split, and whether the answer is a stream.
///
/// # Panics
/// The contract is broken.
pub fn answer_ids(data: &[u8]) {
    const TAG: Tag = *b"\x01_TAG_TAG_TAG_TA";
    const IN_FRONT: Tag = *b"\x01_SEALED_SEALED_";
    const fn tag(mark: Mark<'_>) -> Tag {
        match mark {
            Mark::Id(_) => TAG,
            Mark::Sealed => IN_FRONT,
        }
    }
    let Some((&seed, answer)) = data.split_first() else {
        return;
    };
    if answer.contains(&1) {
        return;
    }
    let marker = || match seed % 6 {
        2 => Marker::page(),
        4 | 5 => Marker::speech(seed & 1 == 1),
        _ if seed & 1 == 0 => Marker::json(),
        _ => Marker::events(),
    };
    let marked = |pieces: &[&[u8]]| {
        let mut marker = marker();
        let push =
            |piece: &&[u8]| marker.push(Bytes::copy_from_slice(piece), |mark| Some(tag(mark)));
        pieces.iter().map(push).collect::<Vec<_>>().concat()
    };
    let whole = marked(&[answer]);
    assert_eq!(marked(&chunks(answer, seed)), whole);
    let mut plain = Vec::new();
    let mut rest = &*whole;
    while let Some((&first, others)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(&TAG) {
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix(&IN_FRONT) {
            assert_eq!(behind.first(), Some(&SEAL));
            rest = behind.get(1..).unwrap_or_default();
        } else {
            plain.push(first);
            rest = others;
        }
    }
    assert_eq!(plain, answer);
}

/// No part of a usage is larger than the whole, whatever an answer or an event says, and whatever was known
/// before.
///
/// # Panics
/// The contract is broken.
pub fn usage(data: &[u8]) {
    let known = Usage {
        input_tokens: 7,
        cached_input_tokens: 7,
        ..Usage::default()
    };
    for call in calls() {
        for earlier in [None, Some(known)] {
            let Some(usage) = (call.read_usage)(data, earlier) else {
                continue;
            };
            let of_input = [
                usage.cached_input_tokens,
                usage.cache_write_tokens,
                usage.audio_input_tokens,
                usage.image_input_tokens,
            ];
            assert!(of_input.iter().all(|part| *part <= usage.input_tokens));
            let of_output = [
                usage.reasoning_tokens,
                usage.audio_output_tokens,
                usage.image_output_tokens,
            ];
            assert!(of_output.iter().all(|part| *part <= usage.output_tokens));
        }
        // Whatever it is, it is counted.
        call.counted_output(data, |_| None);
    }
}

/// A body that the scanner of a row accepts is JSON, and so it is with the deployment's name and a bound put in,
/// where the scanner finds them.
///
/// The first byte chooses the row.
///
/// # Panics
/// The contract is broken.
pub fn family_body(data: &[u8]) {
    let Some((&place, data)) = data.split_first() else {
        return;
    };
    let calls = calls();
    let call = calls.get(usize::from(place) % calls.len().max(1));
    let Some(call) = call.filter(|call| call.form == Form::Json) else {
        return;
    };
    let bytes = Bytes::copy_from_slice(data);
    let Ok(body) = call.scan(None, &bytes, false) else {
        return;
    };
    serde_json::from_slice::<IgnoredAny>(data).expect("an accepted body is JSON");
    assert!(body.prompts > 0 && body.texts > 0 && body.choices > 0);
    let bound = call.output_bounds.first();
    // Some rows have no model to put a name in its place.
    let model = call.has_model().then_some(DEPLOYMENT);
    let edit = Edit {
        model,
        default_bound: bound.map(|name| (*name, 9)),
        ..Edit::default()
    };
    let edited = splice(&bytes, &body, edit).joined();
    let again = call.scan(None, &edited, false);
    let again = again.expect("an edited body is accepted");
    assert_eq!(again.model.as_deref(), model);
    assert_eq!(again.max_output_tokens().is_some(), bound.is_some());
}
