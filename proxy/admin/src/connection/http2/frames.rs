//! The frames of HTTP/2 in one direction of a connection (RFC 9113, 4.1), as far as their sizes and errors
//! go. Keeps no payload, and judges nothing: that is the codec's.

/// The head of a frame: length, type, flags, stream.
const HEAD: usize = 9;
/// With the part of a GOAWAY that says why.
const LONGEST: usize = HEAD + 8;
/// `END_HEADERS`, of HEADERS and CONTINUATION.
const END_HEADERS: u8 = 4;

/// The error codes (RFC 9113, 7), in lower case as everywhere in metrics.
const ERRORS: [&str; 14] = [
    "no_error",
    "protocol_error",
    "internal_error",
    "flow_control_error",
    "settings_timeout",
    "stream_closed",
    "frame_size_error",
    "refused_stream",
    "cancel",
    "compression_error",
    "connect_error",
    "enhance_your_calm",
    "inadequate_security",
    "http_1_1_required",
];

/// What frames are for, where that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// HEADERS: a head begins.
    Head { length: usize, is_last: bool },
    /// CONTINUATION: it goes on.
    MoreHead { length: usize, is_last: bool },
    /// RST_STREAM: a stream ends early.
    Reset { error: &'static str },
    /// GOAWAY: the connection ends.
    GoAway { error: &'static str },
    /// Data, pings, windows, settings.
    Other,
}

/// Where one direction is.
#[derive(Debug)]
pub(super) struct Frames {
    /// The begin of the frame, as far as it is looked at, and how much of that has come.
    begin: [u8; LONGEST],
    have: usize,
    want: usize,
    /// What is still to come of the rest.
    rest: usize,
}

// === impl Frames ===

impl Frames {
    /// A direction whose first frame comes behind `preface` bytes.
    pub(super) const fn new(preface: usize) -> Self {
        Self {
            begin: [0; LONGEST],
            have: 0,
            want: HEAD,
            rest: preface,
        }
    }

    /// Takes the next bytes, in pieces of any size, and hands on each frame whose begin is there.
    pub(super) fn follow(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame)) {
        loop {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            let taken = (self.want - self.have).min(bytes.len());
            let (begin, others) = bytes.split_at(taken);
            if let Some(place) = self.begin.get_mut(self.have..self.have + taken) {
                place.copy_from_slice(begin);
            }
            (self.have, bytes) = (self.have + taken, others);
            if self.have == self.want
                && let Some(frame) = self.begun()
            {
                seen(frame);
            }
        }
    }

    /// The frame whose begin is there, or `None` if more of it is wanted.
    fn begun(&mut self) -> Option<Frame> {
        let [high, middle, low, kind, flags, _, _, _, _, payload @ ..] = self.begin;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let looked_at = match kind {
            3 => 4,
            7 => 8,
            _ => 0,
        };
        let end = HEAD + looked_at.min(length);
        if self.have < end {
            self.want = end;
            return None;
        }
        (self.have, self.want, self.rest) = (0, HEAD, length + HEAD - end);
        let is_last = flags & END_HEADERS != 0;
        let [first, second] = payload.as_chunks().0 else {
            return Some(Frame::Other);
        };
        Some(match kind {
            1 => Frame::Head { length, is_last },
            9 => Frame::MoreHead { length, is_last },
            // One that is too short is an error of its own, which the codec answers.
            3 if length >= 4 => Frame::Reset {
                error: name(*first),
            },
            7 if length >= 8 => Frame::GoAway {
                error: name(*second),
            },
            _ => Frame::Other,
        })
    }
}

fn name(error: [u8; 4]) -> &'static str {
    let code = usize::try_from(u32::from_be_bytes(error)).ok();
    let name = code.and_then(|code| ERRORS.get(code));
    name.copied().unwrap_or("unknown")
}

#[cfg(test)]
mod tests;
