//! `tundish run`: the operator's compile and the proxy's gateway in one process.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use operator_compile::Severity;
use prometheus_client::registry::Registry;
use proxy::app::{App, Sink};
use proxy::args::AzureLogin;
use proxy::runtime;
use proxy_admin::reminder::Reminder;
use proxy_admin::shutdown::Shutdown;
use proxy_admin::telemetry::Log;
use proxy_admin::{clock, task};
use proxy_core::reach::Allowance;
use proxy_core::table::Table;
use proxy_gateway::Config;
use tracing::{error, info, warn};

use crate::args::RunArgs;
use crate::manifests::{Change, Finding, Folder};

mod reloads;

use reloads::Reloads;

/// How often the folder is listed. Unlike a watch a listing works on every file system, and a change
/// takes effect well within a second.
const LIST_EVERY: Duration = Duration::from_millis(200);

/// Serves until a signal asks it to stop.
///
/// # Errors
/// The folder cannot be read, or a port cannot be opened.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let log = args.observability.log()?;
    runtime::block_on(serve(args, &log))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &RunArgs, log: &Log) -> Result<()> {
    let mut registry = Registry::with_prefix("tundish");
    let local = [Allowance::Loopback, Allowance::Cluster];
    let reach = args.gateway.reach.reach().with(local);
    let mut follower = Follower {
        folder: Folder::new(
            &args.manifests,
            &args.namespace.name,
            args.namespace.host_grants.clone(),
        )
        .with_backend_hosts(&args.namespace.backend_hosts)
        .with_reach(reach.clone()),
        live: None,
        logged: Vec::new(),
        is_without_objects: false,
        reminder: Reminder::default(),
        reloads: Reloads::register(&mut registry),
    };
    let change = follower.folder.follow(clock::instant())?;
    let mut config = Config {
        reach: Arc::new(reach),
        ..args.gateway.config("run", log)
    };
    config.identity.login = args.azure_login.map(AzureLogin::login);
    let app = App::start(config, &args.observability, registry).await?;
    let sink = app.sink();
    sink.share_among(args.replicas);
    follower.apply(Ok(change), &sink);
    info!(
        address = %app.address(),
        manifests = %args.manifests.display(),
        "serving; GET /v1/models lists what a key can reach"
    );
    task::spawn("manifests", follower.follow(sink, app.shutdown.clone()));
    let delay = args.gateway.drain_delay();
    app.run(delay).await.map(|_ending| ())
}

struct Follower {
    folder: Folder,
    live: Option<Arc<Table>>,
    /// Findings that were logged, and still hold.
    logged: Vec<Finding>,
    /// The folder has manifests, but none of our kinds.
    is_without_objects: bool,
    /// For the line that the folder has nothing.
    reminder: Reminder,
    reloads: Reloads,
}

impl Follower {
    async fn follow(mut self, sink: Sink, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LIST_EVERY) => {}
                () = shutdown.requested() => return,
            }
            let change = self.folder.follow(clock::instant());
            self.apply(change, &sink);
        }
    }

    /// Takes over a change. A folder that is gone, empty or without our objects is a mistake or a moment
    /// of a checkout: the last table stays, since an empty one would refuse every caller.
    fn apply(&mut self, change: Result<Change>, sink: &Sink) {
        let problem = match change {
            Ok(Change::Content) => {
                self.put_in_force(sink);
                None
            }
            Ok(Change::None) => None,
            Ok(Change::Emptied) => Some("the folder has no manifest".to_owned()),
            Err(error) => Some(format!("{error:#}")),
        };
        let without = "the folder has no AIBackend, AIRoute or AIQuota";
        let problem = problem.or_else(|| self.is_without_objects.then(|| without.to_owned()));
        self.reloads.looked(problem.is_none());
        let Some(problem) = problem else {
            if self.reminder.clear() {
                info!("the folder of manifests is back");
            }
            return;
        };
        if !self.reminder.is_due(clock::instant()) {
            return;
        }
        if self.live.is_some() {
            warn!("{problem}; keeping what is in force");
        } else {
            warn!("{problem}; not ready before it has");
        }
    }

    /// Compiles the folder and publishes its table if it changed.
    fn put_in_force(&mut self, sink: &Sink) {
        let outcome = self.folder.compile();
        for finding in &outcome.findings {
            if self.logged.contains(finding) {
                continue;
            }
            match finding.severity {
                Severity::Error => error!("{finding}"),
                Severity::Warning => warn!("{finding}"),
            }
        }
        self.reloads.found(&outcome.findings);
        self.logged = outcome.findings;
        self.is_without_objects = outcome.compiled.verdicts.is_empty();
        let contents = outcome.compiled.contents;
        let live = self.live.as_deref();
        let is_same = live.is_some_and(|live| *live.contents() == contents);
        if self.is_without_objects {
            return;
        }
        self.reloads.compiled(!is_same, clock::instant());
        if is_same {
            return;
        }
        info!(
            backends = contents.backends.len(),
            routes = contents.routes.len(),
            quotas = contents.quotas.len(),
            keys = contents.keys.len(),
            "table in force"
        );
        let table = Arc::new(match live {
            Some(live) => Table::after(live, contents),
            None => Table::new(contents),
        });
        sink.publish(Arc::clone(&table));
        self.live = Some(table);
    }
}
