//! The command line. Defaults live here and nowhere else.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use operator_compile::{HostGrant, InvalidBackendHost};
use proxy_admin::address;
use proxy_admin::telemetry::{Filter, Format};
use proxy_core::reach::{Allowance, Network};
use proxy_core::route::HostPattern;

const AFTER_HELP: &str = "\
Every flag can come from the environment; lists are separated by ','.

The admin port serves /livez, /readyz (200 after every object was listed and a table was published),
/metrics and /quota.

Exit codes: 0 stopped by a signal, 1 failure, 64 wrong usage.";

/// Compiles AIBackends, AIRoutes and AIQuotas into a table, sends it to the proxies, and writes the
/// result into the status of each object.
#[derive(Clone, Debug, Parser)]
#[command(name = "tundish-operator", version, after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Kubeconfig to use [default: the pod's service account, else the default kubeconfig]
    #[arg(long, env = "TUNDISH_KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Namespace of the installation, with its lease and its CA; quotas without targets in it cover
    /// the whole gateway [default: the service account's namespace, else tundish-system]
    #[arg(long, env = "TUNDISH_NAMESPACE", value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// Namespace to watch besides the installation's; repeatable; without one the operator watches all
    #[arg(
        long = "watch-namespace",
        env = "TUNDISH_WATCH_NAMESPACE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(crate) watch_namespaces: Vec<String>,

    /// Hosts on which routes of these namespaces may serve anonymous, passThrough and jwt callers, as
    /// PATTERN=NAMESPACE[,NAMESPACE]; repeatable, in the environment separated by ';'. PATTERN is a
    /// host, *.host or *. Needed as soon as more than one namespace is watched, the installation's own
    /// not counted
    #[arg(
        long = "host-grant",
        env = "TUNDISH_HOST_GRANT",
        value_name = "PATTERN=NAMESPACE",
        value_delimiter = ';'
    )]
    pub(crate) host_grants: Vec<HostGrant>,

    /// Serve Gateways of this GatewayClass, where Gateway API is installed: their listeners say which routes may
    /// have which hosts. Without it parentRefs of routes are refused
    #[arg(long, env = "TUNDISH_GATEWAY_CLASS", value_name = "NAME")]
    pub(crate) gateway_class: Option<String>,

    /// Namespace besides the installation's whose Gateways are served: who writes Gateways there hands out hosts;
    /// repeatable
    #[arg(
        long = "gateway-namespace",
        env = "TUNDISH_GATEWAY_NAMESPACE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(crate) gateway_namespaces: Vec<String>,

    /// Service of the proxies in the installation's namespace, whose ports and addresses Gateways have
    #[arg(long, env = "TUNDISH_GATEWAY_SERVICE", value_name = "NAME")]
    pub(crate) gateway_service: Option<String>,

    /// Secret in the installation's namespace with a certificate of the proxies, which listeners may name;
    /// repeatable. Without one the listeners are HTTP, with one HTTPS
    #[arg(
        long = "gateway-certificate",
        env = "TUNDISH_GATEWAY_CERTIFICATE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(crate) gateway_certificates: Vec<String>,

    /// Namespace whose AIBackends may use WorkloadIdentity and ManagedIdentity, which are the gateway's own;
    /// repeatable, * for every one. Needed as soon as more than one namespace is watched, the
    /// installation's own not counted
    #[arg(
        long = "identity-grant",
        env = "TUNDISH_IDENTITY_GRANT",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub(crate) identity_grants: Vec<String>,

    /// Host that AIBackends may have, as a name or *.name; repeatable; without one every host
    #[arg(
        long = "backend-host",
        env = "TUNDISH_BACKEND_HOST",
        value_name = "PATTERN",
        value_delimiter = ',',
        value_parser = backend_host
    )]
    pub(crate) backend_hosts: Vec<HostPattern>,

    /// Where AIBackends may be besides public and private addresses, as --backend-reach of the proxies:
    /// loopback, cluster, an address or network, or a name of the cluster; repeatable
    #[arg(
        long,
        env = "TUNDISH_BACKEND_REACH",
        value_name = "WHERE",
        value_delimiter = ','
    )]
    pub(crate) backend_reach: Vec<Allowance>,

    /// Network of the cluster's Services, pods or nodes, as --cluster-network of the proxies; repeatable
    #[arg(
        long,
        env = "TUNDISH_CLUSTER_NETWORK",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub(crate) cluster_network: Vec<Network>,

    /// Address that proxies fetch the table from
    #[arg(
        long,
        env = "TUNDISH_CHANNEL_LISTEN",
        value_name = "ADDR",
        default_value = "0.0.0.0:8443",
        value_parser = channel
    )]
    pub(crate) channel_listen: SocketAddr,

    /// DNS name or address in the certificate of that address; repeatable [default:
    /// tundish-operator.NAMESPACE.svc, *.tundish-operator.NAMESPACE.svc, localhost, 127.0.0.1]
    #[arg(
        long = "channel-dns-name",
        env = "TUNDISH_CHANNEL_DNS_NAME",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(crate) channel_dns_names: Vec<String>,

    /// Seconds between heartbeats on the channel
    #[arg(
        long,
        env = "TUNDISH_CHANNEL_HEARTBEAT_SECONDS",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=300),
        default_value_t = 5
    )]
    pub(crate) channel_heartbeat_seconds: u64,

    /// Seconds after which a proxy has to subscribe again, with a fresh token
    #[arg(
        long,
        env = "TUNDISH_CHANNEL_SUBSCRIPTION_SECONDS",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(10..=86_400),
        default_value_t = 1_800
    )]
    pub(crate) channel_subscription_seconds: u64,

    /// Service account of the proxies: NAME in the installation's namespace, or NAMESPACE/NAME
    #[arg(
        long,
        env = "TUNDISH_PROXY_SERVICE_ACCOUNT",
        value_name = "ACCOUNT",
        default_value = "tundish-proxy"
    )]
    pub(crate) proxy_service_account: String,

    /// Labels of the proxies' pods in the installation's namespace, as KEY=VALUE,...: a proxy that falls
    /// silent is counted, and keeps its part of limits, until its pod is gone. Without it such a proxy is
    /// taken for gone
    #[arg(long, env = "TUNDISH_PROXY_PODS", value_name = "SELECTOR")]
    pub(crate) proxy_pods: Option<String>,

    /// ConfigMap in the installation's namespace that stores the use of calendar quotas; the chart
    /// makes it
    #[arg(
        long,
        env = "TUNDISH_CHECKPOINT_CONFIG_MAP",
        value_name = "NAME",
        default_value = "tundish-quota-checkpoint"
    )]
    pub(crate) checkpoint_config_map: String,

    /// Secrets in the installation's namespace that store the table for proxies which start while every
    /// operator is away: NAME-0 to NAME-3, which the chart makes; without it none is stored
    #[arg(long, env = "TUNDISH_SNAPSHOT_SECRETS", value_name = "NAME")]
    pub(crate) snapshot_secrets: Option<String>,

    /// Audience of the proxies' tokens
    #[arg(
        long,
        env = "TUNDISH_AUDIENCE",
        value_name = "TEXT",
        default_value = "tundish"
    )]
    pub(crate) audience: String,

    /// Address of the admin port
    #[arg(
        long,
        env = "TUNDISH_ADMIN",
        value_name = "ADDR",
        default_value = "0.0.0.0:8081",
        value_parser = admin
    )]
    pub(crate) admin: SocketAddr,

    /// File with the token that opens /quota to other machines, sent as `Authorization: Bearer TOKEN`;
    /// read again for every request. Without it /quota is for this machine only
    #[arg(long, env = "TUNDISH_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,

    /// Name of this replica in the lease, different for each, such as pod name and uid [default:
    /// the host name and a random number]
    #[arg(long, env = "TUNDISH_IDENTITY", value_name = "TEXT")]
    pub(crate) identity: Option<String>,

    /// Seconds after which another replica takes the lease of a leader that is silent
    #[arg(
        long,
        env = "TUNDISH_LEASE_DURATION",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(3..=3_600),
        default_value_t = 15
    )]
    pub(crate) lease_duration: u64,

    /// Seconds after its last renewal for which a leader still writes; less than the lease's duration
    #[arg(
        long,
        env = "TUNDISH_LEASE_RENEW_DEADLINE",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(2..=3_600),
        default_value_t = 10
    )]
    pub(crate) lease_renew_deadline: u64,

    /// Seconds between two looks at the lease; less than the renew deadline
    #[arg(
        long,
        env = "TUNDISH_LEASE_RETRY_PERIOD",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=3_600),
        default_value_t = 2
    )]
    pub(crate) lease_retry_period: u64,

    /// What to log: off, error, warn, info, debug or trace, and TARGET=LEVEL for what differs, such as
    /// info,operator_controller=debug
    #[arg(
        long,
        env = "TUNDISH_LOG_LEVEL",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub(crate) log_level: Filter,

    /// Format of log lines: json or text [default: text on a terminal, else json]
    #[arg(long, env = "TUNDISH_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<Format>,
}

fn backend_host(text: &str) -> Result<HostPattern, InvalidBackendHost> {
    operator_compile::backend_host(text)
}

fn channel(text: &str) -> Result<SocketAddr, String> {
    address::parse(text, 8443)
}

fn admin(text: &str) -> Result<SocketAddr, String> {
    address::parse(text, 8081)
}
