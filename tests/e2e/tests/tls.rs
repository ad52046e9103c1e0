//! HTTPS of the gateway, with the clients that its users have: openssl, curl and Python.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tests_support::{Quickstart, eventually_ok};

/// The files are looked at each five seconds.
const LIMIT: Duration = Duration::from_secs(30);

/// Certificates of one authority, and a gateway that shows them.
struct Scene {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
    quickstart: Quickstart,
}

/// What `s_client` says.
struct Told(String);

impl Scene {
    /// The default certificate is for `gateway.example`, others for `a.example` and `*.b.example`.
    async fn start() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let folder = tempfile::tempdir()?;
        let home = folder.path();
        std::fs::write(home.join("ca.crt"), authority.pem())?;
        issue(&authority, &home.join("first"), "gateway.example", 2035)?;
        std::os::unix::fs::symlink("first", home.join("default"))?;
        issue(&authority, &home.join("more/a"), "a.example", 2035)?;
        issue(&authority, &home.join("more/b"), "*.b.example", 2035)?;
        let quickstart = Quickstart::launch(&[], |program| {
            let mut command = Command::new(program);
            command
                .env("TUNDISH_TLS_CERT", home.join("default/tls.crt"))
                .env("TUNDISH_TLS_KEY", home.join("default/tls.key"))
                .env("TUNDISH_TLS_DIR", home.join("more"))
                .env("TUNDISH_THREADS", "3");
            command
        });
        let quickstart = quickstart.await?;
        Ok(Self {
            folder,
            authority,
            quickstart,
        })
    }

    fn address(&self) -> &str {
        self.quickstart.gateway.trim_start_matches("http://")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, arguments: &[&str]) -> Result<Told> {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", self.address()]);
        command
            .arg("-CAfile")
            .arg(self.file("ca.crt"))
            .args(arguments);
        let output = command.stdin(Stdio::null()).output();
        Ok(Told::by(&output.context("start openssl")?))
    }

    /// The same with a request, and all that comes until the server closes.
    fn asks(&self, arguments: &[&str]) -> Result<Told> {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-ign_eof", "-connect", self.address()])
            .args(arguments);
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut openssl = piped.spawn().context("start openssl")?;
        let mut input = openssl.stdin.take().context("its input")?;
        input
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n")?;
        drop(input);
        Ok(Told::by(&openssl.wait_with_output()?))
    }

    /// The name of the certificate that is shown for `name`; empty: the client asks for none.
    fn shown(&self, name: &str) -> Result<String> {
        let asked = ["-servername", name];
        let told = self.openssl(if name.is_empty() {
            &["-noservername"]
        } else {
            &asked
        })?;
        let subject = told.line("subject=")?;
        let name = subject.split("CN = ").nth(1).context("a name")?;
        Ok(name.to_owned())
    }
}

impl Told {
    fn by(output: &Output) -> Self {
        let text = [&*output.stdout, &*output.stderr].concat();
        Self(String::from_utf8_lossy(&text).into_owned())
    }

    fn line(&self, prefix: &str) -> Result<&str> {
        let mut lines = self.0.lines().map(str::trim);
        let line = lines.find_map(|line| line.strip_prefix(prefix));
        line.with_context(|| format!("no line {prefix:?} in {}", self.0))
    }
}

/// Writes a certificate for `name` that ends with the year, as a mounted Secret has it.
fn issue(
    authority: &CertifiedIssuer<'static, KeyPair>,
    folder: &Path,
    name: &str,
    year: i32,
) -> Result<()> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let common = rcgen::DnType::CommonName;
    params.distinguished_name.push(common, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("tls.crt"), certificate.pem())?;
    std::fs::write(folder.join("tls.key"), key.serialize_pem())?;
    Ok(())
}

#[tokio::test]
async fn clients_get_the_protocols_and_certificates_that_they_ask_for() -> Result<()> {
    let scene = Scene::start().await?;
    for (version, expect) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let told = scene.openssl(&[version, "-verify_return_error"])?;
        assert!(told.line("New, ")?.starts_with(expect), "{}", told.0);
        assert_eq!(told.line("Verify return code: ")?, "0 (ok)");
    }
    // The client's own bar is lowered, so the server is the one that refuses.
    let told = scene.openssl(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"])?;
    assert!(told.0.contains("alert handshake failure"), "{}", told.0);
    for protocol in ["h2", "http/1.1"] {
        let told = scene.openssl(&["-alpn", protocol])?;
        assert_eq!(told.line("ALPN protocol: ")?, protocol);
    }
    for (asked, expect) in [
        ("a.example", "a.example"),
        ("A.EXAMPLE", "a.example"),
        ("x.b.example", "*.b.example"),
        ("b.example", "gateway.example"),
        ("x.y.b.example", "gateway.example"),
        ("unknown.example", "gateway.example"),
        ("", "gateway.example"),
    ] {
        assert_eq!(scene.shown(asked)?, expect, "{asked:?}");
    }
    // Early data is not offered with the tickets.
    let told = scene.asks(&["-tls1_3"])?;
    assert_eq!(told.line("Max Early Data: ")?, "0");

    let port = scene.address().rsplit(':').next().context("a port")?;
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", flag])
            .arg("--cacert")
            .arg(scene.file("ca.crt"))
            .args(["--resolve", &format!("a.example:{port}:127.0.0.1")])
            .args(["--write-out", "%{http_version}", "--output", "/dev/null"])
            .arg(format!("https://a.example:{port}/healthz"))
            .output()
            .context("start curl")?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "curl: {text}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), version);
    }
    Ok(())
}

/// Counts how many of twenty connections resume the session of the first, for both versions; each may
/// come to another core. Between two halves it waits for a line on its input, with a connection open, which
/// it uses then.
const RESUMES: &str = r#"
import socket, ssl, sys
host, port, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def context(version):
    made = ssl.create_default_context(cafile=ca)
    made.minimum_version = made.maximum_version = version
    made.set_alpn_protocols(["http/1.1"])
    return made
def get(stream):
    stream.sendall(b"GET /healthz HTTP/1.1\r\nhost: a.example\r\n\r\n")
    assert stream.recv(65536).startswith(b"HTTP/1.1 200"), "no answer"
def connect(made, session=None):
    stream = socket.create_connection((host, port))
    return made.wrap_socket(stream, server_hostname="a.example", session=session)
contexts = [context(ssl.TLSVersion.TLSv1_2), context(ssl.TLSVersion.TLSv1_3)]
sessions = []
for made in contexts:
    with connect(made) as first:
        get(first)
        sessions.append(first.session)
kept = connect(contexts[1])
get(kept)
def resumed():
    counts = []
    for made, session in zip(contexts, sessions):
        count = 0
        for _ in range(20):
            with connect(made, session) as stream:
                get(stream)
                count += stream.session_reused
        counts.append(count)
    print(*counts, flush=True)
resumed()
sys.stdin.readline()
get(kept)
resumed()
"#;

#[tokio::test]
async fn sessions_and_connections_outlive_a_renewal() -> Result<()> {
    let scene = Scene::start().await?;
    let (host, port) = scene.address().rsplit_once(':').context("an address")?;
    let mut python = Command::new("python3");
    python
        .args(["-c", RESUMES, host, port])
        .arg(scene.file("ca.crt"));
    let mut python = python
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start python3")?;
    let mut lines = BufReader::new(python.stdout.take().context("its output")?).lines();
    let before = lines.next().context("a line")??;
    // All certificates are replaced; the default one as the kubelet does it.
    issue(
        &scene.authority,
        &scene.file("second"),
        "renewed.example",
        2036,
    )?;
    std::os::unix::fs::symlink("second", scene.file("next"))?;
    std::fs::rename(scene.file("next"), scene.file("default"))?;
    issue(&scene.authority, &scene.file("more/a"), "a.example", 2036)?;
    let renewed = eventually_ok("the default certificate is renewed", LIMIT, async || {
        let name = scene.shown("unknown.example")?;
        ensure!(name == "renewed.example", "{name} is shown");
        Ok(())
    });
    renewed.await?;
    drop(python.stdin.take());
    let after = lines.next().context("another line")??;
    assert_eq!([&*before, &*after], ["20 20", "20 20"]);
    ensure!(python.wait()?.success(), "python failed");
    Ok(())
}

#[tokio::test]
async fn an_expired_or_broken_renewal_is_logged_and_not_used() -> Result<()> {
    let scene = Scene::start().await?;
    issue(
        &scene.authority,
        &scene.file("expired"),
        "expired.example",
        2021,
    )?;
    for (change, told) in [("expired", "it has ended"), ("missing", "No such file")] {
        std::os::unix::fs::symlink(change, scene.file("next"))?;
        std::fs::rename(scene.file("next"), scene.file("default"))?;
        let line = eventually_ok(change, LIMIT, async || {
            let log = scene.quickstart.run.log();
            let mut lines = log.lines().filter(|line| line.contains("cannot be used"));
            let line = lines.find(|line| line.contains(told));
            line.map(str::to_owned).context("it is not logged")
        });
        let line = line.await?;
        assert!(line.contains("\"keeps_old\":true"), "{line}");
        assert_eq!(scene.shown("unknown.example")?, "gateway.example");
    }
    Ok(())
}
