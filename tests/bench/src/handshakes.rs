//! `make bench-handshakes`: what a TLS handshake of a client costs, full and resumed, beside nginx.
//!
//! A connection is opened, shaken hands on and closed. CPU of the process under test is counted, as for
//! requests, so the generator may be slower than what it measures.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use proxy_admin::clock;
use tests_support::binary;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{HandshakeKind, SupportedProtocolVersion, version};

use crate::certificate::NAME;
use crate::figures::{float, ratios, spread};
use crate::page::{line, progress, table};
use crate::process::{cpu, open_files, rest, runtime};
use crate::subject::{Running, Settings, Stage, Subject, Upstream, missing};

/// Connections at once, so that the process under test is never idle.
const CLIENTS: usize = 8;
/// Closed connections linger for a minute.
const FILES: u64 = 16_384;

const HEADER: [&str; 5] = [
    "handshake",
    "row",
    "CPU-us",
    "x nginx",
    "handshakes/s of a core",
];

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Rounds; the rows of a round are interleaved, the median of the rounds is shown
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The gateway to measure
    #[arg(long, value_name = "PATH")]
    tundish: Option<PathBuf>,
}

/// A kind of handshake.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    version: &'static SupportedProtocolVersion,
    resumes: bool,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "TLS 1.3, full",
        version: &version::TLS13,
        resumes: false,
    },
    Kind {
        name: "TLS 1.3, resumed",
        version: &version::TLS13,
        resumes: true,
    },
    Kind {
        name: "TLS 1.2, full",
        version: &version::TLS12,
        resumes: false,
    },
    Kind {
        name: "TLS 1.2, resumed",
        version: &version::TLS12,
        resumes: true,
    },
];

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    let absent = missing(&[("nginx", "-v")]);
    ensure!(
        absent.is_empty(),
        "not installed: {absent:?}; on Debian or Ubuntu: apt-get install nginx"
    );
    open_files(FILES)?;
    let program = match &args.tundish {
        Some(path) => path.clone(),
        None => binary("tundish")?,
    };
    let rows = runtime(1)?.block_on(measure(args, &program))?;
    line(&table(&HEADER, &rows));
    Ok(())
}

async fn measure(args: &Args, program: &Path) -> Result<Vec<Vec<String>>> {
    let stage = Stage::start().await?;
    let front = Subject::Nginx {
        upstream: Upstream::Plain,
        front: true,
    };
    let nginx = stage.run(front, program, &[]).await?;
    let settings = Settings {
        front: true,
        ..Settings::PLAIN
    };
    let tundish = stage.run(Subject::Tundish(settings), program, &[]).await?;
    let time = Duration::from_secs(args.seconds);
    let mut rows = Vec::new();
    for kind in KINDS {
        let (mut of_nginx, mut of_tundish) = (Vec::new(), Vec::new());
        for round in 0..args.rounds {
            progress(&format!("[bench] {}, round {}", kind.name, round + 1));
            of_nginx.push(sample(&stage, &nginx, kind, time).await?);
            of_tundish.push(sample(&stage, &tundish, kind, time).await?);
        }
        for (name, costs) in [("nginx", &of_nginx), ("tundish", &of_tundish)] {
            let speeds: Vec<f64> = costs.iter().map(|cost| 1_000_000.0 / cost).collect();
            rows.push(vec![
                kind.name.to_owned(),
                name.to_owned(),
                spread(costs, 0),
                spread(&ratios(costs, &of_nginx), 2),
                spread(&speeds, 0),
            ]);
        }
    }
    Ok(rows)
}

/// Microseconds of CPU of a subject for each handshake.
async fn sample(stage: &Stage, running: &Running, kind: Kind, time: Duration) -> Result<f64> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = Client::new(stage, running, kind)?;
        // Brings the ticket of the next one.
        client.handshake().await?;
        clients.push(client);
    }
    rest(running.id).await?;
    let before = cpu(running.id)?;
    let end = clock::instant() + time;
    let all = clients.into_iter().map(|client| client.until(end));
    let count: u64 = futures::future::try_join_all(all).await?.iter().sum();
    ensure!(count > 0, "no handshake in time");
    let used = cpu(running.id)?.saturating_sub(before);
    Ok(used.as_secs_f64() * 1_000_000.0 / float(count))
}

/// Makes one connection after the other.
struct Client {
    connector: TlsConnector,
    target: std::net::SocketAddr,
    expect: HandshakeKind,
}

impl Client {
    fn new(stage: &Stage, running: &Running, kind: Kind) -> Result<Self> {
        let mut config = stage.certificate.client(&[kind.version])?;
        if !kind.resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            target: running.target,
            expect: if kind.resumes {
                HandshakeKind::Resumed
            } else {
                HandshakeKind::Full
            },
        })
    }

    async fn until(self, end: Instant) -> Result<u64> {
        let mut count = 0;
        while clock::instant() < end {
            let kind = self.handshake().await?;
            ensure!(kind == self.expect, "a handshake was {kind:?}");
            count += 1;
        }
        Ok(count)
    }

    async fn handshake(&self) -> Result<HandshakeKind> {
        let stream = TcpStream::connect(self.target).await.context("connect")?;
        let name = ServerName::try_from(NAME).context("a name")?;
        let mut stream = self
            .connector
            .connect(name, stream)
            .await
            .context("shake hands")?;
        let kind = stream.get_ref().1.handshake_kind().context("it is over")?;
        stream.shutdown().await.context("close")?;
        // Tickets come before the end.
        stream.read_to_end(&mut Vec::new()).await.ok();
        Ok(kind)
    }
}
