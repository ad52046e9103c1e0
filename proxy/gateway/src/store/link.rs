//! A connection to the store, whatever is behind its address.

use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, RedisResult, ScriptInvocation, TlsCertificates, TlsMode,
    Value,
};

use super::address::{Kind, StoreAddress};

/// A connection; clones share it. Calls are sent at once, whether earlier ones are answered or not.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// Connects, and finds the primary where that needs to be asked.
    pub(super) async fn open(
        address: &StoreAddress,
        ca_file: Option<&Path>,
        within: Duration,
    ) -> RedisResult<Self> {
        let root_cert = match ca_file {
            // Small, and read once per connection.
            Some(file) => Some(std::fs::read(file).map_err(|error| unreadable(&error))?),
            None => None,
        };
        let certificates = (address.tls && root_cert.is_some()).then_some(TlsCertificates {
            client_tls: None,
            root_cert,
        });
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(within))
            .set_response_timeout(Some(within));
        match &address.kind {
            Kind::Single => single(address, certificates, &config).await,
            Kind::Cluster => cluster(address, certificates, within).await,
            Kind::Sentinel { primary } => sentinel(address, primary, certificates, &config).await,
        }
    }

    pub(super) async fn invoke(&mut self, call: &ScriptInvocation<'_>) -> RedisResult<Value> {
        match self {
            Self::One(connection) => call.invoke_async(connection).await,
            Self::Cluster(connection) => call.invoke_async(connection).await,
        }
    }
}

fn unreadable(error: &std::io::Error) -> RedisError {
    let what = "cannot read the CA of the store";
    RedisError::from((ErrorKind::InvalidClientConfig, what, error.to_string()))
}

fn nodes(address: &StoreAddress) -> impl Iterator<Item = ConnectionAddr> {
    address.hosts.iter().cloned().map(|(host, port)| {
        if address.tls {
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, port)
        }
    })
}

async fn single(
    address: &StoreAddress,
    certificates: Option<TlsCertificates>,
    config: &AsyncConnectionConfig,
) -> RedisResult<Link> {
    let Some(node) = nodes(address).next() else {
        return Err((ErrorKind::InvalidClientConfig, "the address has no host").into());
    };
    let mut login = RedisConnectionInfo::default().set_db(address.database);
    if let Some(user) = &address.user {
        login = login.set_username(user);
    }
    if let Some(password) = &address.password {
        login = login.set_password(password.expose());
    }
    let info = node.into_connection_info()?.set_redis_settings(login);
    let client = match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates)?,
        None => Client::open(info)?,
    };
    let connection = client.get_multiplexed_async_connection_with_config(config);
    Ok(Link::One(connection.await?))
}

async fn cluster(
    address: &StoreAddress,
    certificates: Option<TlsCertificates>,
    within: Duration,
) -> RedisResult<Link> {
    let mut builder = ClusterClient::builder(nodes(address))
        .connection_timeout(within)
        .response_timeout(within)
        // A lost call is told to those who wait; sending it again could charge twice.
        .retries(0);
    if address.tls {
        builder = builder.tls(TlsMode::Secure);
    }
    if let Some(user) = &address.user {
        builder = builder.username(user);
    }
    if let Some(password) = &address.password {
        builder = builder.password(password.expose());
    }
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    let connection = builder.build()?.get_async_connection().await?;
    Ok(Link::Cluster(connection))
}

/// The login is the primary's: Sentinels without a password refuse one.
async fn sentinel(
    address: &StoreAddress,
    primary: &str,
    certificates: Option<TlsCertificates>,
    config: &AsyncConnectionConfig,
) -> RedisResult<Link> {
    let mut builder =
        SentinelClientBuilder::new(nodes(address), primary, SentinelServerType::Master)?
            .set_client_to_redis_db(address.database);
    if address.tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure);
    }
    if let Some(user) = &address.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &address.password {
        builder = builder.set_client_to_redis_password(password.expose());
    }
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    let mut client = builder.build()?;
    let connection = client.get_async_connection_with_config(config).await?;
    Ok(Link::One(connection))
}
