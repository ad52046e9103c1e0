//! Claude Code, Codex and Copilot CLI as they are, through the gateway: a task of several turns with tools, and
//! what a person in the terminal sees when the gateway refuses.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_support::{Quickstart, http, paths};
use tokio::process::Command;

/// Until an agent ends: it may unpack itself first.
const LIMIT: Duration = Duration::from_secs(120);
/// An agent that does not try again ends within this time.
const AT_ONCE: Duration = Duration::from_secs(20);

const ANSWER: &str = "A tundish is the vessel";

/// A team that may use a thousand tokens a day.
const POOR: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: poor, labels: {tundish.dev/keys: chat}}
stringData: {key: poor-team-key}
---
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: poor}
spec:
  targetRefs: [{name: chat}]
  match: {consumers: {names: [poor]}}
  limits: [{name: day, unit: Tokens, limit: 1000, window: Day}]
";

#[derive(Clone, Copy, Debug)]
enum Agent {
    Claude,
    Codex,
    Copilot,
}

/// What an agent is started with, and how it ended.
struct Run {
    text: String,
    is_good: bool,
    time: Duration,
}

impl Agent {
    const ALL: [Self; 3] = [Self::Claude, Self::Codex, Self::Copilot];

    const fn model(self) -> &'static str {
        match self {
            Self::Claude => "claude-sonnet-5-5",
            Self::Codex | Self::Copilot => "gpt-5",
        }
    }

    /// A model that nothing serves, by a name that the agent takes.
    const fn unknown(self) -> &'static str {
        match self {
            Self::Claude => "claude-7",
            Self::Codex | Self::Copilot => "gpt-7",
        }
    }

    /// A prompt by which the simulated model calls the agent's shell three times.
    const fn task(self) -> &'static str {
        match self {
            Self::Claude => r#"call:Bash*3{"command":"echo done","description":"says done"}"#,
            Self::Codex => r#"call:exec_command*3{"cmd":"echo done"}"#,
            Self::Copilot => r#"call:bash*3{"command":"echo done","description":"says done"}"#,
        }
    }

    /// The agent, set up as docs/clients.md says.
    fn command(self, gateway: &str, key: &str, model: &str, prompt: &str) -> Result<Command> {
        let programs = paths::agents()?;
        let name = match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Copilot => "copilot",
        };
        let mut command = Command::new(programs.join(name));
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        match self {
            Self::Claude => {
                command.env("ANTHROPIC_BASE_URL", format!("{gateway}/anthropic"));
                command.env("ANTHROPIC_AUTH_TOKEN", key);
                command.env("ANTHROPIC_MODEL", model);
                command.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
                command.args(["-p", prompt, "--allowedTools", "Bash"]);
            }
            Self::Codex => {
                command.env("TUNDISH_KEY", key);
                let provider = format!(
                    "model_providers.tundish={{name=\"Tundish\", base_url=\"{gateway}/v1\", \
                     env_key=\"TUNDISH_KEY\", wire_api=\"responses\"}}"
                );
                command.args(["exec", "--skip-git-repo-check", "-m", model]);
                command.args(["-c", "model_provider=\"tundish\"", "-c", &provider]);
                // The test's machine may have no sandbox.
                command.args(["--dangerously-bypass-approvals-and-sandbox", prompt]);
            }
            Self::Copilot => {
                command.env("COPILOT_PROVIDER_BASE_URL", format!("{gateway}/v1"));
                command.env("COPILOT_PROVIDER_API_KEY", key);
                command.env("COPILOT_MODEL", model);
                command.args(["-p", prompt, "--allow-all-tools"]);
            }
        }
        Ok(command)
    }

    async fn run(self, gateway: &str, key: &str, model: &str, prompt: &str) -> Result<Run> {
        let home = tempfile::tempdir()?;
        let mut command = self.command(gateway, key, model, prompt)?;
        command.env("HOME", home.path()).current_dir(home.path());
        command
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        let began = tokio::time::Instant::now();
        let output = tokio::time::timeout(LIMIT, command.output()).await;
        let output = output.with_context(|| format!("{self:?} does not end"))??;
        let text = [output.stdout, output.stderr].concat();
        Ok(Run {
            text: String::from_utf8_lossy(&text).into_owned(),
            is_good: output.status.success(),
            time: began.elapsed(),
        })
    }
}

/// Requests that reached the model.
async fn answered(stage: &Quickstart) -> Result<usize> {
    let requests: Value = http::get(&format!("{}/_sim/requests", stage.sim))
        .await?
        .json()?;
    Ok(requests.as_array().context("a list")?.len())
}

#[tokio::test]
async fn each_agent_does_a_task_of_four_turns_with_its_tools() -> Result<()> {
    let stage = Quickstart::start(&[]).await?;
    for agent in Agent::ALL {
        let before = answered(&stage).await?;
        let run = agent
            .run(
                &stage.gateway,
                "search-team-key",
                agent.model(),
                agent.task(),
            )
            .await?;
        ensure!(
            run.is_good && run.text.contains(ANSWER),
            "{agent:?}: {}",
            run.text
        );
        let turns = answered(&stage).await? - before;
        ensure!(turns == 4, "{agent:?}: {turns} turns\n{}", run.text);
    }
    Ok(())
}

#[tokio::test]
async fn each_refusal_reaches_the_terminal_in_words() -> Result<()> {
    let stage = Quickstart::start(&[("poor.yaml", POOR)]).await?;
    for agent in Agent::ALL {
        for (key, model, expect) in [
            ("guessed", agent.model(), "401"),
            ("poor-team-key", agent.model(), "default/poor/day"),
            ("search-team-key", agent.unknown(), agent.unknown()),
        ] {
            let run = agent.run(&stage.gateway, key, model, "Hello").await?;
            let told = run.text.contains(expect);
            ensure!(!run.is_good && told, "{agent:?}, {key}: {}", run.text);
            ensure!(run.time < AT_ONCE, "{agent:?}, {key}: {:?}", run.time);
        }
    }
    ensure!(
        answered(&stage).await? == 0,
        "a refused call reached the model"
    );
    Ok(())
}
