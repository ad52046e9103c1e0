//! `POST responses`

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    events::{self, Manner},
    input::{self, Input},
};
use crate::{
    body::{Object, missing},
    call::{Call, Job, Reply},
    deployment::{Deployment, Finish},
    errors::Failure,
    family::Work,
    filter,
    foundry::Foundry,
    limits::Cost,
    script::End,
    state::{
        draft::{Draft, Function, Status},
        response::{Background, Progress, Schedule, Stored},
    },
    tool_call,
};

/// The smallest cap that the API takes.
const MIN_CAP: u64 = 16;

/// How the request wants its answer.
#[derive(Clone, Copy, Debug)]
struct Mode {
    stream: bool,
    store: bool,
    background: bool,
    obfuscate: bool,
}

/// `POST responses`
pub(crate) fn create(call: &Call<'_>) -> Result<Job, Failure> {
    let body = Object::read(call.body)?;
    let deployment = deployment(call, &body)?;
    let mode = mode(&body)?;
    let cap = body.number("max_output_tokens", MIN_CAP, u64::MAX)?;
    let input = Input::read(call, &body)?;
    let whole = call.foundry.answer.tokens();
    let cost = deployment.cost(input.measure.estimate(), whole, cap, 1);
    let prompt: Vec<&Value> = body
        .get("instructions")
        .into_iter()
        .chain(&input.items)
        .collect();
    let read = call.input(&deployment, input.tokens, &prompt);
    let mut size = call.filtered(read, deployment.size(whole, cap))?;
    if filter::fails(call.body) {
        size = size.half(Finish::Failure);
    }
    let mut usage = read;
    usage += deployment.output(size, 1);
    let foundry = call.foundry;
    let function = function(&body, foundry);
    let draft = Draft {
        id: foundry.object_id("resp"),
        created: call.created(),
        answer: Arc::clone(&foundry.answer),
        size,
        usage,
        echo: echo(&body, &deployment.model, mode)?,
        prompt_end: input.measure.characters(),
        reasoning_id: foundry.object_id("rs"),
        encrypted: wants_sealed(&body).then(|| foundry.sealed()),
        item_id: foundry.object_id(if function.is_some() { "fc" } else { "msg" }),
        function,
    };
    let keeper = Keeper {
        foundry: Arc::clone(foundry),
        draft: Arc::new(draft),
        deployment,
        input: input.items,
        project: call.place.project.map(str::to_owned),
        conversation: input::conversation_id(&body)?.map(str::to_owned),
        store: mode.store,
    };
    let (received, key) = (call.received, Arc::clone(&call.key));
    let reply = move || match (mode.background, mode.stream) {
        (false, false) => keeper.whole(),
        (false, true) => keeper.stream(mode),
        (true, _) => keeper.background(mode, received, key, cost),
    };
    Ok(Job {
        cost: Some(cost),
        input: Some(read).filter(|_| !mode.background),
        deferred: mode.background,
        members: body.members(),
        reply: Box::new(reply),
    })
}

/// The deployment that the body names. In a project an agent can stand there instead; here it has the
/// name of the deployment that it runs on.
pub(crate) fn deployment(call: &Call<'_>, body: &Object) -> Result<Arc<Deployment>, Failure> {
    let agent = ["agent", "agent_reference"]
        .iter()
        .find_map(|name| body.get(name)?.get("name")?.as_str())
        .filter(|_| call.place.project.is_some());
    let model = body.text("model")?.or(agent);
    call.deployment(model.ok_or_else(|| missing("model"))?, Work::Responses)
}

fn mode(body: &Object) -> Result<Mode, Failure> {
    let mode = Mode {
        stream: body.flag("stream")?.unwrap_or(false),
        store: body.flag("store")?.unwrap_or(true),
        background: body.flag("background")?.unwrap_or(false),
        obfuscate: obfuscate(body)?,
    };
    if mode.background && !mode.store {
        let message = "Background mode requires 'store' to be true.";
        let (param, code) = (Some("background"), Some("unsupported_parameter"));
        return Err(Failure::invalid(message, param, code));
    }
    Ok(mode)
}

/// Usage comes unasked here, so that `stream_options` knows one option only.
fn obfuscate(body: &Object) -> Result<bool, Failure> {
    let Some(options) = body.get("stream_options").and_then(Value::as_object) else {
        return Ok(true);
    };
    if let Some(name) = options.keys().find(|name| *name != "include_obfuscation") {
        let param = format!("stream_options.{name}");
        let message = format!("Unknown parameter: '{param}'.");
        let code = Some("unknown_parameter");
        return Err(Failure::invalid(&message, Some(&param), code));
    }
    let include = options.get("include_obfuscation").and_then(Value::as_bool);
    Ok(include.unwrap_or(true))
}

/// The fields of the request that the response repeats, or what stands for them (Responses API
/// reference, the response object).
fn echo(body: &Object, model: &str, mode: Mode) -> Result<Map<String, Value>, Failure> {
    let mut echo = json!({
        "background": mode.background,
        "instructions": body.or("instructions", Value::Null),
        "max_output_tokens": body.or("max_output_tokens", Value::Null),
        "max_tool_calls": body.or("max_tool_calls", Value::Null),
        "metadata": body.or("metadata", json!({})),
        "model": model,
        "parallel_tool_calls": body.or("parallel_tool_calls", true),
        "previous_response_id": body.or("previous_response_id", Value::Null),
        "prompt_cache_key": body.or("prompt_cache_key", Value::Null),
        "reasoning": body.or("reasoning", json!({"effort": null, "summary": null})),
        "safety_identifier": body.or("safety_identifier", Value::Null),
        "service_tier": tier(body),
        "store": mode.store,
        "temperature": body.or("temperature", 1.0),
        "text": body.or("text", json!({"format": {"type": "text"}, "verbosity": "medium"})),
        "tool_choice": body.or("tool_choice", "auto"),
        "tools": tools(body)?,
        "top_logprobs": body.or("top_logprobs", 0),
        "top_p": body.or("top_p", 1.0),
        "truncation": body.or("truncation", "disabled"),
        "user": body.or("user", Value::Null),
    });
    let mut put = |name: &str, value: Value| {
        if let Some(fields) = echo.as_object_mut() {
            fields.insert(name.to_owned(), value);
        }
    };
    if let Some(id) = input::conversation_id(body)? {
        put("conversation", json!({"id": id}));
    }
    if let Some(agent) = body.get("agent_reference").or_else(|| body.get("agent")) {
        put("agent_reference", agent.clone());
    }
    Ok(echo.as_object().cloned().unwrap_or_default())
}

/// The tier that serves: `auto` becomes the default one.
fn tier(body: &Object) -> Value {
    let asked = body.or("service_tier", "default");
    if asked == "auto" {
        json!("default")
    } else {
        asked
    }
}

/// The tools, functions with their defaults filled in.
fn tools(body: &Object) -> Result<Value, Failure> {
    let mut tools = body.array("tools")?.cloned().unwrap_or_default();
    for tool in tools.iter_mut().filter_map(Value::as_object_mut) {
        if tool.get("type").and_then(Value::as_str) == Some("function") {
            tool.entry("strict").or_insert(json!(true));
            tool.entry("parameters").or_insert(Value::Null);
            tool.entry("description").or_insert(Value::Null);
        }
    }
    Ok(Value::Array(tools))
}

/// Which function the model calls, instead of writing a text.
fn function(body: &Object, foundry: &Foundry) -> Option<Function> {
    let asked = tool_call::due(body.get("input"), body.get("tools"));
    let name = match &asked {
        Some(call) => call.name.clone(),
        None => chosen(body)?,
    };
    Some(Function {
        name,
        call_id: foundry.object_id("call"),
        asked,
    })
}

/// The function that `tool_choice` names, or the first if one is required.
fn chosen(body: &Object) -> Option<String> {
    let choice = body.get("tool_choice")?;
    let name = match choice.as_str() {
        Some("required") => {
            let tools = body.get("tools")?.as_array()?;
            let is_function =
                |tool: &&Value| tool.get("type").and_then(Value::as_str) == Some("function");
            tools.iter().find(is_function)?.get("name")?
        }
        Some(_) => return None,
        None => choice.get("name")?,
    };
    name.as_str().map(str::to_owned)
}

fn wants_sealed(body: &Object) -> bool {
    let include = body.get("include").and_then(Value::as_array);
    include.is_some_and(|include| include.contains(&json!("reasoning.encrypted_content")))
}

/// Makes the answer, and keeps it if the request allows.
struct Keeper {
    foundry: Arc<Foundry>,
    draft: Arc<Draft>,
    deployment: Arc<Deployment>,
    input: Vec<Value>,
    project: Option<String>,
    conversation: Option<String>,
    store: bool,
}

impl Keeper {
    fn whole(self) -> Reply {
        let now = self.foundry.clock.unix(self.foundry.clock.now()).as_secs();
        let draft = Arc::clone(&self.draft);
        let status = draft.ending();
        self.keep(status, now);
        Reply::produced(draft.object(status, now).to_string(), draft.usage)
    }

    /// A stream is found by its id once it has ended. One that its caller left is cancelled: that is the
    /// only way to stop it.
    fn stream(self, mode: Mode) -> Reply {
        let manner = Manner {
            obfuscate: mode.obfuscate,
            schedule: None,
        };
        let now = self.foundry.clock.unix(self.foundry.clock.now()).as_secs();
        let script = events::script(&self.draft, manner, now).ends(move |end| {
            let status = match end {
                End::Complete => self.draft.ending(),
                End::Broken => Status::Cancelled,
            };
            self.keep(status, now);
        });
        Reply::Events(Box::new(script))
    }

    fn keep(self, status: Status, now: u64) {
        if matches!(status, Status::Completed | Status::Incomplete) {
            self.converse();
        }
        if self.store {
            let id = self.draft.id.clone();
            let stored = Stored {
                draft: self.draft,
                deployment: self.deployment,
                input: self.input,
                project: self.project,
                progress: Progress::Ended(status, now),
            };
            self.foundry.responses.lock().insert(&id, stored);
        }
    }

    /// Adds input and output to the conversation.
    fn converse(&self) {
        if let Some(id) = &self.conversation {
            let mut conversations = self.foundry.conversations.lock();
            if let Some(conversation) = conversations.get_mut(id, self.project.as_deref()) {
                conversation.items.extend(self.input.iter().cloned());
                conversation.items.extend(self.draft.output());
            }
        }
    }

    fn background(self, mode: Mode, received: Duration, key: Arc<str>, cost: Cost) -> Reply {
        let schedule = Schedule {
            start: received,
            length: self.foundry.background_time,
        };
        // Its items are there at once.
        self.converse();
        let stored = Stored {
            draft: Arc::clone(&self.draft),
            deployment: self.deployment,
            input: self.input,
            project: self.project.clone(),
            progress: Progress::Background(Background {
                schedule,
                streamed: mode.stream,
                cancelled: None,
                key,
                cost,
                billed: false,
            }),
        };
        let reply = if mode.stream {
            Reply::Events(Box::new(replay(
                &self.foundry,
                &stored,
                schedule,
                mode.obfuscate,
            )))
        } else {
            Reply::json(stored.object(received).to_string())
        };
        self.foundry.keep_unbilled(&self.draft.id, stored);
        reply
    }
}

/// The events of a response in the background, as they come about. A cancellation ends them.
pub(crate) fn replay(
    foundry: &Arc<Foundry>,
    stored: &Stored,
    schedule: Schedule,
    obfuscate: bool,
) -> crate::script::Script {
    let manner = Manner {
        obfuscate,
        schedule: Some(schedule),
    };
    let completed = stored
        .draft
        .created
        .saturating_add(schedule.length.as_secs());
    let (foundry, draft) = (Arc::clone(foundry), Arc::clone(&stored.draft));
    let project = stored.project.clone();
    let script = events::script(&stored.draft, manner, completed);
    script.interrupted(move |number| {
        let responses = foundry.responses.lock();
        let stored = responses.get(&draft.id, project.as_deref())?;
        let status = stored.status(foundry.clock.now());
        (status == Status::Cancelled).then(|| events::cancelled(&draft, number))
    })
}
