//! A thousand connections that do nothing, and callers who come behind them: no one is turned away for a
//! connection without a request.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::NamedTempFile;
use tests_support::{Quickstart, http};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

/// More than there is room for: 341 on HTTP/1.1, 170 on HTTP/2.
const CROWD: usize = 1_000;
const BUDGET: &str = "16Mi";
/// The callers behind them.
const CALLERS: usize = 20;
/// A caller that waits longer may as well have been turned away.
const SOON: Duration = Duration::from_secs(1);
/// How soon a connection without a request counts as idle.
const IDLE: Duration = Duration::from_millis(2_500);

const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// HEADERS of `GET /`, as a whole and without an end.
const ASKS: &[u8] = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";
const BEGINS: &[u8] = b"\0\0\x03\x01\0\0\0\0\x01\x82\x86\x84";
/// A balancer that speaks for itself (PROXY protocol, version 2, LOCAL).
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A gateway with room for a third of the crowd, and how its callers begin.
struct Stage {
    quickstart: Quickstart,
    first: &'static [u8],
    tls: Option<TlsConnector>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Stage {
    async fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let command = |program: &Path| {
            let mut command = Command::new(program);
            command.env("TUNDISH_MEMORY_BUDGET", BUDGET);
            command.envs(settings.iter().copied());
            command
        };
        Ok(Self {
            quickstart: Quickstart::launch(&[], command).await?,
            first: b"",
            tls: None,
        })
    }

    fn address(&self) -> Result<&str> {
        let address = self.quickstart.gateway.strip_prefix("http://");
        address.context("plain HTTP")
    }

    /// Connections that have sent `bytes`, as far as they are still open.
    async fn crowd(&self, bytes: &[u8]) -> Result<Vec<TcpStream>> {
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            let mut stream = TcpStream::connect(self.address()?).await?;
            // It may be closed already for the next one.
            stream.write_all(bytes).await.ok();
            crowd.push(stream);
        }
        Ok(crowd)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>> {
        let mut stream = TcpStream::connect(self.address()?).await?;
        stream.set_nodelay(true)?;
        stream.write_all(self.first).await?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(
                tls.connect(ServerName::try_from("localhost")?, stream)
                    .await?,
            ),
        })
    }

    async fn ask(&self, is_http2: bool) -> Result<u16> {
        let mut stream = self.connect().await?;
        if is_http2 {
            return ask_http2(stream).await;
        }
        let head = "GET /v1/models HTTP/1.1\r\nhost: gw\r\napi-key: search-team-key\r\n\
                    connection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split(' ').nth(1).context("a status")?;
        Ok(status.parse()?)
    }

    /// Callers behind a crowd, one after the other: all of them are served, and soon.
    async fn callers(&self, crowd: &str) -> Result<()> {
        for caller in 0..CALLERS {
            // With TLS the protocol would have to be agreed on.
            let is_http2 = caller % 2 == 1 && self.tls.is_none();
            let began = Instant::now();
            let status = timeout(SOON, self.ask(is_http2)).await;
            let status = status.with_context(|| format!("{crowd}: caller {caller} waits"))?;
            let status = status.with_context(|| format!("{crowd}: caller {caller} is cut"))?;
            ensure!(status == 200, "{crowd}: {status} for caller {caller}");
            ensure!(
                began.elapsed() < SOON,
                "{crowd}: {caller} {:?}",
                began.elapsed()
            );
        }
        Ok(())
    }

    /// How many connections were turned away so far.
    async fn turned_away(&self) -> Result<usize> {
        let metrics = http::get(&format!("{}/metrics", self.quickstart.admin)).await?;
        let metrics = metrics.text();
        let name = "tundish_connections_turned_away_total ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.context("the counter")?.parse()?)
    }

    /// Callers behind each of these crowds.
    async fn serves_behind(&self, crowds: &[(&str, &[u8])]) -> Result<()> {
        for (name, bytes) in crowds {
            let crowd = self.crowd(bytes).await?;
            self.callers(name).await?;
            drop(crowd);
            ensure!(self.turned_away().await? == 0, "{name}");
        }
        Ok(())
    }
}

async fn ask_http2(stream: Box<dyn Stream>) -> Result<u16> {
    let (sender, connection) = h2::client::handshake(stream).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let request = ::http::Request::get("http://gw/v1/models")
        .header("api-key", "search-team-key")
        .body(())?;
    let (response, _) = sender.ready().await?.send_request(request, true)?;
    Ok(response.await?.status().as_u16())
}

#[tokio::test]
async fn silent_connections_make_room_at_once() -> Result<()> {
    let stage = Stage::start(&[]).await?;
    let begun = [HTTP2, BEGINS].concat();
    stage
        .serves_behind(&[
            ("nothing", b""),
            (
                "half a head",
                b"GET /v1/models HTTP/1.1\r\nhost: gw\r\nx-a: b",
            ),
            ("half a preface", b"PRI * HTTP/2"),
            ("a preface", HTTP2),
            ("half a head of HTTP/2", &begun),
        ])
        .await
}

#[tokio::test]
async fn connections_between_requests_make_room_too() -> Result<()> {
    let stage = Stage::start(&[]).await?;
    let asked = [HTTP2, ASKS].concat();
    let healthy = b"GET /healthz HTTP/1.1\r\nhost: gw\r\n\r\n";
    for (name, bytes) in [("idle", &healthy[..]), ("idle on HTTP/2", &asked)] {
        let crowd = stage.crowd(bytes).await?;
        sleep(IDLE).await;
        // Some of the crowd were, since the first ones were still asking.
        let before = stage.turned_away().await?;
        stage.callers(name).await?;
        ensure!(stage.turned_away().await? == before, "{name}");
        drop(crowd);
    }
    Ok(())
}

#[tokio::test]
async fn connections_without_a_header_of_their_balancer_make_room_at_once() -> Result<()> {
    let stage = Stage {
        first: LOCAL,
        ..Stage::start(&[("TUNDISH_PROXY_PROTOCOL", "true")]).await?
    };
    let half = LOCAL.get(..13).context("a part")?;
    stage
        .serves_behind(&[
            ("no header", b""),
            ("half a header", half),
            ("no request", LOCAL),
        ])
        .await
}

#[tokio::test]
async fn handshakes_of_tls_that_do_not_end_make_room_at_once() -> Result<()> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let file = |text: String| -> Result<NamedTempFile> {
        let mut file = NamedTempFile::new()?;
        file.write_all(text.as_bytes())?;
        Ok(file)
    };
    let (cert, key) = (
        file(own.cert.pem())?,
        file(own.signing_key.serialize_pem())?,
    );
    let name = |file: &NamedTempFile| file.path().to_str().map(str::to_owned);
    let (cert_file, key_file) = (name(&cert).context("UTF-8")?, name(&key).context("UTF-8")?);
    let settings = [
        ("TUNDISH_TLS_CERT", &*cert_file),
        ("TUNDISH_TLS_KEY", &*key_file),
    ];
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(own.cert.der().to_vec()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stage = Stage {
        tls: Some(Arc::new(config).into()),
        ..Stage::start(&settings).await?
    };
    let hello = b"\x16\x03\x01\x02\0\x01\0\x01";
    stage
        .serves_behind(&[("nothing", b""), ("half a handshake", hello)])
        .await
}
