//! How much an answer may decode to, and why it may not be decoded.

/// How much an answer may decode to. A coding holds up to 16 MiB (br), 8 MiB (zstd) or 32 KiB beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes from one call.
    pub per_call: usize,
    /// Bytes in all.
    pub total: usize,
}

/// Why an answer cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// It is not of its coding, or ends too early.
    #[error("the coding of the answer is malformed")]
    Malformed,
    /// It decodes to more than its bounds.
    #[error("the answer decodes to too much")]
    TooLarge,
}
