//! A backend that fails and one that works, behind one rule.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tests_foundry::{Config, Sim};
use tests_support::{Fault as Cut, FaultProxy, free_port};
use tokio::time::sleep;

use super::front::{Certificate, Front};
use super::kinds::{How, Kind, Layout, SOMETIMES};

/// Requests that are remembered, so that all are counted.
const RECORD: usize = 1_000_000;
/// How long a moment lasts.
const MOMENT: Duration = Duration::from_millis(5);

/// The keys of the backends and of the callers.
pub(crate) const KEYS: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: sim}
stringData: {key: sim-key}
---
apiVersion: v1
kind: Secret
metadata: {name: caller, labels: {keys: all}}
stringData: {key: caller-key}
";

/// The two backends of one case.
pub(crate) struct Pair {
    pub(crate) kind: Kind,
    pub(crate) layout: Layout,
    index: usize,
    bad: Sim,
    /// Between the bad one and `proxy`, if it speaks TLS.
    front: Option<Front>,
    /// Before the bad one.
    proxy: FaultProxy,
    good: Sim,
    closed: u16,
}

impl Pair {
    pub(crate) async fn start(index: usize, kind: Kind, layout: Layout) -> Result<Self> {
        let config = Config {
            record: RECORD,
            latency: Duration::from_millis(1),
            completion_tokens: 20,
            ..Config::default()
        };
        let bad = Sim::start(&config)?;
        let port = bad.addr().port();
        let front = match kind.how {
            How::Front(certificate, _) => Some(Front::start(port, certificate).await?),
            How::Well
            | How::Answers(_)
            | How::Sometimes(_)
            | How::Connections(_)
            | How::SometimesCut(_)
            | How::Closed
            | How::Nameless
            | How::Tls(_) => None,
        };
        Ok(Self {
            kind,
            layout,
            index,
            proxy: FaultProxy::start(front.as_ref().map_or(port, |front| front.port))?,
            front,
            bad,
            good: Sim::start(&config)?,
            closed: free_port()?,
        })
    }

    /// The name of the failing backend on the gateway's pages.
    pub(crate) fn bad(&self) -> String {
        format!("default/bad-{}", self.index)
    }

    /// How its callers find it.
    pub(crate) fn case(&self) -> String {
        format!("case-{}", self.index)
    }

    pub(crate) fn manifests(&self) -> String {
        let index = self.index;
        let proxy = format!("127.0.0.1:{}", self.proxy.port());
        let (bad, scheme) = match self.kind.how {
            How::Closed => (format!("127.0.0.1:{}", self.closed), "http"),
            How::Nameless => ("backend.invalid".to_owned(), "http"),
            How::Tls(_) | How::Front(..) => (proxy, "https"),
            How::Well
            | How::Answers(_)
            | How::Sometimes(_)
            | How::Connections(_)
            | How::SometimesCut(_) => (proxy, "http"),
        };
        let good = self.good.addr();
        let priority = u8::from(self.layout == Layout::First);
        let (case, rule) = (self.case(), self.kind.rule);
        let root = self.front.as_ref().map(|front| root(index, &front.root));
        let (root, trust) = root.unwrap_or_default();
        let backend = |name: &str, endpoint: &str, more: &str| {
            let plain = endpoint.starts_with("http://");
            format!(
                "---\napiVersion: tundish.dev/v1alpha1\nkind: AIBackend\nmetadata: {{name: {name}-{index}}}\nspec:\n  \
                 type: Foundry\n  endpoint: {endpoint}\n  allowPlaintext: {plain}\n  \
                 auth: {{type: APIKey, apiKey: {{secretRef: {{name: sim, key: key}}}}}}\n  \
                 deployments: [{{name: gpt-4o}}]\n{more}"
            )
        };
        let (bad, good) = (
            backend(
                "bad",
                &format!("{scheme}://{bad}"),
                &format!("{trust}{}", self.kind.health),
            ),
            backend("good", &format!("http://{good}"), ""),
        );
        format!(
            "{root}{bad}{good}---\napiVersion: tundish.dev/v1alpha1\nkind: AIRoute\nmetadata: {{name: case-{index}}}\nspec:\n  \
             authentication: {{apiKeys: {{secretSelector: {{matchLabels: {{keys: all}}}}}}}}\n  \
             rules:\n  - name: all\n    matches: [{{headers: [{{name: x-case, value: {case}}}]}}]\n    backendRefs:\n    - {{name: bad-{index}}}\n    - {{name: good-{index}, \
             priority: {priority}}}\n{rule}"
        )
    }

    /// Begins the fault.
    pub(crate) fn begin(&self) -> Result<()> {
        match &self.kind.how {
            How::Answers(fault) => self.bad.faults(vec![fault.clone()])?,
            How::Connections(cut) | How::Tls(cut) | How::Front(_, cut) => self.proxy.set(*cut),
            How::Well | How::Sometimes(_) | How::SometimesCut(_) | How::Closed | How::Nameless => {}
        }
        Ok(())
    }

    /// Goes on with a fault that comes and goes, for ever.
    pub(crate) async fn keep_up(&self) -> anyhow::Error {
        loop {
            sleep(SOMETIMES).await;
            match &self.kind.how {
                How::Sometimes(fault) => {
                    if let Err(error) = self.bad.faults(vec![fault.clone()]) {
                        return anyhow!(error);
                    }
                }
                How::SometimesCut(cut) => {
                    self.proxy.set(*cut);
                    sleep(MOMENT).await;
                    self.proxy.set(Cut::Pass);
                }
                How::Well
                | How::Answers(_)
                | How::Connections(_)
                | How::Closed
                | How::Nameless
                | How::Tls(_)
                | How::Front(..) => std::future::pending().await,
            }
        }
    }

    /// Ends the fault, if it can end.
    pub(crate) fn end(&self) -> Result<()> {
        self.bad.faults(Vec::new())?;
        self.proxy.set(Cut::Pass);
        self.proxy.cut();
        Ok(())
    }

    /// Whether the backend works once the fault has ended.
    pub(crate) fn can_recover(&self) -> bool {
        match self.kind.how {
            How::Closed | How::Nameless | How::Tls(_) => false,
            How::Front(certificate, _) => certificate == Certificate::Good,
            How::Well
            | How::Answers(_)
            | How::Sometimes(_)
            | How::Connections(_)
            | How::SometimesCut(_) => true,
        }
    }

    /// Requests or connections that have reached the bad one.
    pub(crate) fn tries(&self) -> u64 {
        if matches!(
            self.kind.how,
            How::Connections(_) | How::Tls(_) | How::Front(..)
        ) {
            self.proxy.accepted()
        } else {
            self.asked().0
        }
    }

    /// Requests that have reached each of the two.
    pub(crate) fn asked(&self) -> (u64, u64) {
        let asked = |sim: &Sim| u64::try_from(sim.requests().len()).unwrap_or(u64::MAX);
        (asked(&self.bad), asked(&self.good))
    }
}

/// A Secret with an authority, and the lines of a backend that trust it.
fn root(index: usize, pem: &str) -> (String, String) {
    let lines = pem.lines().map(|line| format!("    {line}\n"));
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: root-{index}}}\nstringData:\n  ca.crt: |\n{}",
        lines.collect::<String>()
    );
    let trust = format!("  tls: {{caCertificateRef: {{name: root-{index}, key: ca.crt}}}}\n");
    (secret, trust)
}
