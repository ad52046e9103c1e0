//! What one changed object costs at each step from the operator to the proxies' table, with many objects.
//! In this process, without a network: `propagation` measures the whole.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use operator_compile::{Compiled, Day, IdentityGrants, Memo, Secrets, Settings, Tenants, decode};
use operator_publish::{Metrics, Publisher};
use proxy_admin::clock;
use proxy_core::reach::Reach;
use proxy_core::table::Table;
use proxy_wire::v1::{self, Decoded, Delta, Features, Line, Objects, Snapshot};
use serde_json::{Value, json};

use crate::figures::mega;
use crate::page::line;
use crate::process;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// AIRoutes, with two rules each
    #[arg(long, default_value_t = 5_000)]
    routes: usize,
    /// AIBackends
    #[arg(long, default_value_t = 500)]
    backends: usize,
    /// AIQuotas of one route, with two limits each
    #[arg(long, default_value_t = 2_000)]
    quotas: usize,
    /// AIQuotas of the platform, for every route
    #[arg(long, default_value_t = 20)]
    platform: usize,
    /// Secrets of consumers; a route selects those of its namespace
    #[arg(long, default_value_t = 20_000)]
    keys: usize,
    /// Namespaces that share all of them
    #[arg(long, default_value_t = 100)]
    namespaces: usize,
    /// Changes to measure
    #[arg(long, default_value_t = 300)]
    changes: usize,
}

/// The installation's namespace.
const OWN: &str = "tundish-system";

/// The steps of a change, in order.
const STEPS: [&str; 5] = [
    "operator: compile",
    "operator: publish",
    "proxy: read and apply the delta",
    "proxy: decode",
    "proxy: table",
];

/// An operator and a proxy.
struct Pair {
    memo: Memo,
    settings: Settings,
    publisher: Publisher,
    revision: u64,
    /// What the publisher has sent.
    compiled: Compiled,
    sent: Objects,
    digest: String,
    /// What the proxy has.
    objects: Objects,
    decoded: Decoded,
    table: Arc<Table>,
    /// Bytes of all deltas.
    bytes: usize,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    let per = |count: usize| count.checked_div(args.namespaces).unwrap_or_default();
    ensure!(
        per(args.routes) > 0 && per(args.backends) > 0,
        "too few for these namespaces"
    );
    let own = std::process::id();
    let empty = process::resident(own)?;
    let mut pair = Pair::new(args)?;
    let full = process::resident(own)?;
    for kind in ["AIRoute", "AIBackend", "AIQuota", "Secret"] {
        pair.bytes = 0;
        let mut took: [Vec<Duration>; STEPS.len()] = [const { Vec::new() }; STEPS.len()];
        for change in 0..args.changes {
            let object = changed(kind, change, args);
            for (all, one) in took.iter_mut().zip(pair.change(object)?) {
                all.push(one);
            }
        }
        print(kind, took, pair.bytes.checked_div(args.changes));
    }
    let now = process::resident(own)?;
    line(&format!(
        "\nobjects, operator and proxy together: {:.0} MB, {:.0} MB after the changes",
        mega(full.saturating_sub(empty)),
        mega(now.saturating_sub(empty)),
    ));
    Ok(())
}

/// Prints the times of the changes of one kind.
fn print(kind: &str, took: [Vec<Duration>; STEPS.len()], bytes: Option<usize>) {
    line(&format!(
        "\none changed {kind}, a delta of {} bytes:\n\n| step | p50 ms | p99 ms |\n|---|---|---|",
        bytes.unwrap_or_default()
    ));
    for (step, mut took) in STEPS.into_iter().zip(took) {
        took.sort_unstable();
        let at = |share: usize| took.get(took.len().saturating_sub(1) * share / 100);
        let millis = |share: usize| at(share).map_or(0.0, |one| one.as_secs_f64() * 1e3);
        line(&format!(
            "| {step} | {:.2} | {:.2} |",
            millis(50),
            millis(99)
        ));
    }
}

/// An object that is there already, with something else in it.
fn changed(kind: &str, change: usize, args: &Args) -> Value {
    let per = |count: usize| {
        count
            .checked_div(args.namespaces)
            .unwrap_or_default()
            .max(1)
    };
    let namespace = change % args.namespaces;
    let number = |count: usize| change * 7 % per(count);
    match kind {
        "AIBackend" => backend(namespace, number(args.backends), &format!("gpt-{change}")),
        "AIQuota" => quota(namespace, number(args.quotas), change.saturating_add(1)),
        "Secret" => key(namespace, number(args.keys), &format!("change-{change}")),
        _ => {
            let model = format!("change-{change}");
            route(namespace, number(args.routes), (&model, per(args.backends)))
        }
    }
}

// === impl Pair ===

impl Pair {
    fn new(args: &Args) -> Result<Self> {
        let empty = process::resident(std::process::id())?;
        let mut memo = Memo::default();
        for namespace in 0..args.namespaces {
            fill(&mut memo, args, namespace)?;
        }
        for number in 0..args.platform {
            put(&mut memo, of_platform(number))?;
        }
        let settings = Settings {
            own_namespace: OWN.to_owned(),
            grants_served: true,
            gateways: None,
            tenants: Tenants::OfRoutes,
            host_grants: Vec::new(),
            identity_grants: IdentityGrants::All,
            secrets: Secrets::All,
            reach: Reach::default(),
            backend_hosts: Vec::new(),
            today: Day::at(0),
        };
        let begun = clock::instant();
        let compiled = memo.compile(&settings);
        let since = |begun| {
            clock::instant()
                .saturating_duration_since(begun)
                .as_secs_f64()
                * 1e3
        };
        line(&format!("first compile: {:.0} ms", since(begun)));
        let publisher = Publisher::new(Features::KNOWN, Metrics::default());
        let published = publisher.publish(1, &compiled.contents);
        let resident = process::resident(std::process::id())?;
        line(&format!(
            "objects and operator: {:.0} MB",
            mega(resident.saturating_sub(empty))
        ));
        let objects = v1::encode(&compiled.contents);
        let snapshot = Line::Snapshot(Snapshot {
            version: v1::VERSION,
            revision: 1,
            digest: published.digest.to_string(),
            replicas: 1,
            objects: objects.clone(),
        });
        let bytes = snapshot.to_bytes()?;
        drop(snapshot);
        let begun = clock::instant();
        let Line::Snapshot(snapshot) = Line::parse(&bytes)? else {
            bail!("not a snapshot");
        };
        let received = snapshot.verified()?;
        let (none, nothing) = (Objects::default(), Decoded::default());
        let decoded = v1::decode_reusing(&received, Features::KNOWN, &none, &nothing)?;
        let table = Arc::new(Table::new(decoded.contents.clone()));
        line(&format!(
            "a table of {} entries and {:.1} MB is live {:.0} ms after its receipt",
            received.len(),
            mega(u64::try_from(bytes.len())?),
            since(begun)
        ));
        Ok(Self {
            memo,
            settings,
            revision: 1,
            publisher,
            compiled,
            sent: objects,
            digest: published.digest.to_string(),
            objects: received,
            decoded,
            table,
            bytes: 0,
        })
    }

    /// Carries one changed object through, and gives the time of each step.
    fn change(&mut self, object: Value) -> Result<[Duration; STEPS.len()]> {
        put(&mut self.memo, object)?;
        self.revision = self.revision.saturating_add(1);
        let revision = self.revision;
        let begun = clock::instant();
        let mut compiled = self.memo.compile(&self.settings);
        let done_compile = clock::instant();
        let published = self.publisher.publish(revision, &compiled.contents);
        let done_publish = clock::instant();

        // The publisher does the same, and keeps it.
        compiled.contents.share(&self.compiled.contents);
        let (contents, before) = (&compiled.contents, &self.compiled.contents);
        let sent = v1::encode_reusing(contents, Features::KNOWN, before, &self.sent);
        let (changed, removed) = v1::diff(&self.sent, &sent);
        let (changed, edited) = v1::edited(&self.sent, changed);
        let delta = Line::Delta(Delta {
            base: self.digest.clone(),
            revision,
            digest: published.digest.to_string(),
            replicas: 1,
            changed,
            edited,
            removed,
        });
        let bytes = delta.to_bytes()?;
        self.bytes = self.bytes.saturating_add(bytes.len());

        let received = clock::instant();
        let Line::Delta(delta) = Line::parse(&bytes)? else {
            bail!("not a delta");
        };
        let objects = v1::apply(&self.objects, &self.digest, &delta)?;
        let applied = clock::instant();
        let decoded = v1::decode_reusing(&objects, Features::KNOWN, &self.objects, &self.decoded)?;
        let read = clock::instant();
        let table = Arc::new(Table::after(&self.table, decoded.contents));
        self.decoded = Decoded {
            contents: table.contents().clone(),
            unsupported: decoded.unsupported,
        };
        self.table = table;
        let live = clock::instant();
        (self.compiled, self.sent, self.objects) = (compiled, sent, objects);
        self.digest = delta.digest;
        Ok([
            done_compile.saturating_duration_since(begun),
            done_publish.saturating_duration_since(done_compile),
            applied.saturating_duration_since(received),
            read.saturating_duration_since(applied),
            live.saturating_duration_since(read),
        ])
    }
}

/// Puts the objects of one namespace.
fn fill(memo: &mut Memo, args: &Args, namespace: usize) -> Result<()> {
    let per = |count: usize| count.checked_div(args.namespaces).unwrap_or_default();
    for number in 0..per(args.backends) {
        put(memo, backend(namespace, number, "gpt-5"))?;
    }
    for number in 0..per(args.routes) {
        let model = format!("model-{number}");
        let object = route(namespace, number, (&model, per(args.backends)));
        put(memo, object)?;
    }
    for number in 0..per(args.quotas) {
        put(memo, quota(namespace, number, 100_000))?;
    }
    for number in 0..per(args.keys) {
        put(memo, key(namespace, number, "key"))?;
    }
    Ok(())
}

fn backend(namespace: usize, number: usize, model: &str) -> Value {
    let spec = json!({
        "type": "Foundry",
        "endpoint": format!("https://b{number}-{namespace}.services.ai.azure.com"),
        "auth": {"type": "WorkloadIdentity"},
        "deployments": [{"name": "gpt-4o", "model": "gpt-4o"}, {"name": "gpt-5", "model": model}],
    });
    object("AIBackend", namespace, &format!("b-{number}"), &spec)
}

fn quota(namespace: usize, number: usize, tokens: usize) -> Value {
    let spec = json!({
        "targetRefs": [{"kind": "AIRoute", "name": format!("route-{number}")}],
        "limits": [
            {"name": "minute", "unit": "Tokens", "limit": tokens, "window": "Minute"},
            {"name": "day", "unit": "Requests", "limit": 10_000, "window": "Day"},
        ],
    });
    object("AIQuota", namespace, &format!("q-{number}"), &spec)
}

/// Limits each consumer of the gateway.
fn of_platform(number: usize) -> Value {
    json!({
        "apiVersion": "tundish.dev/v1alpha1",
        "kind": "AIQuota",
        "metadata": {"namespace": OWN, "name": format!("tier-{number}"), "generation": 1},
        "spec": {
            "per": ["Consumer"],
            "match": {"models": ["gpt-*"]},
            "limits": [{"name": "day", "unit": "Tokens", "limit": 1_000_000, "window": "Day"}],
        },
    })
}

fn key(namespace: usize, number: usize, text: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "namespace": format!("team-{namespace}"),
            "name": format!("consumer-{number}"),
            "labels": {"tundish.dev/keys": "chat"},
        },
        "stringData": {"key": format!("{text}-{namespace}-{number}")},
    })
}

fn route(namespace: usize, number: usize, (model, backends): (&str, usize)) -> Value {
    let backend = |number: usize| format!("b-{}", number.checked_rem(backends).unwrap_or_default());
    let spec = json!({
        "hostnames": [format!("team-{namespace}.example.com")],
        "authentication": {"apiKeys": {"secretSelector": {"matchLabels": {"tundish.dev/keys": "chat"}}}},
        "rules": [
            {
                "name": "chat",
                "matches": [{"models": [model]}],
                "backendRefs": [
                    {"name": backend(number), "deployment": "gpt-4o"},
                    {"name": backend(number + 1), "deployment": "gpt-4o", "priority": 1},
                ],
            },
            {
                "name": "embed",
                "matches": [{"models": [format!("embed-{number}")]}],
                "backendRefs": [{"name": backend(number)}],
            },
        ],
    });
    object("AIRoute", namespace, &format!("route-{number}"), &spec)
}

fn object(kind: &str, namespace: usize, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "tundish.dev/v1alpha1",
        "kind": kind,
        "metadata": {"namespace": format!("team-{namespace}"), "name": name, "generation": 1},
        "spec": spec,
    })
}

fn put(memo: &mut Memo, object: Value) -> Result<()> {
    let word = |field: &str| object.get(field).and_then(Value::as_str).map(str::to_owned);
    let (kind, version) = word("kind").zip(word("apiVersion")).context("no kind")?;
    let decoded = decode(&kind, &version, object)?;
    memo.apply(decoded.context("the kind is not compiled")?);
    Ok(())
}
