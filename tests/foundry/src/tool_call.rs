//! Calls of tools that a prompt asks for, so that a real agent goes through real turns.
//!
//! `call:NAME*3{"argument": 1}` in a text is answered by a call of the caller's tool `NAME` with these arguments,
//! until three results of tools follow the text; without `*3` one. Then the model answers as ever.

use memchr::memmem;
use serde_json::{Deserializer, Value};

const MARK: &str = "call:";

/// A call of one of the caller's tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    /// A JSON object.
    pub(crate) arguments: String,
}

/// Whether it is worth to look at the turns of a body.
pub(crate) fn is_asked(body: &[u8]) -> bool {
    memmem::find(body, MARK.as_bytes()).is_some()
}

/// The call that is due after these turns: messages, or items of the Responses API.
pub(crate) fn due(turns: Option<&Value>, tools: Option<&Value>) -> Option<ToolCall> {
    let Some(Value::Array(turns)) = turns else {
        return asked(turns?.as_str()?, tools).map(|(call, _)| call);
    };
    let mut due = None;
    let mut results = 0;
    for turn in turns {
        if let Some(asked) = texts(turn).find_map(|text| asked(text, tools)) {
            due = Some(asked);
            results = 0;
        }
        results += results_of(turn);
    }
    due.filter(|(_, times)| results < *times)
        .map(|(call, _)| call)
}

impl ToolCall {
    /// The arguments in this number of pieces, as a stream has them.
    pub(crate) fn pieces(&self, count: u64) -> Vec<String> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        let characters: Vec<char> = self.arguments.chars().collect();
        let each = characters.len().div_ceil(count).max(1);
        let mut pieces: Vec<String> = characters.chunks(each).map(String::from_iter).collect();
        pieces.resize(count, String::new());
        pieces
    }
}

/// The call that a text asks for, and how often.
fn asked(text: &str, tools: Option<&Value>) -> Option<(ToolCall, usize)> {
    let (_, rest) = text.split_once(MARK)?;
    let (head, _) = rest.split_once('{')?;
    let arguments = rest.get(head.len()..)?;
    let arguments: Value = Deserializer::from_str(arguments).into_iter().next()?.ok()?;
    let (name, times) = head.split_once('*').unwrap_or((head, "1"));
    let is_named = |tool: &Value| {
        let tool = tool.get("function").unwrap_or(tool);
        tool.get("name").and_then(Value::as_str) == Some(name)
    };
    tools?.as_array()?.iter().find(|tool| is_named(tool))?;
    let call = ToolCall {
        name: name.to_owned(),
        arguments: arguments.to_string(),
    };
    Some((call, times.parse().ok()?))
}

/// The texts that a user wrote.
fn texts(turn: &Value) -> impl Iterator<Item = &str> {
    let content = turn.get("content");
    let content = content.filter(|_| turn.get("role").and_then(Value::as_str) == Some("user"));
    let whole = content.and_then(Value::as_str);
    let parts = content.and_then(Value::as_array).into_iter().flatten();
    let parts = parts.filter_map(|part| part.get("text")?.as_str());
    whole.into_iter().chain(parts)
}

/// How many results of tools stand in a turn.
fn results_of(turn: &Value) -> usize {
    let is = |value: &Value, field: &str, wanted: &[&str]| {
        let kind = value.get(field).and_then(Value::as_str);
        kind.is_some_and(|kind| wanted.contains(&kind))
    };
    let outputs = ["function_call_output", "custom_tool_call_output"];
    if is(turn, "role", &["tool"]) || is(turn, "type", &outputs) {
        return 1;
    }
    let parts = turn.get("content").and_then(Value::as_array);
    let parts = parts.into_iter().flatten();
    parts
        .filter(|part| is(part, "type", &["tool_result"]))
        .count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shell() -> Option<Value> {
        Some(json!([{"type": "function", "name": "shell"}]))
    }

    #[test]
    fn a_call_is_due_until_its_results_are_there() {
        let call = ToolCall {
            name: "shell".to_owned(),
            arguments: r#"{"command":"date"}"#.to_owned(),
        };
        let prompt = json!({"role": "user", "content": r#"call:shell*2{"command": "date"}"#});
        let output = json!({"type": "function_call_output", "output": ""});
        let due = |turns: Value| due(Some(&turns), shell().as_ref());
        assert_eq!(due(json!([prompt])), Some(call.clone()));
        assert_eq!(due(json!([prompt, output])), Some(call.clone()));
        assert_eq!(due(json!([prompt, output, output])), None);
        assert_eq!(
            due(json!([prompt, output, output, prompt])),
            Some(call.clone())
        );
        let of_chat = json!({"role": "tool", "content": ""});
        assert_eq!(due(json!([prompt, of_chat, of_chat])), None);
        let of_messages = json!({"role": "user", "content": [
            {"type": "tool_result"}, {"type": "tool_result"},
        ]});
        assert_eq!(due(json!([prompt, of_messages])), None);
        assert_eq!(due(json!(r#"call:shell{"command":"date"}"#)), Some(call));
    }

    #[test]
    fn only_a_users_call_of_a_known_tool_counts() {
        let due = |role: &str, text: &str, tools: Option<Value>| {
            let turns = json!([{"role": role, "content": [{"type": "text", "text": text}]}]);
            due(Some(&turns), tools.as_ref()).is_some()
        };
        assert!(due("user", "please call:shell{} now", shell()));
        assert!(!due("assistant", "call:shell{}", shell()));
        assert!(!due("user", "call:other{}", shell()));
        assert!(!due("user", "call:shell{", shell()));
        assert!(!due("user", "call:shell{}", None));
    }

    #[test]
    fn arguments_come_in_as_many_pieces_as_there_are_tokens() {
        let call = ToolCall {
            name: String::new(),
            arguments: r#"{"ä":1}"#.to_owned(),
        };
        for count in 1..12 {
            let pieces = call.pieces(count);
            assert_eq!(u64::try_from(pieces.len()).unwrap(), count);
            assert_eq!(pieces.concat(), call.arguments);
        }
    }
}
