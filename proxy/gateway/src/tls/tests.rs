use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::{Acceptor, Ends, now_s};
use crate::config::{TlsFiles, TlsSource};

/// Writes a fresh certificate for these names to a folder, and returns it.
fn write(folder: &Path, names: &[&str]) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(names).expect("a certificate");
    write_pair(folder, &cert.pem(), &signing_key.serialize_pem());
    cert.der().clone()
}

/// Writes one that has ended.
fn write_ended(folder: &Path, name: &str) {
    let mut params = CertificateParams::new([name.to_owned()]).expect("parameters");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    write_pair(folder, &certificate.pem(), &key.serialize_pem());
}

fn write_pair(folder: &Path, certificate: &str, key: &str) {
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join("tls.crt"), certificate).expect("written");
    std::fs::write(folder.join("tls.key"), key).expect("written");
}

fn pair(folder: &Path) -> TlsSource {
    TlsSource {
        pair: Some(TlsFiles {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
        }),
        folder: None,
    }
}

fn folder(folder: &Path) -> TlsSource {
    TlsSource {
        pair: None,
        folder: Some(folder.to_owned()),
    }
}

fn load(source: &TlsSource) -> Result<Acceptor, String> {
    Acceptor::load(source, &Ends::default())
}

fn client(
    root: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// What became of a handshake by which `client` asks for `name`.
async fn handshake(
    acceptor: &Acceptor,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Option<HandshakeKind> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connect = async {
        let stream = TcpStream::connect(address).await.ok()?;
        let connector = TlsConnector::from(Arc::clone(client));
        let mut stream = connector.connect(name, stream).await.ok()?;
        // Tickets come after the handshake.
        stream.read_to_end(&mut Vec::new()).await.ok();
        let connection = stream.get_ref().1;
        assert_eq!(connection.alpn_protocol(), Some(b"h2".as_slice()));
        connection.handshake_kind()
    };
    let accept = async {
        let (stream, _peer) = listener.accept().await.expect("a connection");
        if let Ok(mut stream) = acceptor.accept(stream).await {
            tokio::io::AsyncWriteExt::shutdown(&mut stream).await.ok();
        }
    };
    tokio::join!(connect, accept).0
}

/// Whether a client that trusts `root` alone is shown it for `name`.
async fn shows(acceptor: &Acceptor, root: &CertificateDer<'static>, name: &str) -> bool {
    let client = client(root, rustls::ALL_VERSIONS);
    handshake(acceptor, &client, name).await.is_some()
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    let first = write(home, &["localhost"]);
    let acceptor = load(&pair(home)).expect("a good pair");
    assert!(shows(&acceptor, &first, "localhost").await);

    for broken in ["not a certificate", ""] {
        std::fs::write(home.join("tls.crt"), broken).expect("written");
        acceptor.renew(now_s());
        assert!(
            shows(&acceptor, &first, "localhost").await,
            "the old one stays"
        );
    }
    std::fs::remove_file(home.join("tls.crt")).expect("removed");
    acceptor.renew(now_s());
    assert!(
        shows(&acceptor, &first, "localhost").await,
        "the old one stays"
    );
    // The key of another certificate.
    let other = tempfile::tempdir().expect("a folder");
    write(other.path(), &["localhost"]);
    std::fs::copy(other.path().join("tls.crt"), home.join("tls.crt")).expect("copied");
    acceptor.renew(now_s());
    assert!(
        shows(&acceptor, &first, "localhost").await,
        "the old one stays"
    );
    write_ended(home, "localhost");
    acceptor.renew(now_s());
    assert!(
        shows(&acceptor, &first, "localhost").await,
        "the old one stays"
    );

    let second = write(home, &["localhost"]);
    acceptor.renew(now_s());
    assert!(shows(&acceptor, &second, "localhost").await);
    assert!(!shows(&acceptor, &first, "localhost").await);
}

#[tokio::test]
async fn a_mount_that_is_swapped_by_its_link_is_read_again() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    // As the kubelet lays out the mount of a Secret, and changes it.
    let first = write(&home.join("..2026_01"), &["localhost"]);
    std::os::unix::fs::symlink("..2026_01", home.join("..data")).expect("a link");
    for file in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(format!("..data/{file}"), home.join(file)).expect("a link");
    }
    let acceptor = load(&pair(home)).expect("a good pair");
    assert!(shows(&acceptor, &first, "localhost").await);
    let second = write(&home.join("..2026_02"), &["localhost"]);
    std::os::unix::fs::symlink("..2026_02", home.join("..data_tmp")).expect("a link");
    std::fs::rename(home.join("..data_tmp"), home.join("..data")).expect("swapped");
    acceptor.renew(now_s());
    assert!(shows(&acceptor, &second, "localhost").await);
}

#[tokio::test]
async fn a_client_gets_the_certificate_for_the_name_that_it_asks_for() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    let default = write(&home.join("a"), &["default.example", "x.default.example"]);
    let exact = write(&home.join("b"), &["Ai.Example.com"]);
    let wildcard = write(&home.join("c"), &["*.example.com"]);
    write(&home.join("..data"), &["hidden.example"]);
    std::fs::write(home.join("README"), "no certificate").expect("written");
    let acceptor = load(&folder(home)).expect("good pairs");
    for (name, root) in [
        ("default.example", &default),
        ("x.default.example", &default),
        ("ai.example.com", &exact),
        ("search.example.com", &wildcard),
    ] {
        assert!(shows(&acceptor, root, name).await, "{name}");
    }
    // Shown the default, which is for other names.
    for name in ["example.com", "a.b.example.com", "hidden.example"] {
        let client = client(&wildcard, rustls::ALL_VERSIONS);
        assert_eq!(handshake(&acceptor, &client, name).await, None, "{name}");
    }
}

#[tokio::test]
async fn a_folder_of_certificates_grows_and_shrinks_without_a_restart() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    let first = write(&home.join("a"), &["a.example"]);
    write_pair(&home.join("broken"), "no certificate", "no key");
    let acceptor = load(&folder(home)).expect("one good pair");
    let second = write(&home.join("b"), &["b.example"]);
    acceptor.renew(now_s());
    assert!(shows(&acceptor, &first, "a.example").await);
    assert!(shows(&acceptor, &second, "b.example").await);
    std::fs::remove_dir_all(home.join("a")).expect("removed");
    acceptor.renew(now_s());
    assert!(!shows(&acceptor, &first, "a.example").await);
    // The last one stays, whatever happens to the folder.
    std::fs::remove_dir_all(home).expect("removed");
    acceptor.renew(now_s());
    assert!(shows(&acceptor, &second, "b.example").await);
}

#[tokio::test]
async fn a_session_is_resumed_also_after_a_renewal() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let home = tempfile::tempdir().expect("a folder");
        let root = write(home.path(), &["localhost"]);
        let acceptor = load(&pair(home.path())).expect("a good pair");
        let client = client(&root, &[version]);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            kinds.push(handshake(&acceptor, &client, "localhost").await);
        }
        write(home.path(), &["localhost"]);
        acceptor.renew(now_s());
        kinds.push(handshake(&acceptor, &client, "localhost").await);
        let (full, resumed) = (Some(HandshakeKind::Full), Some(HandshakeKind::Resumed));
        assert_eq!(kinds, [full, resumed, resumed, resumed], "{version:?}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let home = tempfile::tempdir().expect("a folder");
    write(home.path(), &["localhost"]);
    let mut source = pair(home.path());
    source.pair.as_mut().expect("a pair").key = home.path().join("gone.key");
    let error = load(&source).err().expect("no key");
    assert!(error.contains("gone.key"), "{error}");
    let empty = tempfile::tempdir().expect("a folder");
    let error = load(&folder(empty.path())).err().expect("no pair");
    assert!(error.contains("tls.crt"), "{error}");
}

#[test]
fn what_is_wrong_is_logged_once() {
    let home = tempfile::tempdir().expect("a folder");
    write(home.path(), &["localhost"]);
    let acceptor = load(&pair(home.path())).expect("a good pair");
    std::fs::write(home.path().join("tls.crt"), "broken").expect("written");
    assert_eq!(warnings(&acceptor, 3), ["a TLS certificate cannot be used"]);
    assert!(warnings(&acceptor, 3).is_empty());
    // Another broken one is another line.
    std::fs::write(home.path().join("tls.crt"), "").expect("written");
    assert_eq!(warnings(&acceptor, 3), ["a TLS certificate cannot be used"]);
    write_ended(home.path(), "localhost");
    assert_eq!(warnings(&acceptor, 3), ["a TLS certificate cannot be used"]);
}

#[test]
fn the_end_of_a_certificate_in_use_is_logged_once() {
    let home = tempfile::tempdir().expect("a folder");
    write_ended(home.path(), "localhost");
    let acceptor = load(&pair(home.path())).expect("better than none");
    // The start has logged it.
    assert!(warnings(&acceptor, 3).is_empty());
    write(home.path(), &["localhost"]);
    assert!(warnings(&acceptor, 3).is_empty());
}

/// The warnings of a number of looks at the files.
fn warnings(acceptor: &Acceptor, looks: usize) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(file.reopen().expect("the same file"))
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        (0..looks).for_each(|_| acceptor.renew(now_s()));
    });
    let text = std::fs::read_to_string(file.path()).expect("text");
    let messages = text.lines().filter_map(|line| line.split(": ").nth(1));
    let messages = messages.map(|text| text.split(" cause=").next().unwrap_or(text));
    messages.map(|text| text.trim().to_owned()).collect()
}

#[test]
fn the_metric_has_the_ends_of_what_is_in_use() {
    let home = tempfile::tempdir().expect("a folder");
    write_ended(&home.path().join("a"), "a.example");
    write(&home.path().join("b"), &["b.example"]);
    let mut registry = prometheus_client::registry::Registry::default();
    let ends = Ends::register(&mut registry);
    let acceptor = Acceptor::load(&folder(home.path()), &ends).expect("good pairs");
    let page = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        text
    };
    assert!(
        page().contains("{certificate=\"a\"} 1609459200"),
        "{}",
        page()
    );
    std::fs::remove_dir_all(home.path().join("a")).expect("removed");
    acceptor.renew(now_s());
    assert!(!page().contains("certificate=\"a\""), "{}", page());
    assert!(page().contains("certificate=\"b\""), "{}", page());
}
