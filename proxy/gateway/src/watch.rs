//! What is looked for in the bytes of an answer, and how the answer settles by it.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::response::Parts;
use proxy_api::coding::{Bounds, Decoder, Undecodable};
use proxy_api::{Billing, Call, Ending, Stream, is_error, is_filtered, usage};
use proxy_core::names::{Code, Usage};
use proxy_core::tokens::Thoughts;
use smallvec::SmallVec;

use crate::exchange::Exchange;
use crate::vocabulary;

/// A JSON answer larger than this is relayed without being kept for its usage.
pub(crate) const MAX_KEPT: usize = 16 << 20;

/// What is kept of an answer within the cost of its request.
const FREE: usize = 16 << 10;
/// What is held first for a larger one.
const STEP: usize = 128 << 10;
/// The windows of decoders, with their tables (RFC 1951, 2; RFC 9659).
const DEFLATE: usize = 64 << 10;
const ZSTD: usize = 8 << 20;

/// What one read of a stream may decode to: thousands of events.
pub(crate) const STREAM_BOUNDS: Bounds = Bounds {
    per_call: 4 << 20,
    total: usize::MAX,
};
const KEPT_BOUNDS: Bounds = Bounds {
    per_call: MAX_KEPT,
    total: MAX_KEPT,
};

/// What is looked for.
pub(crate) enum Watch {
    /// Events of a stream.
    Events(Box<Stream>, Option<Box<Coded>>),
    /// One JSON object, whose usage is read at the end.
    Json(Kept, &'static Call),
    /// An error of the backend: bills nothing, unless its content filter refused the prompt.
    Error(Kept),
    /// Nothing: the answer tells nothing of what is billed, even if it was asked to.
    Untold(Billing),
    /// Nothing: the exchange has ended.
    Nothing,
}

/// A stream that came coded, unasked.
pub(crate) struct Coded {
    decoder: Decoder,
    /// It goes on as it came: its decoder keeps events back until the end.
    as_it_came: bool,
}

/// The frames of an answer that is read as a whole.
#[derive(Default)]
pub(crate) struct Kept {
    frames: SmallVec<[Bytes; 1]>,
    size: usize,
    /// The size that memory is held for.
    room: usize,
    /// It is too large to be kept, or memory is short.
    is_lost: bool,
    /// `Content-Encoding`, if the backend chose one unasked.
    coding: Option<HeaderValue>,
}

// === impl Watch ===

impl Watch {
    /// What to look for in an answer with this head to a request for a stream or not. `strip` takes the event
    /// out that carries nothing but usage.
    pub(crate) fn of(call: &'static Call, streams: bool, head: &Parts, strip: bool) -> Self {
        let headers = &head.headers;
        let coding = headers.get(CONTENT_ENCODING);
        let kept = || Kept {
            room: FREE,
            coding: coding.cloned(),
            ..Kept::default()
        };
        if !head.status.is_success() {
            return Self::Error(kept());
        }
        match call.billing {
            Billing::Metered | Billing::Batch => {}
            Billing::MeteredInEvents if is_event_stream(headers) => {}
            Billing::MeteredInEvents
            | Billing::Unmetered
            | Billing::Request
            | Billing::Priced
            | Billing::Free => {
                return Self::Untold(call.billing_of(streams));
            }
        }
        if !is_event_stream(headers) {
            return Self::Json(kept(), call);
        }
        let strip = strip && !coding.is_some_and(is_zstd);
        let stream = || Box::new(Stream::new(call.events, call.read_usage, strip));
        match coding.map(|coding| decoder(coding, STREAM_BOUNDS)) {
            None => Self::Events(stream(), None),
            Some(Some(decoder)) => {
                let as_it_came = coding.is_some_and(is_zstd);
                let coded = Coded {
                    decoder,
                    as_it_came,
                };
                Self::Events(stream(), Some(Box::new(coded)))
            }
            // In a coding that is not known here.
            Some(None) => Self::Json(kept(), call),
        }
    }

    /// For an answer that is there as a whole.
    pub(crate) fn whole(call: &'static Call, answer: Bytes) -> Self {
        let kept = Kept {
            size: answer.len(),
            frames: SmallVec::from_buf([answer]),
            ..Kept::default()
        };
        Self::Json(kept, call)
    }

    /// Whether the usage has come.
    pub(crate) fn tells_usage(&self) -> bool {
        match self {
            Self::Events(stream, _) => stream.usage().is_some(),
            Self::Json(kept, call) => {
                let whole = kept.whole();
                whole.is_some_and(|whole| (call.read_usage)(&whole, None).is_some())
            }
            Self::Error(_) | Self::Untold(_) | Self::Nothing => false,
        }
    }

    /// Whether it is a stream of events.
    pub(crate) const fn is_stream(&self) -> bool {
        matches!(self, Self::Events(..))
    }

    /// Whether the bytes that go on are coded as they came.
    pub(crate) fn keeps_coding(&self) -> bool {
        match self {
            Self::Events(_, Some(coded)) => coded.as_it_came,
            Self::Events(..)
            | Self::Json(..)
            | Self::Error(_)
            | Self::Untold(_)
            | Self::Nothing => true,
        }
    }

    /// Takes what arrived, and returns what of it goes on to the client.
    pub(crate) fn pass(
        &mut self,
        data: Bytes,
        exchange: &mut Exchange,
    ) -> Result<Bytes, Undecodable> {
        Ok(match self {
            Self::Events(stream, None) => {
                let out = stream.push(data);
                if stream.held() > FREE {
                    exchange.must_keep(stream.held());
                }
                out
            }
            Self::Events(stream, Some(coded)) => {
                let read = stream.push(coded.decoder.push(&data)?);
                let window = if coded.as_it_came { ZSTD } else { DEFLATE };
                exchange.must_keep(window.saturating_add(stream.held()));
                if coded.as_it_came { data } else { read }
            }
            Self::Json(kept, _) | Self::Error(kept) => {
                kept.push(&data, exchange);
                data
            }
            Self::Untold(_) | Self::Nothing => data,
        })
    }

    /// Whether the answer has said that it ends, whatever its connection does.
    pub(crate) const fn is_done(&self) -> bool {
        match self {
            Self::Events(stream, _) => stream.is_done(),
            Self::Json(..) | Self::Error(_) | Self::Untold(_) | Self::Nothing => false,
        }
    }

    /// Whether bytes that follow may tell what is billed, so that they are worth a wait without a client. A
    /// stream in its middle is not: whoever is left stops there, and its text is counted.
    pub(crate) fn is_worth_reading(&self) -> bool {
        match self {
            Self::Events(stream, _) => {
                stream.is_finishing() && stream.usage().is_none() && !stream.is_done()
            }
            Self::Json(..) => true,
            Self::Error(_) | Self::Untold(_) | Self::Nothing => false,
        }
    }

    /// Ends an answer that has come to its end. Returns what was held back of it.
    pub(crate) fn complete(&mut self, exchange: &mut Exchange, now: Instant) -> Option<Bytes> {
        let rest = match self {
            Self::Events(stream, _) => stream.finish(),
            Self::Json(..) | Self::Error(_) | Self::Untold(_) | Self::Nothing => Bytes::new(),
        };
        let code = self.settle(exchange, now);
        exchange.record.passed(rest.len());
        exchange.body_ended(code == "ok");
        exchange.end(code, now);
        (!rest.is_empty()).then_some(rest)
    }

    /// Settles an answer that is whole. Returns what it came to.
    pub(crate) fn settle(&mut self, exchange: &mut Exchange, now: Instant) -> &'static str {
        match self {
            Self::Events(stream, _) => {
                settle_stream(stream, exchange, now);
                match stream.ending() {
                    Ending::Complete => "ok",
                    Ending::Empty | Ending::Unended => Code::UpstreamFailed.as_str(),
                    Ending::Error => "upstream_error",
                }
            }
            Self::Json(kept, call) => {
                let Some(whole) = kept.whole() else {
                    exchange.unknown(kept.size, now);
                    return "ok";
                };
                if exchange.is_routed() {
                    exchange.answered_by(usage::answered_model(&whole).as_deref());
                }
                let told = (call.read_usage)(&whole, None);
                match told.filter(|usage| exchange.record.can_be(*usage)) {
                    Some(usage) => exchange.measured(usage, now),
                    None if is_error(&whole) => {
                        exchange.refused(now);
                        return "upstream_error";
                    }
                    None if call.events.answer.is_none() => exchange.unknown(0, now),
                    None => match call.counted_output(&whole, counter(exchange)) {
                        0 => exchange.unknown(kept.size, now),
                        shown => {
                            let thoughts = Thoughts::Unknown;
                            let all = exchange.record.unreported(shown, thoughts, now);
                            exchange.estimated(all, now);
                        }
                    },
                }
                "ok"
            }
            Self::Error(kept) => {
                let billed = exchange.record.status == 400
                    && kept.whole().is_some_and(|whole| is_filtered(&whole));
                if billed {
                    exchange.estimated(0, now);
                } else {
                    exchange.refused(now);
                }
                "upstream_error"
            }
            Self::Untold(billing) => {
                match billing {
                    Billing::Free => exchange.released(now),
                    Billing::Request | Billing::Priced => exchange.refused(now),
                    Billing::Metered | Billing::Batch => exchange.unknown(0, now),
                    Billing::MeteredInEvents | Billing::Unmetered => {
                        exchange.measured(Usage::default(), now);
                    }
                }
                "ok"
            }
            Self::Nothing => "ok",
        }
    }

    /// Settles an answer that broke off, or took too long. Returns what is left for the client: of a stream
    /// the event by which its API reports an error.
    pub(crate) fn broken(
        &mut self,
        exchange: &mut Exchange,
        code: Code,
        why: &'static str,
        now: Instant,
    ) -> Option<Bytes> {
        match self {
            Self::Events(stream, coded) => {
                // Half an event tells what it costs, and no client can read it.
                drop(stream.finish());
                settle_stream(stream, exchange, now);
                // Nothing can be added to a stream that goes on coded.
                let is_plain = coded.as_ref().is_none_or(|coded| !coded.as_it_came);
                let event = is_plain.then(|| {
                    let id = exchange.record.request_id.to_str().ok();
                    Bytes::from(stream.error_event(code, why, id))
                });
                exchange.record.passed(event.as_ref().map_or(0, Bytes::len));
                exchange.end(code.as_str(), now);
                event
            }
            Self::Json(kept, call) => {
                settle_part(kept, call, exchange, now);
                exchange.end(code.as_str(), now);
                None
            }
            Self::Error(_) | Self::Untold(_) => {
                self.unread(exchange, now);
                exchange.end(code.as_str(), now);
                None
            }
            Self::Nothing => None,
        }
    }

    /// Settles an answer whose client has left: a backend that began it bills the input at least.
    pub(crate) fn left(&mut self, exchange: &mut Exchange, now: Instant) {
        if let Self::Events(stream, _) = self
            && stream.is_enough()
        {
            self.complete(exchange, now);
            return;
        }
        match self {
            Self::Events(stream, _) => match told(stream, exchange) {
                Some(usage) => exchange.measured(usage, now),
                None => match (stream.counted_output(counter(exchange)), stream.ending()) {
                    (0, Ending::Error) => exchange.refused(now),
                    (shown, _) => settle_shown(stream, shown, exchange, now),
                },
            },
            Self::Json(kept, call) => settle_part(kept, call, exchange, now),
            Self::Error(_) | Self::Untold(_) => self.unread(exchange, now),
            Self::Nothing => {}
        }
        exchange.end("client_aborted", now);
    }

    /// Settles a part of an answer that is not read.
    fn unread(&self, exchange: &mut Exchange, now: Instant) {
        if matches!(self, Self::Untold(Billing::Metered)) {
            exchange.unknown(0, now);
        } else {
            exchange.refused(now);
        }
    }
}

/// The usage that a stream has told, if it can be true.
fn told(stream: &Stream, exchange: &mut Exchange) -> Option<Usage> {
    if exchange.is_routed() {
        exchange.answered_by(stream.model());
    }
    let told = stream.usage();
    told.filter(|usage| exchange.record.can_be(*usage))
}

/// By the usage, if a JSON answer has told it before it broke off.
fn settle_part(kept: &Kept, call: &Call, exchange: &mut Exchange, now: Instant) {
    let told = kept.whole().and_then(|part| (call.read_usage)(&part, None));
    match told.filter(|usage| exchange.record.can_be(*usage)) {
        Some(usage) => exchange.measured(usage, now),
        None if call.events.answer.is_none() => exchange.unknown(0, now),
        None => exchange.unknown(kept.size, now),
    }
}

/// By the usage that the stream told, whatever came after it; without one by its text.
fn settle_stream(stream: &Stream, exchange: &mut Exchange, now: Instant) {
    match told(stream, exchange) {
        Some(usage) => exchange.measured(usage, now),
        None => match (stream.counted_output(counter(exchange)), stream.ending()) {
            (0, Ending::Empty | Ending::Error) => exchange.refused(now),
            (shown, _) => settle_shown(stream, shown, exchange, now),
        },
    }
}

/// By what a stream has shown and may have thought, and the input that it told, if it did.
fn settle_shown(stream: &Stream, shown: u64, exchange: &mut Exchange, now: Instant) {
    let shown = exchange.record.unreported(shown, stream.thoughts(), now);
    match stream.input() {
        Some(input) if exchange.record.can_be(input) => {
            let output_tokens = shown.max(input.output_tokens);
            exchange.counted(
                Usage {
                    output_tokens,
                    ..input
                },
                now,
            );
        }
        _ if stream.has_words() => exchange.estimated(shown, now),
        _ => exchange.unknown(0, now),
    }
}

/// Counts text by the vocabulary of the model that answers, where it is public.
fn counter(exchange: &Exchange) -> impl FnOnce(&str) -> Option<u64> {
    let encoding = exchange
        .record
        .deployed_model()
        .and_then(vocabulary::of_model);
    move |text| Some(encoding?.count(text, u64::MAX))
}

// === impl Kept ===

impl Kept {
    fn push(&mut self, data: &Bytes, exchange: &mut Exchange) {
        self.size = self.size.saturating_add(data.len());
        if self.is_lost {
            return;
        }
        if self.size > self.room {
            // As much may wait for a client that reads slowly.
            self.room = self.size.saturating_mul(2).clamp(STEP, 2 * MAX_KEPT);
            self.is_lost = self.size > MAX_KEPT || !exchange.keeps(self.room);
        }
        if self.is_lost {
            self.frames.clear();
        } else {
            self.frames.push(data.clone());
        }
    }

    /// The whole answer, decoded; `None` if it was not kept, or cannot be decoded.
    fn whole(&self) -> Option<Bytes> {
        if self.is_lost {
            return None;
        }
        let whole = joined(&self.frames);
        let Some(coding) = &self.coding else {
            return Some(whole);
        };
        let mut decoder = decoder(coding, KEPT_BOUNDS)?;
        let mut decoded = BytesMut::from(&decoder.push(&whole).ok()?[..]);
        decoded.extend_from_slice(&decoder.finish().ok()?);
        Some(decoded.freeze())
    }
}

fn is_zstd(coding: &HeaderValue) -> bool {
    coding.as_bytes().to_ascii_lowercase().ends_with(b"zstd")
}

pub(crate) fn decoder(coding: &HeaderValue, bounds: Bounds) -> Option<Decoder> {
    Decoder::new(coding.to_str().ok()?, bounds)
}

pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let begin = kind.and_then(|kind| kind.get(..EVENTS.len()));
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(EVENTS))
}

fn joined(frames: &[Bytes]) -> Bytes {
    match frames {
        [] => Bytes::new(),
        [only] => only.clone(),
        many => many.concat().into(),
    }
}
