//! From flags to the settings of the parts. Reports every problem, not only the first.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use operator_compile::{INSTALLATION_NAMESPACE, IdentityGrants, is_label, is_subdomain};
use operator_controller::{GatewayConfig, Timing};
use proxy_admin::telemetry::{Filter, Format};
use proxy_core::reach::Reach;

use crate::args::Args;

#[cfg(test)]
mod tests;

/// The kubelet writes the pod's namespace here.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The kernel's host name; in a pod it is the pod's name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Longest name in a lease, in bytes.
const IDENTITY: usize = 253;

/// The checked settings of the operator.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) controller: operator_controller::Config,
    pub(crate) channel: operator_publish::Config,
    pub(crate) channel_names: Vec<String>,
    /// Namespace and name.
    pub(crate) proxy_account: (String, String),
    pub(crate) audience: String,
    pub(crate) admin: SocketAddr,
    pub(crate) admin_token_file: Option<PathBuf>,
    pub(crate) log_level: Filter,
    pub(crate) log_format: Format,
}

impl TryFrom<Args> for Config {
    type Error = clap::Error;

    fn try_from(args: Args) -> Result<Self, clap::Error> {
        let own = args.namespace.clone();
        let own = own.or_else(|| read(Path::new(POD_NAMESPACE)));
        let namespace = own.unwrap_or_else(|| INSTALLATION_NAMESPACE.to_owned());
        let account = &args.proxy_service_account;
        let (account_namespace, account_name) =
            account.split_once('/').unwrap_or((&namespace, account));
        let mut problems = invalid_names(&args, &namespace);
        if args.audience.is_empty() {
            problems.push("--audience: must not be empty".to_owned());
        }
        let identity = args.identity.unwrap_or_else(random_identity);
        if identity.is_empty() || identity.len() > IDENTITY {
            problems.push(format!("--identity: must have 1 to {IDENTITY} bytes"));
        }
        let lease = [
            args.lease_duration,
            args.lease_renew_deadline,
            args.lease_retry_period,
        ];
        if !lease.is_sorted_by(|longer, shorter| longer > shorter) {
            let text = "--lease-duration, --lease-renew-deadline and --lease-retry-period: each must be less than the one \
                        before, as 15, 10 and 2";
            problems.push(text.to_owned());
        }
        let ports = (args.admin.port(), args.channel_listen.port());
        if ports.0 == ports.1 && ports.0 != 0 && args.admin.ip() == args.channel_listen.ip() {
            problems.push("--admin and --channel-listen: must differ".to_owned());
        }
        if !problems.is_empty() {
            let text = problems.join("\n  ");
            return Err(Args::command().error(ErrorKind::ValueValidation, text));
        }
        let (service, certificates) = (args.gateway_service, args.gateway_certificates);
        let gateways = args.gateway_class.map(|class| GatewayConfig {
            class,
            namespaces: args.gateway_namespaces,
            certificates,
            service,
        });
        let identity_grants = if args.identity_grants.iter().any(|one| one == "*") {
            IdentityGrants::All
        } else {
            IdentityGrants::Namespaces(args.identity_grants)
        };
        Ok(Self {
            kubeconfig: args.kubeconfig,
            channel: operator_publish::Config {
                listen: args.channel_listen,
                heartbeat: Duration::from_secs(args.channel_heartbeat_seconds),
                subscription_life: Duration::from_secs(args.channel_subscription_seconds),
            },
            channel_names: channel_names(args.channel_dns_names, &namespace),
            proxy_account: (account_namespace.to_owned(), account_name.to_owned()),
            controller: operator_controller::Config {
                own_namespace: namespace,
                watch_namespaces: args.watch_namespaces,
                host_grants: args.host_grants,
                identity_grants,
                reach: Reach::new(args.backend_reach, args.cluster_network),
                backend_hosts: args.backend_hosts,
                gateways,
                identity,
                lease: Timing {
                    duration: Duration::from_secs(args.lease_duration),
                    renew_deadline: Duration::from_secs(args.lease_renew_deadline),
                    retry: Duration::from_secs(args.lease_retry_period),
                },
                proxy_pods: args.proxy_pods,
                checkpoint: args.checkpoint_config_map,
                snapshot: args.snapshot_secrets,
            },
            audience: args.audience,
            admin: args.admin,
            admin_token_file: args.admin_token_file,
            log_level: args.log_level,
            log_format: args.log_format.unwrap_or_else(Format::of_output),
        })
    }
}

/// What flags say that is no name in Kubernetes.
fn invalid_names(args: &Args, namespace: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut check = |flag: &str, name: &str, valid: bool| {
        if !valid {
            problems.push(format!(
                "--{flag}: {name:?} is not a name that Kubernetes allows"
            ));
        }
    };
    check("namespace", namespace, is_label(namespace));
    for watched in &args.watch_namespaces {
        check("watch-namespace", watched, is_label(watched));
    }
    for granted in &args.identity_grants {
        check(
            "identity-grant",
            granted,
            granted == "*" || is_label(granted),
        );
    }
    for gateways in &args.gateway_namespaces {
        check("gateway-namespace", gateways, is_label(gateways));
    }
    let names = [
        ("gateway-class", &args.gateway_class),
        ("gateway-service", &args.gateway_service),
    ];
    for (flag, name) in names {
        if let Some(name) = name {
            check(flag, name, is_subdomain(name));
        }
    }
    for name in &args.gateway_certificates {
        check("gateway-certificate", name, is_subdomain(name));
    }
    let account = &args.proxy_service_account;
    let (account_namespace, account_name) = account.split_once('/').unwrap_or((namespace, account));
    // An invalid own namespace is reported already.
    let own = account_namespace == namespace;
    let valid = (own || is_label(account_namespace)) && is_subdomain(account_name);
    check("proxy-service-account", account, valid);
    for name in &args.channel_dns_names {
        let plain = name.strip_prefix("*.").unwrap_or(name);
        let address = plain.parse::<std::net::IpAddr>().is_ok();
        check("channel-dns-name", name, address || is_subdomain(plain));
    }
    let map = &args.checkpoint_config_map;
    check("checkpoint-config-map", map, is_subdomain(map));
    if let Some(name) = &args.snapshot_secrets {
        check("snapshot-secrets", name, is_subdomain(&format!("{name}-0")));
    }
    problems
}

fn channel_names(given: Vec<String>, namespace: &str) -> Vec<String> {
    if !given.is_empty() {
        return given;
    }
    let service = format!("tundish-operator.{namespace}.svc");
    let pods = format!("*.{service}");
    vec![
        service,
        pods,
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
    ]
}

fn random_identity() -> String {
    let host = read(Path::new(HOST_NAME)).unwrap_or_else(|| "operator".to_owned());
    format!("{host}_{:016x}", rand::random::<u64>())
}

fn read(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
