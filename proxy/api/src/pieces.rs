//! A body as the pieces that it is sent in: a large one is not copied for an edit of a few bytes.

use bytes::{Bytes, BytesMut};

/// Bytes that follow each other, none of them empty.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    /// Nothing at the end.
    first: Bytes,
    /// The last one first.
    rest: Vec<Bytes>,
}

impl Pieces {
    /// The next piece.
    pub fn take_next(&mut self) -> Option<Bytes> {
        let next = self.rest.pop().unwrap_or_default();
        let piece = std::mem::replace(&mut self.first, next);
        (!piece.is_empty()).then_some(piece)
    }

    /// How many bytes are left.
    #[must_use]
    pub fn len(&self) -> usize {
        let rest = self.rest.iter().map(Bytes::len);
        rest.fold(self.first.len(), usize::saturating_add)
    }

    /// Whether no byte is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// All that is left, in one piece.
    #[must_use]
    pub fn joined(mut self) -> Bytes {
        if self.rest.is_empty() {
            return self.first;
        }
        let mut joined = BytesMut::with_capacity(self.len());
        while let Some(piece) = self.take_next() {
            joined.extend_from_slice(&piece);
        }
        joined.freeze()
    }
}

impl From<Bytes> for Pieces {
    fn from(whole: Bytes) -> Self {
        Self {
            first: whole,
            rest: Vec::new(),
        }
    }
}

impl FromIterator<Bytes> for Pieces {
    fn from_iter<T: IntoIterator<Item = Bytes>>(pieces: T) -> Self {
        let mut rest: Vec<Bytes> = pieces
            .into_iter()
            .filter(|piece| !piece.is_empty())
            .collect();
        rest.reverse();
        Self {
            first: rest.pop().unwrap_or_default(),
            rest,
        }
    }
}
