//! Chat completions.

use std::sync::Arc;

use crate::{
    answer::{self, Facts},
    body::Object,
    call::{Call, Job, Reply},
    errors::Failure,
    family::{self, Work},
    named_files,
    state::audio::Spoken,
    surface::Surface,
    tool_call,
};

mod events;
mod request;

use events::Events;
use request::ChatRequest;

/// `POST chat/completions`
pub(crate) fn create(call: &Call<'_>) -> Result<Job, Failure> {
    // The dated surface names the deployment in the path, and ignores the body's model.
    let mut deployment = call.named(Work::Chat)?;
    let request = ChatRequest::read(call.body)?;
    named_files::check(call)?;
    if deployment.is_none() {
        let model = request.model.as_deref().ok_or_else(Failure::no_model)?;
        deployment = Some(call.deployment(model, Work::Chat)?);
    }
    let deployment = deployment.ok_or_else(Failure::no_deployment)?;
    family::check_fields(&deployment.model, &request.members)?;
    check_stream_options(call, &request)?;
    let whole = call.foundry.answer.tokens();
    let cost = deployment.cost(
        request.prompt_estimate,
        whole,
        request.max_tokens,
        request.choices,
    );
    let has_call = tool_call::is_asked(call.body);
    let body = (deployment.has_cache || has_call).then(|| Object::read(call.body));
    let body = body.transpose()?;
    let field = |name: &str| body.as_ref()?.get(name);
    let messages = field("messages");
    let input = call.input(&deployment, request.prompt_tokens, messages.as_slice());
    let size = call.filtered(input, deployment.size(whole, request.max_tokens))?;
    let mut usage = input;
    usage += deployment.output(size, request.choices);
    let speaks = request.members.iter().any(|name| name == "audio");
    let choices = if speaks { request.choices } else { 0 };
    let facts = Facts {
        spoken: (0..choices)
            .map(|_| call.foundry.object_id("audio"))
            .collect(),
        id: call.foundry.fresh_id(),
        created: call.created(),
        model: deployment.model.clone(),
        tokens: size.visible,
        choices: request.choices,
        finish: size.finish,
        usage,
        tool: tool_call::due(messages.filter(|_| has_call), field("tools")),
    };
    let kept = facts.spoken.clone();
    let project = call.place.project.map(str::to_owned);
    let is_v1 = matches!(call.surface(), Surface::V1);
    let foundry = Arc::clone(call.foundry);
    let (stream, options) = (request.stream, request.stream_options);
    let reply = move || {
        for id in kept {
            let project = project.clone();
            foundry.spoken.lock().insert(&id, Spoken { project });
        }
        if !stream {
            return Reply::produced(answer::completion(&foundry.answer, &facts), facts.usage);
        }
        let include_usage = options.and_then(|o| o.include_usage).unwrap_or(false);
        let obfuscate = is_v1 && options.and_then(|o| o.include_obfuscation).unwrap_or(true);
        Reply::Events(Box::new(Events::new(
            foundry,
            facts,
            size,
            include_usage,
            obfuscate,
        )))
    };
    Ok(Job {
        cost: Some(cost),
        input: Some(input),
        deferred: false,
        members: request.members,
        reply: Box::new(reply),
    })
}

fn check_stream_options(call: &Call<'_>, request: &ChatRequest) -> Result<(), Failure> {
    if request.stream_options.is_none() {
        return Ok(());
    }
    if !call.surface().has_stream_options() {
        let message = "Unrecognized request argument supplied: stream_options";
        return Err(Failure::invalid(message, None, None));
    }
    if !request.stream {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Failure::invalid(message, Some("stream_options"), None));
    }
    Ok(())
}
