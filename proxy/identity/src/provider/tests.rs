use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use proxy_core::names::Secret;
use proxy_core::table::{Identity, Principal};
use tests_foundry::{
    AUDIENCE, CLIENT, Config as SimConfig, Fault, IDENTITY_HEADER, SECRET, SUBJECT, Sim, TENANT,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::Provider;
use crate::address::Address;
use crate::config::{AppService, Config, Roots, TokenProxy, Workload};
use crate::exchange::Client;
use crate::failure::{Again, NoToken};

const SCOPE: &str = "https://ai.azure.com/.default";

fn sim() -> Sim {
    Sim::start(&SimConfig::default()).unwrap()
}

fn config(sim: &Sim) -> Config {
    Config::new(
        format!("{}/", sim.url()).parse().unwrap(),
        Address::on_machine(&sim.url()).unwrap(),
    )
}

fn provider(principal: Principal, config: Config) -> Provider {
    provider_for(principal, SCOPE, config)
}

fn provider_for(principal: Principal, scope: &str, config: Config) -> Provider {
    Provider {
        identity: Arc::new(Identity {
            principal,
            scope: scope.into(),
        }),
        config: Arc::new(config),
        client: Client::unbounded(),
    }
}

fn application(secret: &str) -> Principal {
    Principal::Application {
        tenant_id: TENANT.into(),
        client_id: CLIENT.into(),
        secret: Secret::new(secret),
    }
}

/// A workload identity with its file, which holds `token`.
fn workload(sim: &Sim, token: &str) -> (Config, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(token.as_bytes()).unwrap();
    let workload = Workload {
        tenant_id: Some(TENANT.into()),
        client_id: Some(CLIENT.into()),
        token_file: Some(file.path().to_owned()),
    };
    let config = Config {
        workload,
        ..config(sim)
    };
    (config, file)
}

const OF_POD: Principal = Principal::Workload {
    client_id: None,
    tenant_id: None,
};

fn number(failure: &NoToken) -> Option<u32> {
    let NoToken::Refused { number, .. } = failure else {
        panic!("{failure}");
    };
    *number
}

#[tokio::test]
async fn a_secret_buys_a_token() {
    let sim = sim();
    let token = provider(application(SECRET), config(&sim)).fetch().await;
    assert_eq!(token.unwrap().lives, Duration::from_secs(3599));
    let asked = sim.requests().pop().unwrap();
    assert_eq!(asked.path, format!("/{TENANT}/oauth2/v2.0/token"));
    assert_eq!(
        asked.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert!(asked.header("host").unwrap().starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn refusals_carry_the_number_and_no_secret() {
    let sim = sim();
    let other_app = Principal::Application {
        tenant_id: TENANT.into(),
        client_id: "99999999-0000-4000-8000-000000000000".into(),
        secret: Secret::new(SECRET),
    };
    let other_tenant = Principal::Application {
        tenant_id: "contoso.example".into(),
        client_id: CLIENT.into(),
        secret: Secret::new(SECRET),
    };
    for (principal, scope, expect) in [
        (application("s3cr3t"), SCOPE, 7_000_215),
        (other_app, SCOPE, 700_016),
        (other_tenant, SCOPE, 90_002),
        (application(SECRET), "https://ai.azure.com", 1_002_012),
        (application(SECRET), "https://odd.example/.default", 500_011),
    ] {
        let provider = provider_for(principal, scope, config(&sim));
        let failure = provider.fetch().await.unwrap_err();
        assert_eq!(number(&failure), Some(expect));
        assert_eq!(failure.word(), format!("AADSTS{expect}"));
        assert_eq!(failure.again(), Again::Late);
        assert!(!format!("{failure:?}{failure}{provider:?}").contains("s3cr3t"));
    }
}

#[tokio::test]
async fn the_file_of_a_workload_identity_is_read_for_every_fetch() {
    let sim = sim();
    let hour = Duration::from_secs(3600);
    let expired = sim.projected_token(SUBJECT, AUDIENCE, Duration::ZERO);
    let (config, file) = workload(&sim, &expired);
    let provider = provider(OF_POD, config);
    assert_eq!(number(&provider.fetch().await.unwrap_err()), Some(700_024));
    let rotated = sim.projected_token(SUBJECT, AUDIENCE, hour);
    std::fs::write(file.path(), format!("{rotated}\n")).unwrap();
    provider.fetch().await.unwrap();
    let other = sim.projected_token("system:serviceaccount:a:b", AUDIENCE, hour);
    std::fs::write(file.path(), other).unwrap();
    let failure = provider.fetch().await.unwrap_err();
    assert_eq!(number(&failure), Some(700_213));
    assert!(failure.advice().contains("federated credential"));
    std::fs::write(file.path(), " \n").unwrap();
    assert!(matches!(provider.fetch().await, Err(NoToken::File { .. })));
    drop(file);
    assert!(matches!(provider.fetch().await, Err(NoToken::File { .. })));
}

#[tokio::test]
async fn what_the_object_declares_wins_over_the_environment() {
    let sim = sim();
    let good = sim.projected_token(SUBJECT, AUDIENCE, Duration::from_secs(3600));
    let (mut config, _file) = workload(&sim, &good);
    config.workload.client_id = Some("other".into());
    config.workload.tenant_id = None;
    let declared = Principal::Workload {
        client_id: Some(CLIENT.into()),
        tenant_id: Some(TENANT.into()),
    };
    provider(declared, config.clone()).fetch().await.unwrap();
    let unset = provider(OF_POD, config.clone()).fetch().await.unwrap_err();
    assert!(unset.to_string().contains("AZURE_TENANT_ID"), "{unset}");
    config.workload.token_file = None;
    let unset = provider(OF_POD, config).fetch().await.unwrap_err();
    assert!(unset.to_string().contains("azure.workload.identity/use"));
}

#[tokio::test]
async fn the_machine_hands_out_a_token_by_imds_and_by_app_service() {
    let sim = sim();
    let own = Principal::Managed { client_id: None };
    let lives = provider(own.clone(), config(&sim)).fetch().await.unwrap();
    assert_eq!(lives.lives, Duration::from_secs(3599));
    let asked = sim.requests().pop().unwrap();
    assert_eq!(
        asked.query,
        "api-version=2018-02-01&resource=https%3A%2F%2Fai.azure.com"
    );
    let mut within = config(&sim);
    within.app_service = Some(AppService {
        endpoint: Address::on_machine(&format!("{}/msi/token/", sim.url())).unwrap(),
        header: Secret::new(IDENTITY_HEADER),
    });
    let named = Principal::Managed {
        client_id: Some(CLIENT.into()),
    };
    let token = provider(named, within).fetch().await.unwrap();
    assert!(token.lives > Duration::from_secs(3590));
    let asked = sim.requests().pop().unwrap();
    assert_eq!(asked.path, "/msi/token");
    assert!(asked.query.ends_with(&format!("client_id={CLIENT}")));
    let unknown = Principal::Managed {
        client_id: Some("unknown".into()),
    };
    let failure = provider(unknown, config(&sim)).fetch().await.unwrap_err();
    assert_eq!(
        failure.to_string().split_once(": ").unwrap().1,
        "Identity not found"
    );
    assert_eq!(failure.again(), Again::Late);
}

#[tokio::test]
async fn what_passes_is_asked_again_soon_or_when_it_says() {
    let sim = sim();
    let provider = provider(Principal::Managed { client_id: None }, config(&sim));
    let after = |wait: &str| [("retry-after".to_owned(), wait.to_owned())];
    for (status, headers, expect) in [
        (404, None, Again::Soon),
        (410, None, Again::Soon),
        (429, Some("7"), Again::After(Duration::from_secs(7))),
        (429, Some("99999"), Again::After(Duration::from_secs(300))),
        (500, None, Again::Soon),
        (503, None, Again::Soon),
        (403, Some("7"), Again::Late),
    ] {
        let fault = Fault {
            status: Some(status),
            headers: headers.map(after).into_iter().flatten().collect(),
            ..Fault::default()
        };
        sim.entra_faults(vec![fault]).unwrap();
        let failure = provider.fetch().await.unwrap_err();
        assert_eq!(failure.again(), expect, "{status}");
    }
    drop(sim);
    let failure = provider.fetch().await.unwrap_err();
    assert!(matches!(failure, NoToken::Unreachable { .. }), "{failure}");
    assert_eq!(failure.again(), Again::Soon);
}

#[tokio::test]
async fn an_identity_binding_asks_the_proxy_of_the_cluster() {
    let sim = sim();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["tenant.ests.aks".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider_of_tls = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider_of_tls)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let behind = sim.addr();
    proxy_admin::task::spawn("token proxy", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut sim = TcpStream::connect(behind).await.unwrap();
            tokio::io::copy_bidirectional(&mut stream, &mut sim)
                .await
                .ok();
        }
    });
    let good = sim.projected_token(SUBJECT, AUDIENCE, Duration::from_secs(3600));
    let (mut config, _file) = workload(&sim, &good);
    let mut proxy = TokenProxy {
        address: format!("https://{address}").parse().unwrap(),
        server_name: Some("tenant.ests.aks".to_owned()),
        roots: Some(Roots::Text(certificate.pem().into())),
    };
    config.token_proxy = Some(proxy.clone());
    provider(OF_POD, config.clone()).fetch().await.unwrap();
    let asked = sim.requests().pop().unwrap();
    assert_eq!(asked.header("host"), Some(address.to_string().as_str()));
    // Neither another name nor the public authorities.
    proxy.server_name = None;
    config.token_proxy = Some(proxy.clone());
    let failure = provider(OF_POD, config.clone()).fetch().await.unwrap_err();
    assert!(matches!(failure, NoToken::Unreachable { .. }), "{failure}");
    proxy.server_name = Some("tenant.ests.aks".to_owned());
    proxy.roots = None;
    config.token_proxy = Some(proxy);
    let failure = provider(OF_POD, config.clone()).fetch().await.unwrap_err();
    assert!(matches!(failure, NoToken::Unreachable { .. }), "{failure}");
    // Secrets go to Entra itself.
    provider(application(SECRET), config).fetch().await.unwrap();
}
