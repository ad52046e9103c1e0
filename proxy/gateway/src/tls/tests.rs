use std::path::Path;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::{Acceptor, LOOK_EVERY_MS};
use crate::config::TlsFiles;

/// Writes a fresh certificate for `localhost` and returns it.
fn write(folder: &Path) -> (TlsFiles, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let files = TlsFiles {
        certificate: folder.join("tls.crt"),
        key: folder.join("tls.key"),
    };
    std::fs::write(&files.certificate, cert.pem()).expect("written");
    std::fs::write(&files.key, signing_key.serialize_pem()).expect("written");
    (files, cert.der().clone())
}

/// Whether a client that trusts `root` alone gets through the handshake, and what it spoke then.
async fn handshake(acceptor: &Acceptor, root: &CertificateDer<'static>) -> Option<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let client = async {
        let stream = TcpStream::connect(address).await.ok()?;
        let name = ServerName::try_from("localhost").ok()?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .ok()?;
        stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    };
    let server = async {
        let (stream, _peer) = listener.accept().await.expect("a connection");
        acceptor.accept(stream).await.is_ok()
    };
    tokio::join!(client, server).0
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (files, first) = write(folder.path());
    let acceptor = Acceptor::load(&files).expect("a good pair");
    assert_eq!(
        handshake(&acceptor, &first).await.as_deref(),
        Some(b"h2".as_slice())
    );

    std::fs::write(&files.certificate, "not a certificate").expect("written");
    let mut now = proxy_admin::clock::now().monotonic_ms;
    for _ in 0..2 {
        now += LOOK_EVERY_MS;
        acceptor.renew(now);
    }
    assert!(
        handshake(&acceptor, &first).await.is_some(),
        "the old one stays in use"
    );

    let (_, second) = write(folder.path());
    acceptor.renew(now + 1);
    assert!(
        handshake(&acceptor, &second).await.is_none(),
        "too early to look again"
    );
    acceptor.renew(now + LOOK_EVERY_MS);
    assert!(handshake(&acceptor, &second).await.is_some());
    assert!(handshake(&acceptor, &first).await.is_none());
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut files, _) = write(folder.path());
    files.key = folder.path().join("gone.key");
    let error = Acceptor::load(&files).err().expect("no key");
    assert!(error.contains("gone.key"), "{error}");
}
