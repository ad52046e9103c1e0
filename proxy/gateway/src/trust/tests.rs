use std::io;
use std::sync::Arc;

use proxy_core::table::Certificates;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Roots, Trust, cause};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("an authority")
}

fn roots(authority: &Authority) -> Certificates {
    Arc::new([Arc::from(authority.der().as_ref())])
}

/// A server with a certificate for `name` of these years.
fn server(authority: &Authority, name: &str, years: (i32, i32)) -> TlsAcceptor {
    let mut params = CertificateParams::new([name.to_owned()]).expect("parameters");
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    Arc::new(config).into()
}

/// The kind of the handshake with `server`, or what is wrong with it.
async fn handshake(trust: &Trust, server: &TlsAcceptor) -> Result<HandshakeKind, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let connect = async {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let connected = trust.http1.connect(trust.name.clone(), stream).await;
        let mut stream = connected.map_err(|error| cause(&error))?;
        stream.read_to_end(&mut Vec::new()).await.ok();
        Ok(stream.get_ref().1.handshake_kind().expect("it is over"))
    };
    let accept = async {
        let (stream, _peer) = listener.accept().await.expect("a connection");
        if let Ok(mut stream) = server.accept(stream).await {
            stream.shutdown().await.ok();
        }
    };
    tokio::join!(connect, accept).0
}

async fn wrong(trust: &Trust, server: &TlsAcceptor) -> String {
    handshake(trust, server).await.expect_err("it is not taken")
}

const NOW: (i32, i32) = (2020, 2100);

#[tokio::test]
async fn a_certificate_that_is_not_taken_is_named_with_what_to_do() {
    let (own, foreign, again) = (authority("own"), authority("foreign"), authority("own"));
    let trust = Trust::new("models.test", Roots::Own(&roots(&own))).expect("roots");
    assert_eq!(
        wrong(&trust, &server(&own, "models.test", (2020, 2021))).await,
        "the backend's certificate ended at 2021-01-01T00:00:00Z; it has to be renewed there"
    );
    assert_eq!(
        wrong(&trust, &server(&own, "models.test", (2098, 2100))).await,
        "the backend's certificate begins at 2098-01-01T00:00:00Z; compare the clocks of both sides"
    );
    assert_eq!(
        wrong(&trust, &server(&foreign, "models.test", NOW)).await,
        "the backend's certificate is of an authority that is not trusted; if it is the right one, trust it by \
         tls.caCertificateRef of the AIBackend"
    );
    let words = wrong(&trust, &server(&again, "models.test", NOW)).await;
    assert!(
        words.contains("not signed by the trusted authority of that name"),
        "{words}"
    );
    assert_eq!(
        wrong(&trust, &server(&own, "other.test", NOW)).await,
        "the backend's certificate is for other.test, not for models.test; if it is the right one, \
         name it by tls.serverName of the AIBackend"
    );
    let public = Trust::new("models.test", Roots::Public).expect("roots");
    let words = wrong(&public, &server(&own, "models.test", NOW)).await;
    assert!(words.contains("not trusted"), "{words}");
}

#[tokio::test]
async fn a_server_without_tls_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let trust = Trust::new("models.test", Roots::Public).expect("roots");
    let connect = async {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let connected = trust.http1.connect(trust.name.clone(), stream).await;
        cause(&connected.expect_err("no TLS"))
    };
    let answer = async {
        let (mut stream, _peer) = listener.accept().await.expect("a connection");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .ok();
        stream.read_to_end(&mut Vec::new()).await.ok();
    };
    let (words, ()) = tokio::join!(connect, answer);
    assert!(words.contains("does not speak TLS"), "{words}");
    assert_eq!(cause(&io::Error::other("reset")), "reset");
}

#[tokio::test]
async fn a_skipped_check_takes_what_another_would_not() {
    let trust = Trust::new("models.test", Roots::Any).expect("none");
    let foreign = authority("foreign");
    for (name, years) in [("models.test", NOW), ("other.test", (2020, 2021))] {
        let taken = handshake(&trust, &server(&foreign, name, years)).await;
        assert_eq!(taken, Ok(HandshakeKind::Full), "{name}");
    }
}

#[tokio::test]
async fn a_new_connection_resumes_the_session_of_another() {
    let own = authority("own");
    let trust = Trust::new("models.test", Roots::Own(&roots(&own))).expect("roots");
    let server = server(&own, "models.test", NOW);
    assert_eq!(handshake(&trust, &server).await, Ok(HandshakeKind::Full));
    // As the pool of another core has it.
    let other = trust.clone();
    assert_eq!(handshake(&other, &server).await, Ok(HandshakeKind::Resumed));
}
