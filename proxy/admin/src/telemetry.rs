//! Logging: one line per event on standard output, JSON or text.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For machines.
    Json,
    /// For a terminal.
    Text,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(format!("log format is json or text, not {other:?}")),
        }
    }
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("log level {0:?} is not a filter such as info or warn,proxy_gateway=debug")]
    Filter(String),
    /// A subscriber is there already.
    #[error("logging is already set up")]
    Installed,
}

/// Starts logging for the process, once.
///
/// # Errors
/// The filter is wrong, or logging was started before.
pub fn start(filter: &str, format: Format) -> Result<(), TelemetryError> {
    let parsed =
        EnvFilter::try_new(filter).map_err(|_error| TelemetryError::Filter(filter.to_owned()))?;
    let builder = fmt().with_env_filter(parsed).with_writer(std::io::stdout);
    let installed = match format {
        Format::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
        Format::Text => builder.with_ansi(false).try_init(),
    };
    installed.map_err(|_error| TelemetryError::Installed)
}
