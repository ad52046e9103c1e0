//! Logging: one line per event on standard output, JSON or text.

use std::io;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::output::Output;

/// How long the end of a process waits for the reader of its log.
const LAST_LINES: Duration = Duration::from_secs(1);

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
    /// Standard output cannot be used.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// A subscriber is there already.
    #[error("logging is already set up")]
    Installed,
}

/// The log of the process. Dropping it waits shortly until its lines are out, so it is kept until the last
/// event.
#[derive(Debug)]
pub struct Log {
    format: Format,
    output: Output,
}

impl Log {
    /// Starts logging for the process, once.
    ///
    /// # Errors
    /// The filter is wrong, or logging was started before.
    pub fn start(filter: &str, format: Format) -> Result<Self, TelemetryError> {
        let parsed = EnvFilter::try_new(filter)
            .map_err(|_error| TelemetryError::Filter(filter.to_owned()))?;
        let output = Output::standard().map_err(TelemetryError::Output)?;
        let lines = Lines(output.clone());
        let builder = fmt()
            .with_env_filter(parsed)
            .with_writer(move || lines.clone());
        let installed = match format {
            Format::Json => builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .try_init(),
            Format::Text => builder.with_ansi(false).try_init(),
        };
        installed.map_err(|_error| TelemetryError::Installed)?;
        Ok(Self { format, output })
    }

    /// How its lines look.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Where its lines go.
    #[must_use]
    pub fn output(&self) -> Output {
        self.output.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.output.flush(LAST_LINES);
    }
}

/// Takes one whole line per call, as the subscriber writes them.
#[derive(Clone)]
struct Lines(Output);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // What is dropped is counted there; an error would be printed on standard error, which blocks.
        self.0.write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
