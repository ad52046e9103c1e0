//! `tundish run`: the operator's compile and the proxy's gateway in one process.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use operator_compile::Severity;
use prometheus_client::registry::Registry;
use proxy::app::{App, Sink};
use proxy::runtime;
use proxy_admin::shutdown::Shutdown;
use proxy_admin::task;
use proxy_admin::telemetry::Log;
use proxy_core::table::Table;
use tracing::{error, info, warn};

use crate::args::RunArgs;
use crate::manifests::{Finding, Folder};

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
    let mut follower = Follower {
        folder: Folder::new(&args.manifests, &args.namespace.name),
        live: None,
        logged: Vec::new(),
    };
    follower.folder.refresh()?;
    let app = App::start(
        args.gateway.config("run", log),
        args.observability.admin,
        Registry::with_prefix("tundish"),
    )
    .await?;
    let sink = app.sink();
    sink.share_among(args.replicas);
    follower.put_in_force(&sink);
    info!(
        address = %app.address(),
        manifests = %args.manifests.display(),
        "serving; GET /v1/models lists what a key can reach"
    );
    task::spawn("manifests", follower.follow(sink, app.shutdown.clone()));
    app.run().await
}

struct Follower {
    folder: Folder,
    live: Option<Arc<Table>>,
    /// Findings that were logged, and still hold.
    logged: Vec<Finding>,
}

impl Follower {
    async fn follow(mut self, sink: Sink, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LIST_EVERY) => {}
                () = shutdown.requested() => return,
            }
            match self.folder.refresh() {
                Ok(true) => self.put_in_force(&sink),
                Ok(false) => {}
                // Renamed or unmounted for a moment: the table stays.
                Err(error) => warn!("{error:#}; keeping what is in force"),
            }
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
        self.logged = outcome.findings;
        let contents = outcome.compiled.contents;
        let live = self.live.as_deref();
        if live.is_some_and(|live| *live.contents() == contents) {
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
