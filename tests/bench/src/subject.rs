//! What is measured: the backend alone, a bare proxy, peers, and the gateway in several settings.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tests_foundry::{AccessToken, Sim};
use tests_support::{Process, eventually_ok, free_port};
use tokio::net::TcpStream;

use crate::certificate::Certificate;
use crate::load::Target;

mod manifests;
mod peers;

pub(crate) use self::manifests::{LIMITS, limit};
pub(crate) use self::peers::missing;

/// How long a process may take to become ready: valgrind makes it fifty times slower.
const START: Duration = Duration::from_secs(60);

/// What is spoken to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    Plain,
    /// TLS, and the backend offers HTTP/1.1 alone.
    Http1,
    /// TLS, and the backend offers HTTP/2 alone.
    Http2,
}

/// The settings of the gateway. All of them check a key, count for metrics and enforce limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) log: bool,
    pub(crate) limits: usize,
    pub(crate) upstream: Upstream,
    /// Clients speak TLS.
    pub(crate) front: bool,
    pub(crate) credential: Credential,
}

/// What clients show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    Key,
    /// A token of a simulated Entra, the same for each request.
    Token,
}

impl Settings {
    /// Plain HTTP on both sides, one limit, no access log.
    pub(crate) const PLAIN: Self = Self {
        log: false,
        limits: 1,
        upstream: Upstream::Plain,
        front: false,
        credential: Credential::Key,
    };
}

/// A way for a request from the generator to the backend.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    /// No proxy; what is measured is the backend.
    Direct,
    Bare,
    Nginx {
        upstream: Upstream,
        front: bool,
    },
    HaProxy,
    Tundish(Settings),
}

/// A subject that takes requests.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) id: u32,
    pub(crate) target: SocketAddr,
    /// The header line with the credential that it expects.
    pub(crate) header: String,
    process: Option<Process>,
}

impl Running {
    /// Throws away what it has logged so far: a run of all rounds would fill the disk.
    pub(crate) fn forget_log(&self) -> Result<()> {
        if let Some(process) = &self.process {
            let file = std::fs::File::options()
                .write(true)
                .open(process.log_file());
            file.and_then(|file| file.set_len(0))
                .context("empty a log")?;
        }
        Ok(())
    }
}

/// The folder, the certificate and the backends that all subjects share.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) certificate: Certificate,
    backends: Vec<(Upstream, SocketAddr, Process)>,
    /// Issues the tokens of callers.
    entra: Sim,
    /// Dropped last: logs are in it.
    folder: TempDir,
}

impl Stage {
    pub(crate) async fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("tundish-bench-")?;
        let certificate = Certificate::write(folder.path())?;
        let mut backends = Vec::new();
        for upstream in [Upstream::Plain, Upstream::Http1, Upstream::Http2] {
            let address = local()?;
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["backend", "--listen", &address.to_string()]);
            let alpn = match upstream {
                Upstream::Plain => None,
                Upstream::Http1 => Some("http/1.1"),
                Upstream::Http2 => Some("h2"),
            };
            if let Some(alpn) = alpn {
                command.arg("--tls-cert").arg(&certificate.file);
                command.arg("--tls-key").arg(&certificate.key);
                command.args(["--alpn", alpn]);
            }
            let name = format!("backend-{upstream:?}");
            let mut process = Process::spawn(&name, &mut command, folder.path())?;
            listens(&mut process, address).await?;
            backends.push((upstream, address, process));
        }
        Ok(Self {
            certificate,
            backends,
            entra: Sim::start(&tests_foundry::Config::default())?,
            folder,
        })
    }

    /// The folder for what a measurement writes.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address of a subject, for the generator.
    pub(crate) fn target(&self, subject: Subject, running: &Running) -> Result<Target> {
        let tls = match subject {
            Subject::Nginx { front: true, .. } | Subject::Tundish(Settings { front: true, .. }) => {
                Some(self.certificate.connector()?)
            }
            Subject::Direct
            | Subject::Bare
            | Subject::Nginx { .. }
            | Subject::HaProxy
            | Subject::Tundish(_) => None,
        };
        Ok(Target {
            address: running.target,
            tls,
        })
    }

    /// Starts a subject below `wrapper`, a command line that runs another (valgrind). `program` is the
    /// gateway's.
    pub(crate) async fn run(
        &self,
        subject: Subject,
        program: &Path,
        wrapper: &[String],
    ) -> Result<Running> {
        let target = local()?;
        let (name, mut command) = match subject {
            Subject::Direct => {
                let (address, process) = self.backend(Upstream::Plain)?;
                return Ok(Running {
                    id: process.id(),
                    target: address,
                    header: BACKEND_KEY.to_owned(),
                    process: None,
                });
            }
            Subject::Tundish(settings) => return self.tundish(settings, program, wrapper).await,
            Subject::Bare => {
                let (upstream, _) = self.backend(Upstream::Plain)?;
                let mut command = wrapped(wrapper, &std::env::current_exe()?);
                command.args(["bare", "--listen", &target.to_string()]);
                command.args(["--upstream", &upstream.to_string()]);
                ("bare", command)
            }
            Subject::Nginx { upstream, front } => {
                let (backend, _) = self.backend(upstream)?;
                let folder = self.fresh("nginx", target)?;
                let front = front.then_some(&self.certificate);
                let over = (upstream != Upstream::Plain).then_some(&self.certificate);
                (
                    "nginx",
                    peers::nginx(&folder, (target, front), (backend, over))?,
                )
            }
            Subject::HaProxy => {
                let (backend, _) = self.backend(Upstream::Plain)?;
                let folder = self.fresh("haproxy", target)?;
                ("haproxy", peers::haproxy(&folder, target, backend)?)
            }
        };
        let name = format!("{name}-{}", target.port());
        let mut process = Process::spawn(&name, &mut command, self.folder())?;
        listens(&mut process, target).await?;
        Ok(Running {
            id: process.id(),
            target,
            header: BACKEND_KEY.to_owned(),
            process: Some(process),
        })
    }

    async fn tundish(
        &self,
        settings: Settings,
        program: &Path,
        wrapper: &[String],
    ) -> Result<Running> {
        let (target, admin) = (local()?, local()?);
        let manifests = self.fresh("manifests", target)?;
        let (backend, _) = self.backend(settings.upstream)?;
        let authority = match settings.upstream {
            Upstream::Plain => None,
            Upstream::Http1 | Upstream::Http2 => Some(self.certificate.pem()?),
        };
        let (issuer, header) = match settings.credential {
            Credential::Key => (None, manifests::KEY.to_owned()),
            Credential::Token => {
                let wanted = AccessToken {
                    version: Some(1),
                    ..AccessToken::default()
                };
                let token = self.entra.access_token(&wanted)?;
                let header = format!("authorization: Bearer {token}");
                (Some(self.entra.issuer(1)), header)
            }
        };
        let text = manifests::text(
            backend,
            authority.as_deref(),
            issuer.as_deref(),
            settings.limits,
        );
        std::fs::write(manifests.join("all.yaml"), text).context("write the manifests")?;
        let mut command = wrapped(wrapper, program);
        command.args(["run", "--threads", "1", "--listen", &target.to_string()]);
        command.args(["--admin", &admin.to_string(), "--manifests"]);
        command.arg(&manifests);
        if !settings.log {
            command.arg("--no-access-log");
        }
        if settings.front {
            command.arg("--tls-cert").arg(&self.certificate.file);
            command.arg("--tls-key").arg(&self.certificate.key);
        }
        let name = format!("tundish-{}", target.port());
        let mut process = Process::spawn(&name, &mut command, self.folder())?;
        let url = format!("http://{admin}/readyz");
        process.wait_for_http(&url, START).await?;
        Ok(Running {
            id: process.id(),
            target,
            header,
            process: Some(process),
        })
    }

    /// The address of the backend without TLS.
    pub(crate) fn plain(&self) -> Result<SocketAddr> {
        Ok(self.backend(Upstream::Plain)?.0)
    }

    fn backend(&self, wanted: Upstream) -> Result<(SocketAddr, &Process)> {
        let mut all = self.backends.iter();
        let (_, address, process) = all
            .find(|(upstream, _, _)| *upstream == wanted)
            .context("no such backend")?;
        Ok((*address, process))
    }

    fn fresh(&self, name: &str, target: SocketAddr) -> Result<PathBuf> {
        let folder = self.folder().join(format!("{name}-{}", target.port()));
        std::fs::create_dir(&folder).context("make a folder")?;
        Ok(folder)
    }
}

/// The credential of the backend, which the gateway adds itself.
const BACKEND_KEY: &str = "api-key: sim-key";

fn wrapped(wrapper: &[String], program: &Path) -> Command {
    match wrapper.split_first() {
        None => Command::new(program),
        Some((first, more)) => {
            let mut command = Command::new(first);
            command.args(more).arg(program);
            command
        }
    }
}

fn local() -> Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)))
}

async fn listens(process: &mut Process, address: SocketAddr) -> Result<()> {
    let what = format!("a listener on {address}");
    let listening = eventually_ok(&what, START, async || {
        if let Some(status) = process.ended()? {
            // The wait goes on, and its error has this text.
            bail!("it ended ({status}): {}", process.log());
        }
        TcpStream::connect(address).await.context("connect")
    });
    listening.await?;
    Ok(())
}
