//! The framing of `zstd` (RFC 8878): the decoder wants whole headers and blocks.

use bytes::{Buf, BytesMut};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::bounds::Undecodable;
use super::sink::Sink;

/// RFC 9659: a decoder of this coding must take no larger window.
const MAX_WINDOW: u64 = 8 << 20;
/// RFC 8878, 3.1.1.2.4: no block is larger, coded or decoded.
const MAX_BLOCK: usize = 128 << 10;
const MAGIC: u32 = 0xFD2F_B528;
/// The low four bits may be anything.
const SKIPPABLE: u32 = 0x184D_2A50;

pub(super) struct Zstd {
    decoder: FrameDecoder,
    /// What is not whole yet.
    held: BytesMut,
    expects: Expects,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expects {
    Frame,
    Block { has_checksum: bool },
    Skipped(usize),
}

impl Zstd {
    pub(super) fn new() -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self {
            decoder,
            held: BytesMut::new(),
            expects: Expects::Frame,
        }
    }

    pub(super) fn is_between_frames(&self) -> bool {
        self.held.is_empty() && matches!(self.expects, Expects::Frame | Expects::Skipped(0))
    }

    pub(super) fn push(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<(), Undecodable> {
        self.held.extend_from_slice(bytes);
        while self.step(sink)?.is_some() {}
        Ok(())
    }

    /// Takes what is whole; `None` if nothing is.
    fn step(&mut self, sink: &mut Sink) -> Result<Option<()>, Undecodable> {
        match self.expects {
            Expects::Skipped(0) => self.expects = Expects::Frame,
            Expects::Skipped(left) => {
                let here = left.min(self.held.len());
                if here == 0 {
                    return Ok(None);
                }
                self.held.advance(here);
                self.expects = Expects::Skipped(left - here);
            }
            Expects::Frame => return self.frame(),
            Expects::Block { has_checksum } => return self.block(has_checksum, sink),
        }
        Ok(Some(()))
    }

    fn frame(&mut self) -> Result<Option<()>, Undecodable> {
        let Some(magic) = self.number(0) else {
            return Ok(None);
        };
        if magic & !0xf == SKIPPABLE {
            let Some(size) = self.number(4) else {
                return Ok(None);
            };
            self.held.advance(8);
            self.expects = Expects::Skipped(usize::try_from(size).unwrap_or(usize::MAX));
            return Ok(Some(()));
        }
        if magic != MAGIC {
            return Err(Undecodable::Malformed);
        }
        let Some(&descriptor) = self.held.get(4) else {
            return Ok(None);
        };
        // RFC 8878, 3.1.1.1.1.
        let is_single_segment = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3));
        let content = [usize::from(is_single_segment), 2, 4, 8];
        let content = content.get(usize::from(descriptor >> 6));
        let window = usize::from(!is_single_segment);
        let size = 5 + window + dictionary.unwrap_or(&0) + content.unwrap_or(&0);
        if self.held.len() < size {
            return Ok(None);
        }
        let header = self.held.split_to(size);
        let begun = self.decoder.reset(&header[..]);
        begun.map_err(|_error| Undecodable::Malformed)?;
        self.expects = Expects::Block {
            has_checksum: descriptor & 4 != 0,
        };
        Ok(Some(()))
    }

    fn block(&mut self, has_checksum: bool, sink: &mut Sink) -> Result<Option<()>, Undecodable> {
        let Some(&[one, two, three]) = self.held.first_chunk() else {
            return Ok(None);
        };
        let header = u32::from_le_bytes([one, two, three, 0]);
        let (is_last, is_repeated) = (header & 1 == 1, (header >> 1) & 3 == 1);
        let decoded = usize::try_from(header >> 3).unwrap_or(usize::MAX);
        if decoded > MAX_BLOCK {
            return Err(Undecodable::Malformed);
        }
        let content = if is_repeated { 1 } else { decoded };
        let checksum = if is_last && has_checksum { 4 } else { 0 };
        let size = 3 + content + checksum;
        if self.held.len() < size {
            return Ok(None);
        }
        let block = self.held.split_to(size);
        let one = BlockDecodingStrategy::UptoBlocks(1);
        let ended = self.decoder.decode_blocks(&block[..], one);
        if ended.map_err(|_error| Undecodable::Malformed)? {
            self.expects = Expects::Frame;
        }
        let bytes = self.decoder.collect().unwrap_or_default();
        sink.put(&bytes)?;
        Ok(Some(()))
    }

    /// A little-endian number in what is held.
    fn number(&self, at: usize) -> Option<u32> {
        let bytes = self.held.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }
}
