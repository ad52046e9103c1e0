//! The login of a developer: tokens that the command line of Azure makes, so that a laptop needs no secret.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use proxy_admin::clock;
use proxy_core::names::Secret;
use serde::Deserialize;
use tokio::process::Command;

use crate::answer::{self, LONGEST_LIFE, Token};
use crate::failure::NoToken;

#[cfg(test)]
mod tests;

/// Longest wait for a command: `az` takes a second, and some more the first time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command that is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Which one it is.
    pub tool: Tool,
    /// The program, by its name or path.
    pub program: PathBuf,
}

/// The commands that know a developer's login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Azure CLI.
    Az,
    /// Azure Developer CLI.
    Azd,
}

#[derive(Deserialize)]
struct OfAz {
    #[serde(rename = "accessToken")]
    access_token: String,
    /// In seconds since 1970; releases before 2.54 lack it.
    expires_on: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfAzd {
    token: String,
    /// In RFC 3339.
    expires_on: String,
}

// === impl Tool ===

impl Tool {
    /// Its name as a command.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Az => "az",
            Self::Azd => "azd",
        }
    }

    fn arguments(self, scope: &str, tenant_id: Option<&str>) -> Vec<String> {
        let (words, tenant) = match self {
            Self::Az => (["account", "get-access-token"].as_slice(), "--tenant"),
            Self::Azd => (["auth", "token"].as_slice(), "--tenant-id"),
        };
        let words = words.iter().chain(&["--output", "json", "--scope"]);
        let mut arguments: Vec<String> = words.map(|&word| word.to_owned()).collect();
        arguments.push(scope.to_owned());
        arguments.extend(
            tenant_id
                .into_iter()
                .flat_map(|id| [tenant.to_owned(), id.to_owned()]),
        );
        arguments
    }

    /// The token, and when it ends in seconds since 1970.
    fn read(self, output: &[u8]) -> Result<(String, i64), &'static str> {
        // The error of the parser could show a part of the token.
        let malformed = "it printed no token";
        match self {
            Self::Az => {
                let of: OfAz = serde_json::from_slice(output).map_err(|_error| malformed)?;
                let ends = of
                    .expires_on
                    .ok_or("it does not say when the token ends: update it")?;
                Ok((of.access_token, ends))
            }
            Self::Azd => {
                let of: OfAzd = serde_json::from_slice(output).map_err(|_error| malformed)?;
                let ends: Timestamp = of.expires_on.parse().map_err(|_error| malformed)?;
                Ok((of.token, ends.as_second()))
            }
        }
    }
}

// === impl Login ===

impl Login {
    /// Has the command make a token.
    pub(crate) async fn token(
        &self,
        scope: &str,
        tenant_id: Option<&str>,
    ) -> Result<Token, NoToken> {
        let failed = |reason: String| NoToken::Login {
            command: self.tool.name(),
            reason,
        };
        let mut command = Command::new(&self.program);
        command
            .args(self.tool.arguments(scope, tenant_id))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = tokio::time::timeout(PATIENCE, command.output()).await;
        let ended = ended.map_err(|_elapsed| failed("it does not end".to_owned()))?;
        let output = ended.map_err(|error| failed(format!("it cannot be run: {error}")))?;
        if !output.status.success() {
            return Err(failed(complaint(output.status, &output.stderr)));
        }
        let (token, ends) = self
            .tool
            .read(&output.stdout)
            .map_err(|why| failed(why.to_owned()))?;
        let left = ends.saturating_sub(clock::now().unix_ms / 1_000);
        match u64::try_from(left) {
            Ok(seconds @ 1..) if !token.is_empty() => Ok(Token {
                secret: Secret::new(token),
                lives: Duration::from_secs(seconds).min(LONGEST_LIFE),
            }),
            Ok(_) | Err(_) => Err(failed("its token has ended already".to_owned())),
        }
    }
}

/// What a command says about its failure. `azd` writes JSON, with the text inside.
fn complaint(status: ExitStatus, stderr: &[u8]) -> String {
    let said = answer::cleaned(&String::from_utf8_lossy(stderr), "");
    if said.is_empty() {
        return status.to_string();
    }
    said
}
