//! Splits a stream of bytes into lines.

use bytes::{Bytes, BytesMut};

#[cfg(test)]
mod tests;

/// No table is longer; a peer that sends more without a newline is not an operator.
const LONGEST: usize = 256 * 1024 * 1024;

/// The line is longer than any table.
#[derive(Debug, thiserror::Error)]
#[error("line longer than {LONGEST} bytes")]
pub(crate) struct TooLong;

/// Collects bytes until there is a line. Scans each byte once.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: BytesMut,
    scanned: usize,
}

impl Lines {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.buffer.len().saturating_add(bytes.len()) > LONGEST {
            return Err(TooLong);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole line, without its newline.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let fresh = self.buffer.get(self.scanned..)?;
        let Some(at) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            return None;
        };
        let end = self.scanned.saturating_add(at);
        let line = self.buffer.split_to(end);
        // The newline itself.
        drop(self.buffer.split_to(1));
        self.scanned = 0;
        Some(line.freeze())
    }
}
