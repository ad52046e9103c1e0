//! Image generations: the GPT image models, and the habits of DALL-E.

use serde_json::{Value, json};

use crate::{
    answer,
    body::{Object, missing, unsupported},
    call::{Call, Job, Reply},
    errors::{self, Failure},
    family::Work,
    form::Form,
    limits::Cost,
    measure::Measure,
    record::Usage,
    script::{Script, Step},
    sse,
};

/// The smallest PNG: one transparent pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const MAX_IMAGES: u64 = 10;
const MAX_PARTIAL: u64 = 3;
/// Output tokens of each partial image (image generation guide, streaming).
const TOKENS_PER_PARTIAL: u64 = 100;

/// Input tokens of an image that is edited, whatever its size.
const TOKENS_PER_EDITED: u64 = 100;
const MAX_EDITED: u64 = 16;
const EDIT_FIELDS: [&str; 14] = [
    "image",
    "mask",
    "prompt",
    "model",
    "n",
    "size",
    "quality",
    "background",
    "output_format",
    "output_compression",
    "input_fidelity",
    "partial_images",
    "stream",
    "user",
];

/// What is asked for.
struct Picture {
    created: u64,
    n: u64,
    size: String,
    quality: &'static str,
    format: String,
    background: String,
    partial: u64,
    usage: Usage,
    /// The images that are edited.
    edited: u64,
}

/// `POST images/generations`
pub(crate) fn create(call: &Call<'_>) -> Result<Job, Failure> {
    let mut deployment = call.named(Work::Images)?;
    let body = Object::read(call.body)?;
    if deployment.is_none() {
        let model = body.text("model")?.ok_or_else(Failure::no_model)?;
        deployment = Some(call.deployment(model, Work::Images)?);
    }
    let deployment = deployment.ok_or_else(Failure::no_deployment)?;
    let prompt = body.text("prompt")?.ok_or_else(|| missing("prompt"))?;
    let n = body.number("n", 1, MAX_IMAGES)?.unwrap_or(1);
    // A limit on images is one on requests.
    let cost = Cost::default();
    let members = body.members();
    if deployment.model.starts_with("dall-e") {
        let answer = dall_e(call, &body, prompt, n)?;
        let usage = Usage {
            images: n,
            ..Usage::default()
        };
        return Ok(Job {
            cost: Some(cost),
            input: Some(Usage::default()),
            deferred: false,
            members,
            reply: Box::new(move || Reply::produced(answer.to_string(), usage)),
        });
    }
    let read = deployment.input(Measure::text(prompt).tokens());
    let picture = picture(call, &body, n, read)?;
    job(picture, &body, read, members)
}

/// `POST images/edits`: an image is read as 100 tokens.
pub(crate) fn edit(call: &Call<'_>) -> Result<Job, Failure> {
    let mut deployment = call.named(Work::Images)?;
    let form = Form::read(call.headers, call.body)?;
    let body = form.object();
    if deployment.is_none() {
        let model = body.text("model")?.ok_or_else(Failure::no_model)?;
        deployment = Some(call.deployment(model, Work::Images)?);
    }
    let deployment = deployment.ok_or_else(Failure::no_deployment)?;
    form.check(&EDIT_FIELDS)?;
    let images = form
        .files
        .iter()
        .filter(|file| file.field.starts_with("image"));
    let edited = u64::try_from(images.count()).unwrap_or(u64::MAX);
    if edited == 0 {
        return Err(missing("image"));
    }
    if edited > MAX_EDITED {
        let message = format!("Invalid 'image': at most {MAX_EDITED} images.");
        return Err(Failure::invalid(&message, Some("image"), None));
    }
    let prompt = body.text("prompt")?.ok_or_else(|| missing("prompt"))?;
    let n = body.number("n", 1, MAX_IMAGES)?.unwrap_or(1);
    let tokens = Measure::text(prompt).tokens() + edited * TOKENS_PER_EDITED;
    let read = deployment.input(tokens);
    let picture = Picture {
        edited,
        ..picture(call, &body, n, read)?
    };
    job(picture, &body, read, form.members())
}

fn job(picture: Picture, body: &Object, read: Usage, members: Vec<String>) -> Result<Job, Failure> {
    let stream = body.flag("stream")?.unwrap_or(false);
    let reply = move || {
        if stream {
            Reply::Events(Box::new(picture.script()))
        } else {
            Reply::produced(picture.object().to_string(), picture.usage)
        }
    };
    Ok(Job {
        // A limit on images is one on requests.
        cost: Some(Cost::default()),
        input: Some(read),
        deferred: false,
        members,
        reply: Box::new(reply),
    })
}

/// An answer of DALL-E: an address, or the image; annotations per image; no usage.
fn dall_e(call: &Call<'_>, body: &Object, prompt: &str, n: u64) -> Result<Value, Failure> {
    let filters: Value = serde_json::from_str(answer::SAFE).unwrap_or_default();
    let place = match body.text("response_format")? {
        None | Some("url") => {
            let id = call.foundry.fresh_id();
            (
                "url",
                format!("https://dalleprodsec.blob.core.windows.net/private/images/{id:016x}.png"),
            )
        }
        Some("b64_json") => ("b64_json", PNG.to_owned()),
        Some(other) => {
            return Err(unsupported(
                "response_format",
                other,
                "'url' and 'b64_json'",
            ));
        }
    };
    let image = json!({
        place.0: place.1, "revised_prompt": prompt,
        "content_filter_results": filters, "prompt_filter_results": filters,
    });
    let data: Vec<&Value> = (0..n).map(|_| &image).collect();
    Ok(json!({"created": call.created(), "data": data}))
}

fn picture(call: &Call<'_>, body: &Object, n: u64, read: Usage) -> Result<Picture, Failure> {
    if body.get("response_format").is_some() {
        let message = "Unknown parameter: 'response_format'.";
        let (param, code) = (Some("response_format"), Some("unknown_parameter"));
        return Err(Failure::invalid(message, param, code));
    }
    let size = match body.text("size")? {
        None | Some("auto") => "1024x1024",
        Some(size) => size,
    };
    let quality = match body.text("quality")? {
        Some("low") => "low",
        None | Some("auto" | "medium") => "medium",
        Some("high") => "high",
        Some(other) => {
            return Err(unsupported(
                "quality",
                other,
                "'low', 'medium', 'high', and 'auto'",
            ));
        }
    };
    let partial = body.number("partial_images", 0, MAX_PARTIAL)?.unwrap_or(0);
    let stream = body.flag("stream")?.unwrap_or(false);
    let each = tokens(size, quality)
        + if stream {
            partial * TOKENS_PER_PARTIAL
        } else {
            0
        };
    let mut usage = read;
    usage += Usage {
        completion_tokens: each * n,
        images: n,
        ..Usage::default()
    };
    Ok(Picture {
        created: call.created(),
        n,
        size: size.to_owned(),
        quality,
        format: body.text("output_format")?.unwrap_or("png").to_owned(),
        background: body
            .text("background")?
            .filter(|b| *b != "auto")
            .unwrap_or("opaque")
            .to_owned(),
        partial,
        usage,
        edited: 0,
    })
}

/// Output tokens of one image (image generation guide, cost).
fn tokens(size: &str, quality: &str) -> u64 {
    let of = |low, medium, high| match quality {
        "low" => low,
        "high" => high,
        _ => medium,
    };
    match size {
        "1024x1536" => of(408, 1584, 6240),
        "1536x1024" => of(400, 1568, 6208),
        _ => of(272, 1056, 4160),
    }
}

impl Picture {
    fn object(&self) -> Value {
        let data: Vec<Value> = (0..self.n).map(|_| json!({"b64_json": PNG})).collect();
        json!({
            "created": self.created, "data": data, "size": self.size, "quality": self.quality,
            "output_format": self.format, "background": self.background,
            "usage": usage(self.usage, self.edited),
        })
    }

    /// Partial images, then each whole one; the last has the usage of all.
    fn script(&self) -> Script {
        let mut steps = Vec::new();
        for image in 0..self.n {
            for index in 0..self.partial {
                let more = json!({"partial_image_index": index});
                steps.push(self.event("partial_image", &more).made(Usage {
                    completion_tokens: TOKENS_PER_PARTIAL,
                    ..Usage::default()
                }));
            }
            let is_last = image + 1 == self.n;
            let usage = if is_last {
                usage(self.usage, self.edited)
            } else {
                usage(Usage::default(), 0)
            };
            let more = json!({"usage": usage});
            steps.push(self.event("completed", &more).made(Usage {
                completion_tokens: tokens(&self.size, self.quality),
                images: 1,
                ..Usage::default()
            }));
        }
        Script::new(steps, |_| {
            let mut data = errors::server_error();
            if let Some(fields) = data.as_object_mut() {
                fields.insert("type".to_owned(), json!("error"));
            }
            sse::named("error", &data)
        })
    }

    fn event(&self, name: &str, more: &Value) -> Step {
        let name = if self.edited > 0 {
            format!("image_edit.{name}")
        } else {
            format!("image_generation.{name}")
        };
        let mut data = json!({
            "type": name, "b64_json": PNG, "created_at": self.created, "size": self.size,
            "quality": self.quality, "background": self.background, "output_format": self.format,
        });
        if let (Some(fields), Some(more)) = (data.as_object_mut(), more.as_object()) {
            fields.extend(more.clone());
        }
        Step::event(sse::named(&name, &data))
    }
}

/// The usage object of image generations.
fn usage(usage: Usage, edited: u64) -> Value {
    let images = edited * TOKENS_PER_EDITED;
    let text = usage.prompt_tokens.saturating_sub(images);
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"image_tokens": images, "text_tokens": text},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"image_tokens": usage.completion_tokens, "text_tokens": 0},
        "total_tokens": usage.total(),
    })
}
