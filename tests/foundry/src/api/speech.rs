//! Speech: sound in the body, or as events. A word of the input becomes ten tokens of sound.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::json;

use crate::{
    body::{Object, missing, unsupported},
    call::{Call, EVENTS, Job, Reply},
    errors::{self, Failure},
    family::Work,
    limits::Cost,
    measure::Measure,
    record::Usage,
    script::{Script, Step},
};

const TOKENS_PER_WORD: u64 = 10;
/// The API's bound of the input.
const MAX_CHARACTERS: u64 = 4096;
/// Size of what is sent for one word.
const FRAME: usize = 480;

/// `POST audio/speech`
pub(crate) fn create(call: &Call<'_>) -> Result<Job, Failure> {
    let mut deployment = call.named(Work::Speech)?;
    let body = Object::read(call.body)?;
    if deployment.is_none() {
        let model = body.text("model")?.ok_or_else(Failure::no_model)?;
        deployment = Some(call.deployment(model, Work::Speech)?);
    }
    let deployment = deployment.ok_or_else(Failure::no_deployment)?;
    let text = body.text("input")?.ok_or_else(|| missing("input"))?;
    body.get("voice").ok_or_else(|| missing("voice"))?;
    let size = Measure::text(text);
    if text.is_empty() {
        let message = "Invalid 'input': empty string. Expected at least 1 character.";
        let code = Some("empty_string");
        return Err(Failure::invalid(message, Some("input"), code));
    }
    if size.characters() > MAX_CHARACTERS {
        let message =
            format!("Invalid 'input': string too long, at most {MAX_CHARACTERS} characters.");
        let code = Some("string_above_max_length");
        return Err(Failure::invalid(&message, Some("input"), code));
    }
    let content_type = content_type(body.text("response_format")?)?;
    let is_sse = is_sse(&body, &deployment.model)?;
    let read = Usage {
        characters: size.characters(),
        ..deployment.input(size.tokens())
    };
    let words = size.tokens();
    let reply = move || {
        let script = if is_sse {
            events(words, read)
        } else {
            sound(content_type, words)
        };
        let content_type = if is_sse { EVENTS } else { content_type };
        Reply::Stream {
            content_type,
            events: Box::new(script),
        }
    };
    Ok(Job {
        // A limit on speech is one on requests.
        cost: Some(Cost::default()),
        input: Some(read),
        deferred: false,
        members: body.members(),
        reply: Box::new(reply),
    })
}

fn content_type(format: Option<&str>) -> Result<&'static str, Failure> {
    Ok(match format {
        None | Some("mp3") => "audio/mpeg",
        Some("opus") => "audio/ogg",
        Some("aac") => "audio/aac",
        Some("flac") => "audio/flac",
        Some("wav") => "audio/wav",
        Some("pcm") => "audio/pcm",
        Some(other) => {
            let all = "'mp3', 'opus', 'aac', 'flac', 'wav', and 'pcm'";
            return Err(unsupported("response_format", other, all));
        }
    })
}

/// Only the younger models can write events.
fn is_sse(body: &Object, model: &str) -> Result<bool, Failure> {
    match body.text("stream_format")? {
        None | Some("audio") => Ok(false),
        Some("sse") if !model.starts_with("tts-") => Ok(true),
        Some(other) => Err(unsupported("stream_format", other, "'audio'")),
    }
}

/// What one word costs.
fn word() -> Usage {
    Usage {
        completion_tokens: TOKENS_PER_WORD,
        audio_tokens: TOKENS_PER_WORD,
        ..Usage::default()
    }
}

/// A silent frame per word, the first with the format's own beginning.
fn sound(content_type: &str, words: u64) -> Script {
    let beginning: &[u8] = match content_type {
        "audio/mpeg" => &[0xff, 0xfb, 0x90, 0x00],
        "audio/ogg" => b"OggS",
        "audio/flac" => b"fLaC",
        "audio/wav" => b"RIFF\xff\xff\xff\xffWAVE",
        _ => b"",
    };
    let mut frame = beginning.to_vec();
    let mut steps = Vec::new();
    for _ in 0..words {
        frame.resize(FRAME, 0);
        let bytes = Bytes::from(std::mem::take(&mut frame));
        steps.push(Step::bytes(bytes).made(word()));
    }
    // There is no way to report an error in the middle of sound.
    Script::new(steps, |_| String::new())
}

/// The same as events, with the usage at the end.
fn events(words: u64, read: Usage) -> Script {
    let audio = BASE64_STANDARD.encode([0; FRAME]);
    let delta = json!({"type": "speech.audio.delta", "audio": audio});
    let delta = format!("data: {delta}\n\n");
    let mut steps: Vec<Step> = (0..words)
        .map(|_| Step::bytes(Bytes::from(delta.clone())).made(word()))
        .collect();
    let output = words * TOKENS_PER_WORD;
    let done = json!({
        "type": "speech.audio.done",
        "usage": {
            "input_tokens": read.prompt_tokens, "output_tokens": output,
            "total_tokens": read.prompt_tokens + output,
        },
    });
    steps.push(Step::event(format!("data: {done}\n\n")));
    Script::new(steps, |_| format!("data: {}\n\n", errors::server_error()))
}
