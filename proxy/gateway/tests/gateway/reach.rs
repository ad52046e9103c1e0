//! Backends where the installation allows none.

use std::sync::Arc;

use anyhow::Result;
use proxy_core::reach::{Allowance, Reach};
use serde_json::{Value, json};

use crate::bench::{Bench, at, routed, sims};

fn chat() -> Value {
    json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]})
}

fn reach(allowances: &[&str]) -> Arc<Reach> {
    let allowances = allowances
        .iter()
        .map(|one| one.parse().expect("an allowance"));
    Arc::new(Reach::new(allowances.collect(), Vec::new()))
}

#[tokio::test]
async fn a_closed_address_is_not_connected_to() -> Result<()> {
    let sims = sims(1, &tests_foundry::Config::default())?;
    let port = sims[0].url().rsplit(':').next().expect("a port").to_owned();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "127.1",
    ] {
        let contents = routed(vec![at(&format!("http://{host}:{port}"))], Vec::new());
        // Names of one label are open, so the resolver is asked.
        let bench = Bench::serve(Vec::new(), contents, |config| {
            config.reach = reach(&["cluster"])
        })?;
        let answer = bench.ask(&chat()).await?;
        assert_eq!(answer.status, 502, "{host}");
        let body: Value = answer.json()?;
        assert_eq!(
            body["error"]["code"], "backend_out_of_reach",
            "{host}: {body}"
        );
        // The client does not learn the address.
        assert!(!body.to_string().contains("127.0.0.1"), "{body}");
        bench.quiet().await?;
    }
    assert!(sims[0].requests().is_empty(), "nothing was sent");
    Ok(())
}

#[tokio::test]
async fn another_backend_of_the_rule_answers() -> Result<()> {
    let sims = sims(1, &tests_foundry::Config::default())?;
    let open = at(&sims[0].url());
    let contents = routed(vec![at("http://169.254.169.254"), open], Vec::new());
    let bench = Bench::serve(sims, contents, |config| {
        let loopback = Reach::default().with([Allowance::Loopback]);
        config.reach = Arc::new(loopback);
    })?;
    assert_eq!(bench.ask(&chat()).await?.status, 200);
    bench.quiet().await
}
