//! A gateway that has a small part of a CPU, between callers and a backend that have the rest.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tests_support::{CpuGroup, Process, binary, eventually_ok, free_port};
use tokio::net::TcpStream;

use super::callers::Calls;
use crate::backend::STREAM;
use crate::load::chat;

const LIMIT: Duration = Duration::from_secs(30);
/// The header line with the key of the callers.
const KEY: &str = "api-key: caller-key";
/// Models, each behind a rule of the class in its name.
pub(super) const CLASSES: [&str; 3] = ["Interactive", "Standard", "Batch"];

const OBJECTS: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: sim}
spec:
  type: Foundry
  endpoint: http://BACKEND
  allowPlaintext: true
  auth: {type: APIKey, apiKey: {secretRef: {name: sim, key: key}}}
  deployments: [{name: gpt-4o}, {name: interactive}, {name: standard}, {name: batch}]
---
apiVersion: v1
kind: Secret
metadata: {name: sim}
stringData: {key: sim-key}
---
apiVersion: v1
kind: Secret
metadata: {name: caller, labels: {keys: all}}
stringData: {key: caller-key}
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat}
spec:
  authentication: {apiKeys: {secretSelector: {matchLabels: {keys: all}}}}
  rules:
";

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// JSON of 1 KB.
    Json,
    /// Streams of 50 events.
    Streams,
    /// JSON of 1 KB, a third of each class.
    Classes,
}

impl Work {
    pub(super) const ALL: [Self; 3] = [Self::Json, Self::Streams, Self::Classes];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Streams => "streams",
            Self::Classes => "classes",
        }
    }

    fn manifests(self, backend: SocketAddr) -> String {
        let mut text = OBJECTS.replace("BACKEND", &backend.to_string());
        let mut rule = |model: &str, class: &str| {
            text.push_str(&format!(
                "  - name: {model}\n    class: {class}\n    matches: [{{models: [{model}]}}]\n    \
                 backendRefs: [{{name: sim}}]\n"
            ));
        };
        match self {
            Self::Json | Self::Streams => rule("gpt-4o", "Standard"),
            Self::Classes => {
                for class in CLASSES {
                    rule(&class.to_ascii_lowercase(), class);
                }
            }
        }
        text
    }

    fn requests(self, target: SocketAddr) -> Vec<Vec<u8>> {
        let whole = String::from_utf8_lossy(&chat(target, KEY, 1024)).into_owned();
        match self {
            Self::Json => vec![whole.into_bytes()],
            Self::Classes => {
                // The length of the body stays: names are padded by a blank in the JSON.
                let of = |class: &str| {
                    let model = class.to_ascii_lowercase();
                    let text = "x".repeat(900);
                    let body = format!(
                        r#"{{"model":"{model}","max_tokens":16,"messages":[{{"role":"user","content":"{text}"}}]}}"#
                    );
                    post(target, &body)
                };
                CLASSES.into_iter().map(of).collect()
            }
            Self::Streams => {
                let text = "x".repeat(900);
                vec![post(
                    target,
                    &format!(
                        r#"{{"model":"gpt-4o","stream":true,"messages":[{{"role":"user","content":"{STREAM}50 0 ends {text}"}}]}}"#
                    ),
                )]
            }
        }
    }
}

fn post(target: SocketAddr, body: &str) -> Vec<u8> {
    format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: {target}\r\n{KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The processes, which end when it is dropped.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) calls: Calls,
    /// Both are asked again and again.
    pub(super) probes: [String; 2],
    _processes: [Process; 2],
    /// Dropped behind the processes in it.
    _group: CpuGroup,
    _folder: TempDir,
}

impl Gateway {
    pub(super) async fn start(work: Work, percent: u32) -> Result<Self> {
        let folder = TempDir::with_prefix("tundish-overload-")?;
        let local = || anyhow::Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
        let (target, admin, backend) = (local()?, local()?, local()?);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["backend", "--listen", &backend.to_string()]);
        let mut behind = Process::spawn("backend", &mut command, folder.path())?;
        eventually_ok("a backend", LIMIT, async || {
            if let Some(status) = behind.ended()? {
                bail!("it ended: {status}");
            }
            TcpStream::connect(backend).await.context("connect")
        })
        .await?;
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests)?;
        std::fs::write(manifests.join("all.yaml"), work.manifests(backend))?;
        let group = CpuGroup::new(&format!("overload-{}", target.port()), percent)
            .context("a control group for CPU is needed: run it as root, outside of a container")?;
        let mut command = group.command(&binary("tundish")?);
        command
            .args(["run", "--no-access-log", "--threads", "1", "--manifests"])
            .arg(&manifests)
            .args(["--listen", &target.to_string()])
            .args(["--admin", &admin.to_string()]);
        let mut process = Process::spawn("tundish", &mut command, folder.path())?;
        let probes = ["readyz", "livez"].map(|page| format!("http://{admin}/{page}"));
        let [ready, _] = &probes;
        process.wait_for_http(ready, LIMIT).await?;
        Ok(Self {
            calls: Calls {
                target,
                requests: work.requests(target).into(),
            },
            probes,
            _processes: [process, behind],
            _group: group,
            _folder: folder,
        })
    }
}
