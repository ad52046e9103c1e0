//! Legacy completions.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    answer::{self, Answer},
    body::Object,
    call::{Call, Job, Reply},
    deployment::Size,
    errors::{self, Failure},
    family::Work,
    prompts::Prompt,
    record::Usage,
    script::{Script, Step},
    sse::Next,
};

/// The API's own cap, if the caller names none.
const DEFAULT_CAP: u64 = 16;
/// OpenAI's bound of `n` and `best_of`.
const MAX_CHOICES: u64 = 20;

/// A completion as it will be.
struct Completion {
    id: String,
    created: u64,
    model: String,
    answer: Arc<Answer>,
    size: Size,
    usage: Usage,
    /// What stands before the answer in each choice.
    before: Vec<String>,
    prompts: usize,
    include_usage: bool,
}

/// `POST completions`
pub(crate) fn create(call: &Call<'_>) -> Result<Job, Failure> {
    let mut deployment = call.named(Work::Completions)?;
    let body = Object::read(call.body)?;
    if deployment.is_none() {
        let model = body.text("model")?.ok_or_else(Failure::no_model)?;
        deployment = Some(call.deployment(model, Work::Completions)?);
    }
    let deployment = deployment.ok_or_else(Failure::no_deployment)?;
    let prompts = Prompt::read(&body, "prompt")?;
    let n = body.number("n", 1, MAX_CHOICES)?.unwrap_or(1);
    let stream = body.flag("stream")?.unwrap_or(false);
    let best_of = best_of(&body, n, stream)?;
    let echo = body.flag("echo")?.unwrap_or(false);
    let cap = body.number("max_tokens", 1, u64::MAX)?;
    let cap = Some(cap.unwrap_or(DEFAULT_CAP));
    let foundry = call.foundry;
    let whole = foundry.answer.tokens();
    let count = u64::try_from(prompts.len()).unwrap_or(u64::MAX);
    let made = count.saturating_mul(best_of);
    let estimate = prompts.iter().map(Prompt::estimate).sum();
    let cost = deployment.cost(estimate, whole, cap, made);
    let read = deployment.input(prompts.iter().map(Prompt::count).sum());
    let size = call.filtered(read, deployment.size(whole, cap))?;
    let mut usage = read;
    usage += deployment.output(size, made);
    let of_prompt = |prompt: &Prompt| {
        if echo {
            prompt.text().to_owned()
        } else {
            String::new()
        }
    };
    let completion = Completion {
        id: format!("cmpl-{:016x}", foundry.fresh_id()),
        created: call.created(),
        model: deployment.model.clone(),
        answer: Arc::clone(&foundry.answer),
        size,
        usage,
        before: prompts
            .iter()
            .flat_map(|prompt| (0..n).map(move |_| of_prompt(prompt)))
            .collect(),
        prompts: prompts.len(),
        include_usage: include_usage(call, &body, stream)?,
    };
    let reply = move || {
        if stream {
            Reply::Events(Box::new(completion.script()))
        } else {
            Reply::produced(completion.object().to_string(), usage)
        }
    };
    Ok(Job {
        cost: Some(cost),
        input: Some(read),
        deferred: false,
        members: body.members(),
        reply: Box::new(reply),
    })
}

/// How many answers are made for each prompt; the best `n` are shown, and all are paid.
fn best_of(body: &Object, n: u64, stream: bool) -> Result<u64, Failure> {
    let Some(best_of) = body.number("best_of", 1, MAX_CHOICES)? else {
        return Ok(n);
    };
    let refusal = |message: &str| Err(Failure::invalid(message, Some("best_of"), None));
    if best_of < n {
        return refusal("best_of must be greater than or equal to n");
    }
    if stream && best_of > n {
        return refusal("Results cannot be streamed when best_of is greater than n");
    }
    Ok(best_of)
}

fn include_usage(call: &Call<'_>, body: &Object, stream: bool) -> Result<bool, Failure> {
    let Some(options) = body.get("stream_options") else {
        return Ok(false);
    };
    if !call.surface().has_stream_options() {
        let message = "Unrecognized request argument supplied: stream_options";
        return Err(Failure::invalid(message, None, None));
    }
    if !stream {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Failure::invalid(message, Some("stream_options"), None));
    }
    let include = options.get("include_usage").and_then(Value::as_bool);
    Ok(include.unwrap_or(false))
}

impl Completion {
    fn object(&self) -> Value {
        let choices: Vec<Value> = (0..)
            .zip(&self.before)
            .map(|(index, before): (u64, _)| {
                let text = format!("{before}{}", self.answer.text(self.size.visible));
                choice(index, &text, Some(self.finish()), &self.filter())
            })
            .collect();
        let mut object = self.around(choices);
        if let Some(fields) = object.as_object_mut() {
            fields.insert("prompt_filter_results".to_owned(), self.filters());
            fields.insert("usage".to_owned(), self.usage());
        }
        object
    }

    fn around(&self, choices: Vec<Value>) -> Value {
        let mut object = json!({
            "id": self.id, "object": "text_completion", "created": self.created,
            "model": self.model,
        });
        if let Some(fields) = object.as_object_mut() {
            fields.insert("choices".to_owned(), Value::Array(choices));
        }
        object
    }

    fn finish(&self) -> &'static str {
        self.size.finish.reason()
    }

    /// The filter's annotation of the answer.
    fn filter(&self) -> Value {
        serde_json::from_str(answer::filter(self.size.finish)).unwrap_or_default()
    }

    fn usage(&self) -> Value {
        let mut text = String::new();
        answer::put_usage(&mut text, self.usage);
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// One annotation per prompt.
    fn filters(&self) -> Value {
        let results = safe();
        let entry = |index| json!({"prompt_index": index, "content_filter_results": results});
        (0..self.prompts).map(entry).collect()
    }

    /// Azure's chunks: the prompt's filter, the tokens of all choices in turn, their ends, the usage if
    /// asked for, `[DONE]`.
    fn script(&self) -> Script {
        let prompt = json!({
            "id": "", "object": "", "created": 0, "model": "", "choices": [],
            "prompt_filter_results": self.filters(),
        });
        let mut steps = vec![Step::event(data(&prompt))];
        let safe = safe();
        for token in 0..self.size.visible {
            for (index, before) in (0..).zip(&self.before) {
                let before = if token == 0 { before.as_str() } else { "" };
                let text = format!("{before}{}", self.answer.token(token));
                let choice = choice(index, &text, None, &safe);
                let step = Step::token(self.chunk(vec![choice]), false);
                let reasoning = if token == 0 { self.size.reasoning } else { 0 };
                steps.push(step.made(Usage {
                    completion_tokens: 1 + reasoning,
                    reasoning_tokens: reasoning,
                    ..Usage::default()
                }));
            }
        }
        for (index, _) in (0..).zip(&self.before) {
            let choice = choice(index, "", Some(self.finish()), &self.filter());
            steps.push(Step::event(self.chunk(vec![choice])));
        }
        if self.include_usage {
            let mut chunk = self.around(Vec::new());
            if let Some(fields) = chunk.as_object_mut() {
                fields.insert("usage".to_owned(), self.usage());
            }
            steps.push(Step::event(data(&chunk)));
        }
        let done = Step::event("data: [DONE]\n\n".to_owned());
        steps.push(Step {
            next: Next::Done,
            ..done
        });
        Script::new(steps, |_| data(&errors::server_error()))
    }

    fn chunk(&self, choices: Vec<Value>) -> String {
        let mut chunk = self.around(choices);
        if let Some(fields) = chunk.as_object_mut().filter(|_| self.include_usage) {
            fields.insert("usage".to_owned(), Value::Null);
        }
        data(&chunk)
    }
}

fn safe() -> Value {
    serde_json::from_str(answer::SAFE).unwrap_or_default()
}

fn choice(index: u64, text: &str, finish: Option<&str>, filter: &Value) -> Value {
    json!({
        "index": index, "text": text, "finish_reason": finish, "logprobs": null,
        "content_filter_results": filter,
    })
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}
