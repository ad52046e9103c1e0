//! A connection to the store, whatever is behind its address. It speaks RESP3, in which the store can
//! send something unasked.

use std::path::Path;
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo, RedisError, RedisResult, ScriptInvocation, TlsCertificates, TlsMode,
    Value,
};
use tokio::sync::mpsc;

use crate::address::{Kind, StoreAddress};
use crate::recall::{self, Recall};

/// A connection; clones share it. Calls are sent at once, whether earlier ones are answered or not.
#[derive(Clone)]
pub(crate) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// Connects, and finds the primary where that needs to be asked. Recalls of the gateway with this
    /// prefix are received.
    pub(crate) async fn open(
        address: &StoreAddress,
        ca_file: Option<&Path>,
        prefix: &str,
        within: Duration,
    ) -> RedisResult<(Self, mpsc::Receiver<Recall>)> {
        let root_cert = match ca_file {
            // Small, and read once per connection.
            Some(file) => Some(std::fs::read(file).map_err(|error| unreadable(&error))?),
            None => None,
        };
        let certificates = (address.tls && root_cert.is_some()).then_some(TlsCertificates {
            client_tls: None,
            root_cert,
        });
        let (pushed, recalls) = recall::receiver();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(within))
            .set_response_timeout(Some(within))
            .set_push_sender(pushed.clone());
        let mut link = match &address.kind {
            Kind::Single => single(address, certificates, &config).await?,
            Kind::Cluster => cluster(address, certificates, within, pushed).await?,
            Kind::Sentinel { primary } => sentinel(address, primary, certificates, &config).await?,
        };
        match &mut link {
            Self::One(connection) => connection.subscribe(recall::channel(prefix)).await?,
            Self::Cluster(connection) => connection.subscribe(recall::channel(prefix)).await?,
        }
        Ok((link, recalls))
    }

    pub(crate) async fn invoke(&mut self, call: &ScriptInvocation<'_>) -> RedisResult<Value> {
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
    let mut login = RedisConnectionInfo::default()
        .set_db(address.database)
        .set_protocol(ProtocolVersion::RESP3);
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
    pushed: impl AsyncPushSender,
) -> RedisResult<Link> {
    let mut builder = ClusterClient::builder(nodes(address))
        .use_protocol(ProtocolVersion::RESP3)
        .push_sender(pushed)
        .connection_timeout(within)
        .response_timeout(within)
        // A lost call fails for the requests that wait; sending it again could charge twice.
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
            .set_client_to_redis_db(address.database)
            .set_client_to_redis_protocol(ProtocolVersion::RESP3);
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
