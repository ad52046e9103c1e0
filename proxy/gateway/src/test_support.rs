//! A gateway that serves nobody, for the tests of what it tells about itself.

use std::time::Duration;

use prometheus_client::registry::Registry;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::gateway::Gateway;

pub(crate) fn gateway(registry: &mut Registry) -> Gateway {
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        apis: proxy_api::ROWS,
        threads: 1,
        tls: None,
        max_body: 1_024,
        default_output_tokens: 20,
        drain_grace: Duration::from_secs(1),
        limit_series: 2,
        access_log: false,
        store: None,
    };
    Gateway::new(config, Metrics::register(registry))
}
