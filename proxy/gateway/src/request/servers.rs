//! The MCP servers that a rule lets requests name, for the provider to call.

use proxy_api::Server;
use proxy_core::names::Code;
use proxy_core::route::HostPattern;

use crate::answer::{Refusal, refuse};

/// Refuses a body that names another server than those of the rule.
pub(super) fn judge(
    allowed: &[HostPattern],
    servers: &[Server],
    rule: &str,
) -> Result<(), Box<Refusal>> {
    let is_allowed = |server: &Server| {
        let host = server.host.as_deref();
        host.is_some_and(|host| allowed.iter().any(|one| one.matches(host)))
    };
    let Some(server) = servers.iter().find(|server| !is_allowed(server)) else {
        return Ok(());
    };
    let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    let allowed = if allowed.is_empty() {
        "none".to_owned()
    } else {
        allowed.join(", ")
    };
    let message = format!(
        "rule \"{rule}\" does not let requests name the MCP server at {}; it allows by address: {allowed}",
        server.place
    );
    Err(refuse(Code::Forbidden, message))
}
