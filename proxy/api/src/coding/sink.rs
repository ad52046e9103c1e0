//! Where codings write to.

use std::io::{Error, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

use super::bounds::Undecodable;

/// Decoded bytes, up to a bound.
#[derive(Debug)]
pub(super) struct Sink {
    bytes: Vec<u8>,
    bound: usize,
    is_over: bool,
}

impl Sink {
    pub(super) const fn new(bound: usize) -> Self {
        Self {
            bytes: Vec::new(),
            bound,
            is_over: false,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Undecodable> {
        if bytes.len() > self.bound - self.bytes.len() {
            self.is_over = true;
            return Err(Undecodable::TooLarge);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Lets a coding that owns what it writes to write here.
    pub(super) fn lend(
        &mut self,
        gzip: &mut MultiGzDecoder<Self>,
        run: impl FnOnce(&mut MultiGzDecoder<Self>) -> Result<(), Error>,
    ) -> Result<(), Undecodable> {
        std::mem::swap(gzip.get_mut(), self);
        let result = run(gzip);
        std::mem::swap(gzip.get_mut(), self);
        match result {
            Ok(()) => Ok(()),
            Err(_error) if self.is_over => Err(Undecodable::TooLarge),
            Err(_error) => Err(Undecodable::Malformed),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.put(bytes).map_err(Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// Bytes that no coding takes.
pub(super) const fn nothing_left(bytes: &[u8]) -> Result<(), Undecodable> {
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(Undecodable::Malformed)
    }
}
