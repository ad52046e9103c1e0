//! Flags for where backends may be.

use std::net::IpAddr;

use clap::Args;
use proxy_core::reach::{Allowance, Network, Reach};

/// Where backends may be. Private addresses are open; loopback, link-local, metadata services, multicast
/// and the cluster are closed.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Backend reach")]
pub struct ReachArgs {
    /// Where backends may be besides public and private addresses: loopback, cluster, an address or
    /// network (169.254.10.0/24), or a name of the cluster (vllm.models.svc, *.models.svc); repeatable.
    /// `tundish run` has loopback and cluster
    #[arg(
        long,
        env = "TUNDISH_BACKEND_REACH",
        value_name = "WHERE",
        value_delimiter = ','
    )]
    pub backend_reach: Vec<Allowance>,
    /// Network of the cluster's Services, pods or nodes, where backends may not be without
    /// --backend-reach; repeatable
    #[arg(
        long,
        env = "TUNDISH_CLUSTER_NETWORK",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub cluster_network: Vec<Network>,
    /// Address of the cluster's API server, which counts as one of its networks; the kubelet sets the
    /// variable. A name counts for nothing
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", value_name = "ADDRESS")]
    pub api_server_address: Option<String>,
}

impl ReachArgs {
    /// Which addresses backends may have.
    #[must_use]
    pub fn reach(&self) -> Reach {
        let api_server = self.api_server_address.as_deref();
        let api_server = api_server.and_then(|text| text.parse::<IpAddr>().ok());
        let mut cluster = self.cluster_network.clone();
        cluster.extend(api_server.map(Network::from));
        Reach::new(self.backend_reach.clone(), cluster)
    }
}
