//! Sessions as Codex has them, over two resources and two replicas that restart: nothing is stored, the reasoning comes
//! along as `encrypted_content`, and only the resource that made it can read it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::http;

use crate::{INSTRUCTIONS, Installation, RESULT, words};

const SESSIONS: usize = 4;
const TURNS: usize = 40;
/// With an item of reasoning in each answer.
const DEPLOYMENT: &str = "gpt-5,cache=on,reasoning=8";
/// Turns between two restarts of a replica.
const RESTARTS: usize = 13;

/// What was said so far.
struct Session {
    key: String,
    input: Vec<Value>,
}

impl Session {
    fn new(number: usize) -> Self {
        let calls = TURNS - 1;
        let task = format!(r#"Mend case {number}: call:exec_command*{calls}{{"cmd":"make test"}}"#);
        let message = |role: &str, text: String| {
            let content = json!([{"type": "input_text", "text": text}]);
            json!({"type": "message", "role": role, "content": content})
        };
        Self {
            key: format!("01a21fc0-ce10-7222-b488-{number:012}"),
            input: vec![
                message("developer", words("rule", INSTRUCTIONS)),
                message("user", task),
            ],
        }
    }

    fn body(&self) -> String {
        let tool = json!({"type": "function", "name": "exec_command", "strict": false,
            "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}}});
        json!({
            "model": "gpt-5", "stream": true, "store": false, "input": self.input, "tools": [tool],
            "tool_choice": "auto", "parallel_tool_calls": true, "reasoning": {"summary": "auto"},
            "include": ["reasoning.encrypted_content"], "prompt_cache_key": self.key,
        })
        .to_string()
    }

    /// Asks a gateway, and answers the call that comes back. Returns what the model called or said.
    async fn turn(&mut self, gateway: &str, turn: usize) -> Result<&'static str> {
        let url = format!("{gateway}/v1/responses");
        let headers = [
            ("authorization", "Bearer agents-key"),
            ("accept", "text/event-stream"),
            ("session-id", self.key.as_str()),
            ("originator", "codex_exec"),
        ];
        let answer = http::post_json(&url, &headers, self.body()).await?;
        ensure!(
            answer.status == 200,
            "turn {turn}: {}: {}",
            answer.status,
            answer.text()
        );
        let text = answer.text();
        let mut events = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let last: Value = serde_json::from_str(events.next_back().context("an event")?)?;
        ensure!(kind(&last) == "response.completed", "turn {turn}: {last}");
        let output = last.pointer("/response/output").and_then(Value::as_array);
        let output = output.context("items")?;
        let sealed = output
            .first()
            .and_then(|item| item.get("encrypted_content"));
        ensure!(sealed.is_some_and(Value::is_string), "turn {turn}: {last}");
        self.input.extend(output.iter().cloned());
        let said = output.last().context("an item")?;
        if kind(said) != "function_call" {
            return Ok("text");
        }
        let result = words(&format!("{}-{turn}", self.key), RESULT);
        self.input.push(json!({
            "type": "function_call_output", "call_id": said.get("call_id"), "output": result,
        }));
        Ok("call")
    }
}

fn kind(value: &Value) -> &str {
    value
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// All sessions to their end, at the replicas in turn.
async fn work(installation: &mut Installation) -> Result<()> {
    let mut sessions: Vec<Session> = (0..SESSIONS).map(Session::new).collect();
    for turn in 0..TURNS {
        if turn % RESTARTS == RESTARTS - 1 {
            installation.restart(turn / RESTARTS % 2).await?;
        }
        for (number, session) in sessions.iter_mut().enumerate() {
            let mut replicas = installation.replicas.iter().cycle();
            let replica = replicas.nth(turn + number).context("a replica")?;
            let gateway = replica.url.clone();
            let said = session.turn(&gateway, turn).await?;
            let is_last = turn + 1 == TURNS;
            ensure!(
                said == if is_last { "text" } else { "call" },
                "turn {turn}: {said}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn sessions_of_forty_turns_keep_their_reasoning_and_their_cache() -> Result<()> {
    let mut shares = Vec::new();
    for resources in [1, 2] {
        let affinity = "{type: Conversation}";
        let mut installation = Installation::of(DEPLOYMENT, resources, 2, affinity).await?;
        work(&mut installation).await?;
        let asked = installation.sims.iter().map(|sim| sim.requests());
        let asked: Vec<_> = asked.collect();
        ensure!(
            asked.iter().all(|one| !one.is_empty()),
            "a resource was not asked"
        );
        let turns: usize = asked.iter().map(Vec::len).sum();
        ensure!(turns == SESSIONS * TURNS, "{turns} calls of a resource");
        shares.push(installation.cached_share());
    }
    println!(
        "cached share: one resource {:.3}, two {:.3}",
        shares[0], shares[1]
    );
    ensure!(shares[1] >= 0.95 * shares[0], "{shares:?}");
    Ok(())
}
