//! The access log of one core: a line per request, in the form that `tracing` gives its events.
//!
//! A line goes into a buffer, and the buffer to the output when it is full, once a second, and at the end of
//! the core. So a request makes no system call for its line, and waits for no one who reads it.

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use proxy_admin::output::Output;
use proxy_admin::telemetry::Format;

use crate::config::AccessLog;

mod entry;
mod line;
#[cfg(test)]
mod tests;

pub(crate) use entry::{Attempt, Entry, Head};
pub(crate) use line::head;
use line::{Stamp, line};

/// A buffer of this size is written: some 40 lines, which cost one wake-up of the output's thread.
const FULL: usize = 32 << 10;
/// Room for the line that fills it.
const LINE: usize = 4 << 10;

/// The lines of one core. Dropping it writes the last ones.
pub(crate) struct Lines {
    format: Format,
    output: Output,
    dropped: Counter,
    /// Only the tasks of the core lock it, so none waits.
    buffer: Mutex<Buffer>,
}

struct Buffer {
    text: Vec<u8>,
    /// How many lines `text` has.
    lines: u64,
    stamp: Stamp,
}

// === impl Lines ===

impl Lines {
    /// `dropped` counts lines that the output does not take.
    pub(crate) fn new(log: &AccessLog, dropped: Counter) -> Self {
        Self {
            format: log.format,
            output: log.output.clone(),
            dropped,
            buffer: Mutex::new(Buffer {
                text: Vec::with_capacity(FULL + LINE),
                lines: 0,
                stamp: Stamp::default(),
            }),
        }
    }

    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    /// Writes a line. Allocates nothing once the buffer has grown.
    pub(crate) fn write(&self, entry: &Entry<'_>) {
        let mut buffer = self.buffer.lock();
        let Buffer { text, lines, stamp } = &mut *buffer;
        line(text, self.format, stamp, entry);
        *lines += 1;
        if text.len() >= FULL {
            self.hand_over(&mut buffer);
        }
    }

    /// Gives the lines so far to the output.
    pub(crate) fn flush(&self) {
        self.hand_over(&mut self.buffer.lock());
    }

    fn hand_over(&self, buffer: &mut Buffer) {
        if buffer.lines > 0 && !self.output.hand_over(&mut buffer.text) {
            self.dropped.inc_by(buffer.lines);
        }
        buffer.text.reserve(FULL + LINE);
        buffer.lines = 0;
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}
