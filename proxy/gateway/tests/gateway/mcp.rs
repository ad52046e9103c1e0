//! Which MCP servers requests may make the provider call, by the rule.

use std::sync::Arc;

use anyhow::Result;
use proxy_core::route::HostPattern;
use serde_json::{Value, json};
use tests_foundry::{Config, Sim};

use crate::bench::{Bench, at, routed};

const KEY: &[(&str, &str)] = &[("api-key", "ann-key")];

/// A gateway whose rule allows these servers; `None` = any.
fn bench(servers: Option<&[&str]>) -> Result<Bench> {
    let sim = Sim::start(&Config::default())?;
    let mut contents = routed(vec![at(&sim.url())], Vec::new());
    for route in contents.routes.iter_mut() {
        for rule in &mut Arc::make_mut(route).rules {
            let servers = servers.map(|all| all.iter().filter_map(|one| HostPattern::parse(one)));
            Arc::make_mut(rule).mcp_servers = servers.map(Iterator::collect);
        }
    }
    Bench::of(vec![sim], contents)
}

fn asking(tool: &Value) -> String {
    json!({"model": "mini", "input": "Say something", "tools": [tool]}).to_string()
}

fn server(address: &str) -> String {
    asking(&json!({"type": "mcp", "server_label": "s", "server_url": address}))
}

#[tokio::test]
async fn a_rule_lets_requests_name_its_own_mcp_servers_alone() -> Result<()> {
    let connector = asking(&json!({"type": "mcp", "connector_id": "connector_gmail"}));
    let none = asking(&json!({"type": "function", "name": "f", "parameters": {}}));
    let listed: &[&str] = &["mcp.example.com", "*.tools.example.com"];
    for (servers, body, status) in [
        (None, server("https://any.example.org/sse"), 200),
        (None, connector.clone(), 200),
        (Some(listed), server("https://MCP.example.com/sse"), 200),
        (Some(listed), server("https://a.b.tools.example.com"), 200),
        (Some(listed), none.clone(), 200),
        (
            Some(listed),
            server("https://evil.example.org/mcp.example.com"),
            403,
        ),
        (
            Some(listed),
            server("https://mcp.example.com@evil.example.org"),
            403,
        ),
        (
            Some(listed),
            server("https://mcp.example.com.evil.example.org"),
            403,
        ),
        (Some(listed), connector, 403),
        (Some(&[]), server("https://mcp.example.com"), 403),
        (Some(&[]), none, 200),
    ] {
        let bench = bench(servers)?;
        let answer = bench.post("/v1/responses", KEY, &body).await?;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        let asked = bench.sims[0].requests().len();
        assert_eq!(asked, usize::from(status == 200), "{body}");
        if status == 403 {
            let error: Value = answer.json()?;
            assert_eq!(error["error"]["code"], "forbidden");
            let message = error["error"]["message"].as_str().unwrap_or_default();
            assert!(message.contains("tools[0]."), "{message}");
        }
    }
    Ok(())
}
