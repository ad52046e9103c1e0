//! A gateway on a real socket, in front of simulated Foundries.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use proxy_admin::shutdown::{self, Trigger};
use proxy_core::auth::{Key, KeyDigest};
use proxy_core::balance::HealthSettings;
use proxy_core::names::Secret;
use proxy_core::quota::{Limit, Unit};
use proxy_core::reach::Reach;
use proxy_core::table::{Backend, BackendAuth, Contents, Retry, Rule, Table, Target};
use proxy_core::test_util::{backend, deployment, key, limit, object, quota, route, rule, target};
use proxy_gateway::{AccessLog, Config, Gateway, Metrics};
use serde_json::{Value, json};
use tests_foundry::{Record, Sim};
use tests_support::http::{self, Answer};

/// A gateway with one route, whose only key is `ann-key`.
pub(crate) struct Bench {
    pub(crate) sims: Vec<Sim>,
    pub(crate) gateway: Gateway,
    pub(crate) url: String,
    pub(crate) trigger: Trigger,
    registry: Registry,
    serving: Option<proxy_gateway::Serving>,
}

/// One backend per simulated Foundry, in tiers of their order.
pub(crate) fn contents(sims: &[Sim], limits: Vec<Limit>) -> Contents {
    let backends = sims.iter().map(|sim| at(&sim.url()));
    routed(backends.collect(), limits)
}

/// A backend at this address.
pub(crate) fn at(url: &str) -> Backend {
    Backend {
        endpoint: url.into(),
        auth: BackendAuth::ApiKey(Secret::new("sim-key")),
        deployments: vec![deployment("gpt-4o-mini", "mini")],
        connect_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(2),
        health: HealthSettings::default(),
        ..backend("b")
    }
}

/// A route to these backends, in tiers of their order.
pub(crate) fn routed(backends: Vec<Backend>, limits: Vec<Limit>) -> Contents {
    let name = |index: usize| format!("b{index}");
    let targets = (0..backends.len()).map(|index| Target {
        deployment: Some("gpt-4o-mini".into()),
        priority: u8::try_from(index).expect("few"),
        ..target(&name(index))
    });
    let backends = backends
        .into_iter()
        .enumerate()
        .map(|(index, backend)| Backend {
            name: object(&name(index)),
            ..backend
        });
    let rule = Rule {
        retry: Retry {
            attempts: 2,
            on_too_many_requests: true,
            on_server_error: true,
            on_connect_failure: true,
            on_timeout: false,
            on_credential_refused: true,
            on_not_there: true,
        },
        ..rule("all", targets.collect())
    };
    let mut route = route("chat", vec![rule]);
    route.authentication.keys = vec![object("ann")].into();
    let key = Key {
        digest: KeyDigest::of("ann-key"),
        ..key("ann")
    };
    Contents::new(
        backends.collect(),
        vec![route],
        vec![quota("q", limits)],
        vec![key],
    )
}

pub(crate) fn sims(count: usize, config: &tests_foundry::Config) -> Result<Vec<Sim>> {
    (0..count).map(|_| Ok(Sim::start(config)?)).collect()
}

pub(crate) fn minute(unit: Unit, amount: u64) -> Limit {
    limit("minute", unit, amount)
}

/// Where no token comes from.
pub(crate) fn no_identity() -> proxy_identity::Config {
    let nowhere = || "http://127.0.0.1:1".parse().expect("an address");
    proxy_identity::Config::new(nowhere(), nowhere())
}

impl Bench {
    pub(crate) fn start(backends: usize, limits: Vec<Limit>) -> Result<Self> {
        Self::with(backends, limits, &tests_foundry::Config::default())
    }

    pub(crate) fn with(
        backends: usize,
        limits: Vec<Limit>,
        sim: &tests_foundry::Config,
    ) -> Result<Self> {
        let sims = sims(backends, sim)?;
        let contents = contents(&sims, limits);
        Self::serve(sims, contents, |_config| ())
    }

    /// One backend, no limit, and an access log.
    pub(crate) fn logging(access_log: AccessLog) -> Result<Self> {
        let sims = sims(1, &tests_foundry::Config::default())?;
        let contents = contents(&sims, Vec::new());
        Self::serve(sims, contents, |config| {
            config.access_log = Some(access_log);
        })
    }

    /// With this table, an access log, and what else a test sets.
    pub(crate) fn logged(
        sims: Vec<Sim>,
        contents: Contents,
        access_log: AccessLog,
        adapt: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        Self::serve(sims, contents, |config| {
            config.access_log = Some(access_log);
            adapt(config);
        })
    }

    /// On one core, in front of one backend: each request meets the connections of all before it.
    pub(crate) fn before(backend: Backend) -> Result<Self> {
        Self::limited(backend, Vec::new())
    }

    /// The same with limits.
    pub(crate) fn limited(backend: Backend, limits: Vec<Limit>) -> Result<Self> {
        Self::of(Vec::new(), routed(vec![backend], limits))
    }

    /// On one core, with this table.
    pub(crate) fn of(sims: Vec<Sim>, contents: Contents) -> Result<Self> {
        Self::serve(sims, contents, |config| {
            config.threads = 1;
            config.max_body = 16 << 20;
        })
    }

    /// With this table, and what a test sets.
    pub(crate) fn serve(
        sims: Vec<Sim>,
        contents: Contents,
        adapt: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        let mut registry = Registry::default();
        let mut config = Config {
            listen: "127.0.0.1:0".parse()?,
            reuse_port: false,
            apis: proxy_api::ROWS,
            threads: 2,
            trusted_hops: 0,
            proxy_protocol: false,
            tls: None,
            max_body: 1 << 20,
            max_upload: 64 << 20,
            memory_budget: 256 << 20,
            default_output_tokens: 100,
            reach: Arc::new(Reach::everywhere()),
            drain_grace: Duration::from_secs(10),
            limit_series: 0,
            state_keys: proxy_gateway::StateKeys::of_this_process(),
            access_log: None,
            store: None,
            identity: no_identity(),
        };
        adapt(&mut config);
        let gateway = Gateway::new(config, Metrics::register(&mut registry));
        gateway.publish(Arc::new(Table::new(contents)));
        let (trigger, shutdown) = shutdown::channel();
        let serving = gateway.start(&shutdown)?;
        let url = format!("http://{}", serving.address());
        Ok(Self {
            sims,
            gateway,
            url,
            registry,
            trigger,
            serving: Some(serving),
        })
    }

    pub(crate) async fn ask(&self, body: &Value) -> Result<Answer> {
        self.post(
            "/v1/chat/completions",
            &[("api-key", "ann-key")],
            &body.to_string(),
        )
        .await
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer> {
        http::post_json(&format!("{}{path}", self.url), headers, body.to_owned()).await
    }

    pub(crate) fn metric(&self, line: &str) -> Option<u64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).ok()?;
        text.lines()
            .find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
    }

    /// What all backends were sent.
    pub(crate) fn upstream(&self) -> Vec<Record> {
        self.sims.iter().flat_map(Sim::requests).collect()
    }

    /// The lines of a counter that is not 0.
    pub(crate) fn counted(&self, counter: &str) -> Vec<String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("it is text");
        let lines = text.lines().filter(|line| line.starts_with(counter));
        lines
            .filter(|line| !line.ends_with(" 0"))
            .map(str::to_owned)
            .collect()
    }

    /// Asks it to stop, and waits until every core has ended.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.trigger.stop();
        let serving = self.serving.take().context("it was stopped before")?;
        tokio::task::spawn_blocking(move || serving.join()).await?;
        Ok(())
    }

    /// Waits until every request that was begun has been settled and recorded.
    pub(crate) async fn quiet(&self) -> Result<()> {
        tests_support::eventually(
            "no request in flight",
            Duration::from_secs(10),
            async || (self.metric("in_flight_requests") == Some(0)).then_some(()),
        )
        .await
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.trigger.stop();
        if let Some(serving) = self.serving.take() {
            serving.join();
        }
    }
}

pub(crate) fn chat(stream: bool) -> Value {
    json!({
        "model": "mini",
        "messages": [{"role": "user", "content": "Say something"}],
        "stream": stream,
    })
}
