//! Embeddings.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

use crate::{
    body::{Object, unsupported},
    call::{Call, Job, Reply},
    errors::Failure,
    family::Work,
    limits::Cost,
    prompts::Prompt,
};

/// Dimensions of text-embedding-3-small and text-embedding-ada-002.
const DIMENSIONS: u64 = 1536;
/// Those of text-embedding-3-large.
const LARGE_DIMENSIONS: u64 = 3072;

/// How vectors are written.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    Numbers,
    /// Little-endian 32-bit numbers: what the official SDKs ask for.
    Base64,
}

/// `POST embeddings`
pub(crate) fn create(call: &Call<'_>) -> Result<Job, Failure> {
    let mut deployment = call.named(Work::Embeddings)?;
    let body = Object::read(call.body)?;
    if deployment.is_none() {
        let model = body.text("model")?.ok_or_else(Failure::no_model)?;
        deployment = Some(call.deployment(model, Work::Embeddings)?);
    }
    let deployment = deployment.ok_or_else(Failure::no_deployment)?;
    let inputs = Prompt::read(&body, "input")?;
    let dimensions = dimensions(&body, &deployment.model)?;
    let encoding = match body.text("encoding_format")? {
        None | Some("float") => Encoding::Numbers,
        Some("base64") => Encoding::Base64,
        Some(other) => {
            return Err(unsupported(
                "encoding_format",
                other,
                "'float' and 'base64'",
            ));
        }
    };
    let tokens = inputs.iter().map(Prompt::count).sum();
    let cost = Cost {
        input: inputs.iter().map(Prompt::estimate).sum(),
        output: 0,
    };
    let read = deployment.input(tokens);
    let model = deployment.model.clone();
    let reply = move || {
        let entries = (0..).zip(&inputs).map(|(index, input): (u64, _)| {
            let vector = written(&vector(input, dimensions), encoding);
            format!(r#"{{"object":"embedding","index":{index},"embedding":{vector}}}"#)
        });
        let data = entries.collect::<Vec<_>>().join(",");
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        let body =
            format!(r#"{{"object":"list","data":[{data}],"model":"{model}","usage":{usage}}}"#);
        Reply::produced(body, read)
    };
    Ok(Job {
        cost: Some(cost),
        input: Some(read),
        deferred: false,
        members: body.members(),
        reply: Box::new(reply),
    })
}

/// The dimensions asked for, or those of the model. Only the third generation can be asked for fewer.
fn dimensions(body: &Object, model: &str) -> Result<u64, Failure> {
    let most = if model.contains("large") {
        LARGE_DIMENSIONS
    } else {
        DIMENSIONS
    };
    let asked = body.number("dimensions", 1, most)?;
    if asked.is_some() && model.contains("ada") {
        let message = "This model does not support specifying dimensions.";
        return Err(Failure::invalid(message, Some("dimensions"), None));
    }
    Ok(asked.unwrap_or(most))
}

/// A vector of length 1 that only depends on the input.
fn vector(input: &Prompt, dimensions: u64) -> Vec<f32> {
    let seed = input.text().bytes().fold(input.count(), |seed, byte| {
        seed.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let mut state = seed;
    let mut raw = Vec::new();
    for _ in 0..dimensions {
        // A linear congruential generator (Knuth's MMIX); its upper bits are the good ones.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bits = u16::try_from(state >> 48).unwrap_or(0);
        raw.push(f32::from(bits) / 32_768.0 - 1.0);
    }
    let length = raw
        .iter()
        .map(|x| x * x)
        .sum::<f32>()
        .sqrt()
        .max(f32::EPSILON);
    raw.iter().map(|x| x / length).collect()
}

fn written(vector: &[f32], encoding: Encoding) -> String {
    match encoding {
        Encoding::Numbers => serde_json::to_string(vector).unwrap_or_default(),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            format!("\"{}\"", BASE64_STANDARD.encode(bytes))
        }
    }
}
