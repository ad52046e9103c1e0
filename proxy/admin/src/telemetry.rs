//! Logging: one line per event on standard output, JSON or text.

use std::io::{self, IsTerminal as _};
use std::str::FromStr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::output::Output;

#[cfg(test)]
mod tests;

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

impl Format {
    /// Text if standard output is a terminal, else JSON.
    #[must_use]
    pub fn of_output() -> Self {
        if io::stdout().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(format!("log format is json or text, not {other:?}")),
        }
    }
}

/// What is logged: a level, and other levels for some targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

/// The levels, from nothing to everything.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl FromStr for Filter {
    type Err = String;

    /// The subscriber's own parser takes any word for a target, so that a typo silences the log: there
    /// must be a level, and every other part must be `TARGET=LEVEL`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
        let levels = LEVELS.join(", ");
        let mut levels_given = 0;
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        for part in &parts {
            if is_level(part) {
                levels_given += 1;
                continue;
            }
            match part.rsplit_once('=') {
                Some((target, level)) if !target.is_empty() && is_level(level) => {}
                Some((_target, level)) => {
                    return Err(format!("{level:?} is not a level; there are {levels}"));
                }
                None => {
                    return Err(format!(
                        "{part:?} is not a level; write one of {levels}, then TARGET=LEVEL for \
                         what differs, as in warn,access=info"
                    ));
                }
            }
        }
        match levels_given {
            0 => Err(format!(
                "a level for everything else is missing, and nothing else would be logged; write \
                 info,{text}, or off,{text}"
            )),
            1 => {
                let filter = parts.join(",");
                EnvFilter::try_new(&filter).map_err(|error| error.to_string())?;
                Ok(Self(filter))
            }
            _ => Err("there is more than one level; write one".to_owned()),
        }
    }
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
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
    /// Standard output cannot be used, or logging was started before.
    pub fn start(filter: &Filter, format: Format) -> Result<Self, TelemetryError> {
        let parsed = EnvFilter::new(&filter.0);
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
