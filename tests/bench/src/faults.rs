//! What callers notice of a backend that fails beside one that works, for each kind of failure: errors, tries at
//! the failing one, and latency. Fails if a promise of docs/balancing.md is broken.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use futures::future::join_all;
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_admin::pages::backends::BackendsPage;
use tests_support::{Process, binary, free_port, http};
use tokio::time::sleep;

use crate::page::{self, Section, line, progress};
use crate::process::{open_files, runtime};

mod backends;
mod callers;
mod front;
mod kinds;

use backends::Pair;
use callers::{Calls, Load};
use kinds::{How, Kind, Layout, kinds};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// All kinds at once, with fewer calls, and without a look at latency or recovery
    #[arg(long)]
    quick: bool,
    /// Only the kinds whose name has this in it
    #[arg(long)]
    only: Option<String>,
    /// Seconds of each kind
    #[arg(long, default_value_t = 8)]
    seconds: u64,
}

const LIMIT: Duration = Duration::from_secs(30);
/// The fault proxy has done what it is set to.
const SETTLED: Duration = Duration::from_millis(300);
/// Between two looks at the page of backends.
const LOOKS: Duration = Duration::from_millis(200);
/// Until then a gateway may learn what fails.
const LEARNT: Duration = Duration::from_secs(2);
/// Tries a second that an endpoint may get that is out: one, and the chance of two in a short look.
const TRIES: f64 = 1.5;
/// An endpoint that works again has its whole share after this time.
const RECOVERED: Duration = Duration::from_secs(10);
/// What a person must mend is not tried for this time.
const RESTS: Duration = Duration::from_secs(30);
/// The clients of one kind and the pause between their calls: about 290 calls a second.
const CLIENTS: usize = 30;
const PAUSE: Duration = Duration::from_millis(100);

/// Why the bad one was out, and the causes.
type Shown = BTreeSet<(String, String)>;

/// One kind in one layout, and what came of it.
struct Row {
    kind: Kind,
    layout: Layout,
    calls: Calls,
    /// At the failing backend: all, and a second once the gateway has learnt.
    tries: u64,
    tries_later: f64,
    /// From the end of the fault to the whole share.
    recovery: Option<Duration>,
    shown: Shown,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    open_files(16_384)?;
    runtime(2)?.block_on(measure(args))
}

async fn measure(args: &Args) -> Result<()> {
    let wanted = |kind: &Kind| {
        args.only
            .as_ref()
            .is_none_or(|only| kind.name.contains(only))
    };
    let kinds: Vec<Kind> = kinds().into_iter().filter(wanted).collect();
    let both = [Layout::First, Layout::Beside];
    let cases = kinds
        .iter()
        .flat_map(|kind| both.map(|layout| (kind.clone(), layout)));
    let rows = if args.quick {
        // Every kind, in one layout each.
        let cases = cases
            .enumerate()
            .filter(|(index, _)| index % 4 == 0 || index % 4 == 3);
        let cases: Vec<_> = cases.map(|(_, case)| case).collect();
        let load = Load {
            clients: 6,
            pause: Duration::from_millis(300),
            time: Duration::from_secs(args.seconds),
        };
        gateway(cases, load, false).await?
    } else {
        let mut rows = Vec::new();
        let load = Load {
            clients: CLIENTS,
            pause: PAUSE,
            time: Duration::from_secs(args.seconds),
        };
        for (kind, layout) in cases {
            progress(&format!("{} ({layout:?})", kind.name));
            rows.extend(gateway(vec![(kind, layout)], load, true).await?);
        }
        rows
    };
    line(&page::markdown("##", "", &[section(&rows)]));
    let broken: Vec<String> = rows.iter().flat_map(Row::broken).collect();
    if !broken.is_empty() {
        bail!("broken promises:\n{}", broken.join("\n"));
    }
    Ok(())
}

/// One `tundish run` before these cases, all at once.
async fn gateway(cases: Vec<(Kind, Layout)>, load: Load, recovers: bool) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests)?;
    let mut pairs = Vec::new();
    for (index, (kind, layout)) in cases.into_iter().enumerate() {
        let pair = Pair::start(index, kind, layout).await?;
        std::fs::write(manifests.join(format!("{index}.yaml")), pair.manifests())?;
        pairs.push(pair);
    }
    std::fs::write(manifests.join("keys.yaml"), backends::KEYS)?;
    let (port, admin) = (free_port()?, free_port()?);
    let mut command = Command::new(binary("tundish")?);
    command
        .args(["run", "--no-access-log", "--manifests"])
        .arg(&manifests)
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .args(["--admin", &format!("127.0.0.1:{admin}")]);
    let mut process = Process::spawn("tundish", &mut command, folder.path())?;
    let ready = format!("http://127.0.0.1:{admin}/readyz");
    process.wait_for_http(&ready, LIMIT).await?;
    let url = format!("http://127.0.0.1:{port}");
    let rows = join_all(
        pairs
            .into_iter()
            .map(|pair| row(pair, &url, admin, load, recovers)),
    )
    .await;
    rows.into_iter().collect()
}

async fn row(pair: Pair, url: &str, admin: u16, load: Load, recovers: bool) -> Result<Row> {
    pair.begin()?;
    sleep(SETTLED).await;
    let began = clock::instant();
    let learnt = async {
        sleep(LEARNT).await;
        pair.tries()
    };
    let fault = pair.keep_up();
    let shown = Mutex::default();
    let watched = watch(&pair, admin, &shown);
    let measured = async { tokio::join!(callers::run(url, &pair, load), learnt) };
    let (calls, at_learnt) = tokio::select! {
        measured = measured => measured,
        error = fault => bail!("the fault ended: {error:?}"),
        error = watched => bail!("the page of backends: {error:?}"),
    };
    let calls = calls?;
    let rest = clock::instant().saturating_duration_since(began + LEARNT);
    let tries = pair.tries();
    let later = u32::try_from(tries.saturating_sub(at_learnt)).unwrap_or(u32::MAX);
    let recovery = if recovers && pair.can_recover() {
        Some(recovery(&pair, url, load).await?)
    } else {
        None
    };
    Ok(Row {
        kind: pair.kind,
        layout: pair.layout,
        calls,
        tries,
        tries_later: f64::from(later) / rest.as_secs_f64(),
        recovery,
        shown: shown.into_inner(),
    })
}

/// Keeps the reasons and causes for which the page of backends has the bad one out, for ever.
async fn watch(pair: &Pair, admin: u16, shown: &Mutex<Shown>) -> anyhow::Error {
    let url = format!("http://127.0.0.1:{admin}/backends");
    loop {
        sleep(LOOKS).await;
        let page = match http::get(&url).await {
            Ok(answer) => serde_json::from_slice::<BackendsPage>(&answer.body),
            Err(error) => return error,
        };
        let page = match page {
            Ok(page) => page,
            Err(error) => return anyhow!(error),
        };
        let bad = page.deployments.into_iter();
        let bad = bad.filter(|one| one.backend == pair.bad() && !one.reason.is_empty());
        shown.lock().extend(bad.map(|one| (one.reason, one.cause)));
    }
}

/// From the end of the fault to the whole share of the backend.
async fn recovery(pair: &Pair, url: &str, load: Load) -> Result<Duration> {
    pair.end()?;
    let ended = clock::instant();
    let short = Load {
        time: Duration::from_secs(1),
        ..load
    };
    loop {
        let (first, other) = pair.asked();
        callers::run(url, pair, short).await?;
        let (first, other) = (pair.asked().0 - first, pair.asked().1 - other);
        let is_whole = match pair.layout {
            Layout::First => other == 0 && first > 0,
            Layout::Beside => first * 10 >= other * 8,
        };
        let waited = clock::instant().saturating_duration_since(ended);
        if is_whole {
            return Ok(waited);
        }
        if waited > LIMIT {
            bail!("{} ({:?}) does not come back", pair.kind.name, pair.layout);
        }
    }
}

impl Row {
    /// What it promises, and does not keep.
    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let name = format!("{} ({:?})", self.kind.name, self.layout);
        let Calls { ok, failed, .. } = &self.calls;
        if failed.len() > self.kind.may_lose {
            let (lost, may) = (failed.len(), self.kind.may_lose);
            let first = failed.first().map_or("", String::as_str);
            broken.push(format!(
                "{name}: {lost} of {} lost, {may} allowed: {first}",
                ok + lost
            ));
        }
        if self.kind.goes_out.is_some() && self.tries_later > TRIES {
            broken.push(format!("{name}: {:.1} tries a second", self.tries_later));
        }
        let is_meant = |(reason, cause): &(String, String)| {
            let meant = self.kind.goes_out;
            meant.is_some_and(|(word, part)| reason == word && cause.contains(part))
        };
        let comes_and_goes = matches!(self.kind.how, How::Sometimes(_) | How::SometimesCut(_));
        let is_out = self.kind.goes_out.is_some();
        let is_wrong = self.shown.is_empty() == is_out || !self.shown.iter().all(is_meant);
        if is_wrong && !comes_and_goes {
            broken.push(format!("{name}: out for {:?}", self.shown));
        }
        let rest = if self.kind.is_lasting {
            RESTS
        } else {
            Duration::ZERO
        };
        let most = RECOVERED + LEARNT + rest;
        if let Some(recovery) = self.recovery.filter(|recovery| *recovery > most) {
            broken.push(format!("{name}: back after {recovery:?}"));
        }
        broken
    }

    fn cells(&self) -> Vec<String> {
        let Calls {
            ok, failed, later, ..
        } = &self.calls;
        let micros = |share| later.micros(share);
        let ms = |micros: u64| format!("{}.{}", micros / 1_000, micros % 1_000 / 100);
        let recovery = self
            .recovery
            .map_or_else(|| "-".to_owned(), |one| format!("{:.1}", one.as_secs_f64()));
        vec![
            self.kind.name.to_owned(),
            match self.layout {
                Layout::First => "first".to_owned(),
                Layout::Beside => "1:1".to_owned(),
            },
            (ok + failed.len()).to_string(),
            failed.len().to_string(),
            self.tries.to_string(),
            format!("{:.1}", self.tries_later),
            format!("{}, {}", ms(micros(0.5)), ms(micros(0.99))),
            recovery,
        ]
    }
}

fn section(rows: &[Row]) -> Section {
    Section {
        title: "A backend that fails beside one that works",
        text: format!(
            "{CLIENTS} clients, each with {} ms between its calls, in front of two backends of which one fails, in \
             a tier before the other or beside it with the same weight. Everything else is as by default. Lost: \
             any answer but 200, and any that is not whole. Tries: requests or connections at the failing one, \
             all, and a second from the third second on. Latencies in milliseconds, p50 and p99, from the second \
             second on. Back: seconds from the end of the fault to the whole share.",
            PAUSE.as_millis()
        ),
        header: vec![
            "fault", "layout", "calls", "lost", "tries", "tries/s", "p50, p99", "back",
        ],
        rows: rows.iter().map(Row::cells).collect(),
    }
}
