//! Transcriptions and translations: a second of sound for every 4,000 bytes of the file, whatever is in them.
//! Whisper is billed by time, and writes subtitles; its successors are billed by tokens, and write events.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    body::{Object, unsupported},
    call::{Call, JSON, Job, Reply, Whole},
    deployment::Deployment,
    errors::{self, Failure},
    family::{self, Work},
    form::{File, Form},
    limits::Cost,
    measure::Measure,
    record::Usage,
    script::{Script, Step},
};

/// MPEG layer III at 32 kbit/s.
const BYTES_PER_SECOND: u64 = 4_000;
const TOKENS_PER_SECOND: u64 = 10;
/// Words that are heard in a second.
const WORDS_PER_SECOND: u64 = 3;
const MAX_FILE: usize = 25 << 20;

const FIELDS: [&str; 10] = [
    "file",
    "model",
    "language",
    "prompt",
    "response_format",
    "temperature",
    "timestamp_granularities",
    "include",
    "stream",
    "chunking_strategy",
];
/// As the API lists them.
const FORMATS: [&str; 10] = [
    "flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm",
];

/// What is heard.
struct Heard {
    seconds: u64,
    text: String,
    words: Vec<String>,
    usage: Usage,
    by_time: bool,
}

/// `POST audio/transcriptions`
pub(crate) fn transcribe(call: &Call<'_>) -> Result<Job, Failure> {
    create(call, Work::Transcriptions, "transcribe")
}

/// `POST audio/translations`
pub(crate) fn translate(call: &Call<'_>) -> Result<Job, Failure> {
    create(call, Work::Translations, "translate")
}

fn create(call: &Call<'_>, work: Work, task: &'static str) -> Result<Job, Failure> {
    let mut deployment = call.named(work)?;
    let form = Form::read(call.headers, call.body)?;
    let body = form.object();
    if deployment.is_none() {
        let model = body.text("model")?.ok_or_else(Failure::no_model)?;
        deployment = Some(call.deployment(model, work)?);
    }
    let deployment = deployment.ok_or_else(Failure::no_deployment)?;
    form.check(&FIELDS)?;
    let file = form.file("file")?;
    check_file(file)?;
    let format = format(&body, &deployment.model)?;
    let heard = hear(call, &deployment, &body, file)?;
    let streams = body.flag("stream")?.unwrap_or(false) && !heard.by_time;
    let read = Usage {
        completion_tokens: 0,
        ..heard.usage
    };
    let reply = move || {
        if streams {
            return Reply::Events(Box::new(heard.script()));
        }
        let (content_type, text) = heard.written(format, task);
        Reply::Whole(Whole {
            status: StatusCode::OK,
            content_type,
            body: text.into(),
            usage: heard.usage,
        })
    };
    Ok(Job {
        // A limit on transcriptions is one on requests.
        cost: Some(Cost::default()),
        input: Some(read),
        deferred: false,
        members: form.members(),
        reply: Box::new(reply),
    })
}

fn check_file(file: &File) -> Result<(), Failure> {
    let size = file.data.len();
    if size > MAX_FILE {
        let message =
            format!("413: Maximum content size limit ({MAX_FILE}) exceeded ({size} bytes read)");
        return Err(Failure::model_api(
            StatusCode::PAYLOAD_TOO_LARGE,
            &message,
            None,
            None,
        ));
    }
    let kind = file.name.rsplit_once('.').map(|(_, kind)| kind);
    if !kind.is_some_and(|kind| FORMATS.contains(&kind)) {
        let message = format!("Invalid file format. Supported formats: {FORMATS:?}");
        return Err(Failure::invalid(&message, Some("file"), None));
    }
    if size == 0 {
        let message = "Audio file is too short. Minimum audio length is 0.1 seconds.";
        return Err(Failure::invalid(
            message,
            Some("file"),
            Some("audio_too_short"),
        ));
    }
    Ok(())
}

fn format(body: &Object, model: &str) -> Result<&'static str, Failure> {
    let by_time = family::is_billed_by_time(model);
    match body.text("response_format")? {
        None | Some("json") => Ok("json"),
        Some("text") => Ok("text"),
        Some("srt") if by_time => Ok("srt"),
        Some("vtt") if by_time => Ok("vtt"),
        Some("verbose_json") if by_time => Ok("verbose_json"),
        Some(other) if by_time => {
            let all = "'json', 'text', 'srt', 'verbose_json', and 'vtt'";
            Err(unsupported("response_format", other, all))
        }
        Some(other) => {
            let message = format!(
                "response_format '{other}' is not compatible with model '{model}'. Use 'json' or \
                 'text' instead."
            );
            let (param, code) = (Some("response_format"), Some("unsupported_value"));
            Err(Failure::invalid(&message, param, code))
        }
    }
}

fn hear(
    call: &Call<'_>,
    deployment: &Arc<Deployment>,
    body: &Object,
    file: &File,
) -> Result<Heard, Failure> {
    let size = u64::try_from(file.data.len()).unwrap_or(u64::MAX);
    let seconds = size.div_ceil(BYTES_PER_SECOND);
    let answer = &call.foundry.answer;
    let words = (seconds * WORDS_PER_SECOND).min(answer.tokens());
    let text = answer.text(words).to_owned();
    let words: Vec<String> = (0..words).map(|i| answer.token(i).to_owned()).collect();
    let by_time = family::is_billed_by_time(&deployment.model);
    let usage = if by_time {
        Usage {
            seconds,
            ..Usage::default()
        }
    } else {
        let prompt = Measure::text(body.text("prompt")?.unwrap_or_default()).tokens();
        Usage {
            completion_tokens: u64::try_from(words.len()).unwrap_or(u64::MAX),
            ..deployment.input(seconds * TOKENS_PER_SECOND + prompt)
        }
    };
    Ok(Heard {
        seconds,
        text,
        words,
        usage,
        by_time,
    })
}

impl Heard {
    fn written(&self, format: &str, task: &str) -> (&'static str, String) {
        const PLAIN: &str = "text/plain; charset=utf-8";
        let Self { seconds, text, .. } = self;
        let end = format!(
            "{:02}:{:02}:{:02}",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60
        );
        match format {
            "text" => (PLAIN, format!("{text}\n")),
            "srt" => (
                PLAIN,
                format!("1\n00:00:00,000 --> {end},000\n{text}\n\n\n"),
            ),
            "vtt" => (
                PLAIN,
                format!("WEBVTT\n\n00:00:00.000 --> {end}.000\n{text}\n\n"),
            ),
            "verbose_json" => {
                let json = json!({
                    "task": task, "language": "english", "duration": self.length(), "text": text,
                    "segments": [{
                        "id": 0, "seek": 0, "start": 0.0, "end": self.length(), "text": text, "tokens": [50_364],
                        "temperature": 0.0, "avg_logprob": -0.2, "compression_ratio": 1.1, "no_speech_prob": 0.01,
                    }],
                    "usage": self.told(),
                });
                (JSON, json.to_string())
            }
            _ => (
                JSON,
                json!({"text": text, "usage": self.told()}).to_string(),
            ),
        }
    }

    /// The length as a decimal number.
    fn length(&self) -> f64 {
        u32::try_from(self.seconds).map_or(f64::MAX, f64::from)
    }

    fn told(&self) -> Value {
        if self.by_time {
            return json!({"type": "duration", "seconds": self.seconds});
        }
        let Usage {
            prompt_tokens: input,
            completion_tokens: output,
            ..
        } = self.usage;
        let audio = self.seconds * TOKENS_PER_SECOND;
        json!({
            "type": "tokens", "total_tokens": input + output, "input_tokens": input,
            "input_token_details": {"text_tokens": input - audio, "audio_tokens": audio},
            "output_tokens": output,
        })
    }

    fn script(&self) -> Script {
        let event = |data: &Value| format!("data: {data}\n\n");
        let mut steps: Vec<Step> = self
            .words
            .iter()
            .map(|word| {
                let data = json!({"type": "transcript.text.delta", "delta": word});
                Step::token(event(&data), false)
            })
            .collect();
        let done = json!({
            "type": "transcript.text.done", "text": self.text, "usage": self.told(),
        });
        steps.push(Step::event(event(&done)));
        Script::new(steps, |_| format!("data: {}\n\n", errors::server_error()))
    }
}
