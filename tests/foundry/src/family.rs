//! Which APIs a model answers, by its name. Deployments may have any name, and so may models here: one
//! that says nothing answers everything.

use crate::errors::Failure;

/// Models that answer the same APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// OpenAI's chat models.
    Chat,
    /// Models of legacy completions.
    Instruct,
    Embeddings,
    Images,
    Speech,
    /// Whisper, which is billed by time.
    Whisper,
    /// Its successors, which write in the language that is spoken.
    Transcription,
    Moderation,
    /// Chat models of others, which know chat completions only.
    Partner,
    Claude,
    Any,
}

/// What is asked of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Chat,
    Completions,
    Responses,
    Messages,
    Embeddings,
    Images,
    Speech,
    Transcriptions,
    Translations,
    Moderations,
}

/// Beginnings of names. The first that fits decides.
const NAMES: &[(&str, Family)] = &[
    ("gpt-3.5-turbo-instruct", Family::Instruct),
    ("gpt-35-turbo-instruct", Family::Instruct),
    ("davinci", Family::Instruct),
    ("babbage", Family::Instruct),
    ("text-embedding", Family::Embeddings),
    ("gpt-image", Family::Images),
    ("dall-e", Family::Images),
    ("tts", Family::Speech),
    ("whisper", Family::Whisper),
    ("omni-moderation", Family::Moderation),
    ("text-moderation", Family::Moderation),
    ("gpt-", Family::Chat),
    ("o1", Family::Chat),
    ("o3", Family::Chat),
    ("o4", Family::Chat),
    ("claude", Family::Claude),
    ("deepseek", Family::Partner),
    ("grok", Family::Partner),
    ("llama", Family::Partner),
    ("mistral", Family::Partner),
    ("kimi", Family::Partner),
];

fn family(model: &str) -> Family {
    let model = model.to_ascii_lowercase();
    if model.contains("-tts") {
        return Family::Speech;
    }
    if model.contains("-transcribe") {
        return Family::Transcription;
    }
    let named = NAMES.iter().find(|(name, _)| model.starts_with(name));
    named.map_or(Family::Any, |(_, family)| *family)
}

/// Whether sound costs by its length, and not by tokens.
pub(crate) fn is_billed_by_time(model: &str) -> bool {
    family(model) == Family::Whisper
}

/// Whether a model can do that work.
pub(crate) fn can(model: &str, work: Work) -> bool {
    match family(model) {
        Family::Any => true,
        Family::Chat => matches!(work, Work::Chat | Work::Responses),
        Family::Instruct => work == Work::Completions,
        Family::Embeddings => work == Work::Embeddings,
        Family::Images => work == Work::Images,
        Family::Speech => work == Work::Speech,
        Family::Whisper => matches!(work, Work::Transcriptions | Work::Translations),
        Family::Transcription => work == Work::Transcriptions,
        Family::Moderation => work == Work::Moderations,
        Family::Partner => work == Work::Chat,
        Family::Claude => work == Work::Messages,
    }
}

/// Refuses work that the model cannot do, in the words of the API that was asked.
pub(crate) fn check(model: &str, work: Work) -> Result<(), Failure> {
    if can(model, work) {
        return Ok(());
    }
    Err(if family(model) == Family::Claude {
        Failure::unsupported_api()
    } else if work == Work::Responses {
        Failure::unsupported_model()
    } else {
        Failure::unsupported_operation(name(work), model)
    })
}

/// Refuses fields of a chat completion that models of others do not know.
pub(crate) fn check_fields(model: &str, members: &[String]) -> Result<(), Failure> {
    if family(model) != Family::Partner {
        return Ok(());
    }
    let has = |name: &str| members.iter().any(|member| member == name);
    if has("prompt_cache_key") {
        return Err(Failure::unrecognized_argument("prompt_cache_key"));
    }
    if has("stream_options") && model.to_ascii_lowercase().starts_with("mistral") {
        return Err(Failure::extra_input("stream_options"));
    }
    Ok(())
}

/// Whose model it is: the catalogue's `format`.
pub(crate) fn publisher(model: &str) -> &'static str {
    match family(model) {
        Family::Claude => "Anthropic",
        Family::Partner => "Partner",
        Family::Chat
        | Family::Instruct
        | Family::Embeddings
        | Family::Images
        | Family::Speech
        | Family::Whisper
        | Family::Transcription
        | Family::Moderation
        | Family::Any => "OpenAI",
    }
}

/// Azure's word for the work.
fn name(work: Work) -> &'static str {
    match work {
        Work::Chat => "chatCompletion",
        Work::Completions => "completion",
        Work::Responses => "responses",
        Work::Messages => "messages",
        Work::Embeddings => "embeddings",
        Work::Images => "imageGenerations",
        Work::Speech => "audioSpeech",
        Work::Transcriptions => "audioTranscription",
        Work::Translations => "audioTranslation",
        Work::Moderations => "moderations",
    }
}

#[cfg(test)]
mod tests;
