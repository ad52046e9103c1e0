//! Why an identity has no token.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

use crate::answer::Refusal;

/// Why an identity has no token. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// Something is not set.
    #[error("{0}")]
    Unset(&'static str),
    /// A file cannot be read.
    #[error("read {file}: {reason}")]
    File {
        /// Its path.
        file: String,
        /// What the system says.
        reason: String,
    },
    /// The command of a developer's login makes none.
    #[error("{command}: {reason}")]
    Login {
        /// Its name.
        command: &'static str,
        /// What it says.
        reason: String,
    },
    /// There was no answer.
    #[error("{host} does not answer: {reason}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer is an error.
    #[error("{host} answered {}: {description}", status.as_u16())]
    Refused {
        /// Who was asked.
        host: String,
        /// The status.
        status: StatusCode,
        /// Entra's number.
        number: Option<u32>,
        /// Its description.
        description: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer is no token.
    #[error("the answer of {host} cannot be used: {reason}")]
    Malformed {
        /// Who was asked.
        host: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The first fetch has not ended.
    #[error("no token has come yet")]
    Pending,
}

/// When another fetch makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It may pass.
    Soon,
    /// Someone has to change something.
    Late,
    /// As the other side says.
    After(Duration),
}

/// A wait that is named is kept up to this: the identity may be needed.
const LONGEST_NAMED: Duration = Duration::from_secs(300);

impl NoToken {
    pub(crate) fn refused(
        host: String,
        status: StatusCode,
        refusal: Refusal,
        retry_after: Option<Duration>,
    ) -> Self {
        Self::Refused {
            host,
            status,
            number: refusal.number,
            description: refusal.description,
            retry_after,
        }
    }

    /// The reason in a word, for callers: no host, and nothing that names a tenant or an application.
    #[must_use]
    pub fn word(&self) -> Cow<'static, str> {
        match self {
            Self::Unset(_) | Self::File { .. } => "it is not set up at the proxy".into(),
            Self::Login { command, .. } => format!("{command} makes no token").into(),
            Self::Unreachable { .. } => "the token endpoint cannot be reached".into(),
            Self::Refused {
                number: Some(number),
                ..
            } => format!("AADSTS{number}").into(),
            Self::Refused { status, .. } => {
                format!("the token endpoint answered {}", status.as_u16()).into()
            }
            Self::Malformed { .. } => "the token endpoint gives no token".into(),
            Self::Pending => "no token has come yet".into(),
        }
    }

    /// Entra's number, as its documentation writes it.
    #[must_use]
    pub fn number(&self) -> Option<String> {
        match self {
            Self::Refused { number, .. } => number.map(|number| format!("AADSTS{number}")),
            Self::Unset(_)
            | Self::File { .. }
            | Self::Login { .. }
            | Self::Unreachable { .. }
            | Self::Malformed { .. }
            | Self::Pending => None,
        }
    }

    /// What to do about it, for the log.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Unset(_) => "see docs/identity.md for what the proxy needs",
            Self::File { .. } => {
                "check the file, and that the pod has the label azure.workload.identity/use"
            }
            Self::Login { .. } => "log in with that command, as in `az login`",
            Self::Unreachable { .. } => {
                "check the network policy, the egress and the name's resolution"
            }
            Self::Malformed { .. } => "check that the address is a token endpoint",
            Self::Pending => "wait",
            Self::Refused { number, .. } => match number {
                Some(700_016) => "check clientID, and that the application is in this tenant",
                Some(90_002) => "check tenantID and the authority's host",
                Some(7_000_215) => "put the secret's value, not its id, into the Secret",
                Some(7_000_222) => "the secret has expired: make a new one",
                Some(70_021 | 700_211 | 700_212 | 700_213 | 7_002_138) => {
                    "compare issuer, subject and audience of the federated credential with the \
                     ServiceAccount token, to the letter; a new credential takes minutes"
                }
                Some(700_024) => {
                    "the ServiceAccount token has expired: check the file and the clock"
                }
                Some(500_011 | 1_002_012 | 70_011) => "check auth.scope",
                Some(_) | None => "look the answer up in Entra's documentation",
            },
        }
    }

    pub(crate) fn again(&self) -> Again {
        match self {
            Self::File { .. }
            | Self::Login { .. }
            | Self::Unreachable { .. }
            | Self::Malformed { .. }
            | Self::Pending => Again::Soon,
            Self::Unset(_) => Again::Late,
            Self::Refused {
                status,
                retry_after,
                ..
            } => {
                // Of the machine's endpoint, 404 and 410 pass: it is being set up or updated.
                let passes =
                    status.is_server_error() || matches!(status.as_u16(), 404 | 408 | 410 | 429);
                match retry_after {
                    Some(wait) if passes => Again::After((*wait).min(LONGEST_NAMED)),
                    Some(_) | None if passes => Again::Soon,
                    Some(_) | None => Again::Late,
                }
            }
        }
    }

    /// The label of the metric.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Unset(_) | Self::File { .. } | Self::Login { .. } | Self::Pending => "not_set_up",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { status, .. } if status.as_u16() == 429 => "throttled",
            Self::Refused { status, .. } if status.is_server_error() => "failed",
            Self::Refused { .. } => "refused",
            Self::Malformed { .. } => "failed",
        }
    }
}
