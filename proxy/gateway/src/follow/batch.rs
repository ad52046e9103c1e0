//! What a batch has come to that has ended: the sum of what the lines of its output and error files tell.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use proxy_admin::clock;
use proxy_admin::memory::Purpose;
use proxy_api::Call;
use proxy_api::batches::{self, Batch, Outcome};
use proxy_core::auth::Caller;
use proxy_core::names::Usage;
use proxy_core::tokens::Price;

use crate::exchange::{Exchange, Sum};
use crate::slot::Slots;
use crate::source::{FileBounds, Source, Unread};
use crate::state::Core;

/// Output files have no bound of their own ("Batch limits"): 100,000 answers of 20 KB.
const MOST_BYTES: usize = 2 << 30;
/// The longest line: an answer of 128,000 tokens, and what is around each in `logprobs`.
const LONGEST_LINE: usize = 8 << 20;
/// How long a file may take to come.
const PATIENCE: Duration = Duration::from_secs(600);

/// The files that the process reads at one time.
static READERS: Slots = Slots::new(4);

/// What is known of a batch since it was made.
pub(super) struct Known {
    caller: Option<Arc<Caller>>,
    held: Usage,
    /// The most that one line can have used.
    most: Option<Usage>,
    price: Option<Arc<Price>>,
}

impl Known {
    pub(super) fn of(exchange: &Exchange) -> Self {
        Self {
            caller: exchange.record.caller.clone(),
            held: exchange.held().usage,
            most: exchange.record.most(),
            price: exchange.price(),
        }
    }

    fn micros(&self, usage: Usage) -> Option<u64> {
        let price = self.price.as_ref();
        price.map(|price| price.cost_micros(usage, None))
    }

    /// Whether the cost of all lines follows from the sum of their tokens.
    fn is_linear(&self) -> bool {
        let price = self.price.as_ref();
        price.is_none_or(|price| price.long_context.is_none() && price.routed.is_empty())
    }

    fn sum(&self, usage: Usage) -> Sum {
        Sum {
            usage,
            cost_micros: self.micros(usage),
            is_told: true,
        }
    }

    /// Adds what a line tells; without a usage that can be true, its part of what was held.
    fn add(&self, sum: &mut Sum, outcome: Outcome, share: Usage) {
        let can_be = |usage: Usage| {
            self.most.is_none_or(|most| {
                usage.input_tokens <= most.input_tokens && usage.output_tokens <= most.output_tokens
            })
        };
        let (usage, is_told) = match outcome {
            Outcome::Told(usage) if can_be(usage) => (usage, true),
            Outcome::Told(usage) => {
                tracing::warn!(
                    input_tokens = usage.input_tokens,
                    output_tokens = usage.output_tokens,
                    "a line of a batch reports more usage than its model can have; it is taken for unknown"
                );
                (share, false)
            }
            Outcome::Shown(output_tokens) => {
                let usage = Usage {
                    output_tokens,
                    ..share
                };
                (usage, false)
            }
            Outcome::Filtered => {
                let usage = Usage {
                    output_tokens: 0,
                    ..share
                };
                (usage, false)
            }
            Outcome::Nothing => return,
        };
        sum.usage = sum.usage.plus(usage);
        let more = self.micros(usage);
        sum.cost_micros = sum.cost_micros.zip(more).map(|(a, b)| a.saturating_add(b));
        sum.is_told &= is_told;
    }
}

/// What the batch has come to. An error that may pass is asked for again.
pub(super) async fn sum(
    core: &Core,
    source: &Source,
    request_id: &HeaderValue,
    (known, batch): (&Known, &Batch),
) -> Result<Option<Sum>, Unread> {
    match batch.usage {
        Some(usage) if known.is_linear() => return Ok(Some(known.sum(usage))),
        _ if batch.files.is_empty() => {
            let is_nothing = batch.answered == Some(0);
            return Ok(is_nothing.then(|| known.sum(Usage::default())));
        }
        Some(_) | None => {}
    }
    let rows = core.shared.config.apis;
    let api = batch
        .endpoint
        .as_deref()
        .and_then(|url| batches::row(rows, url));
    let Some(call) = api.and_then(|api| api.answer.call()) else {
        return Ok(None);
    };
    // All are busy: a later look finds the same.
    let _reader = READERS.take().ok_or(Unread::Late)?;
    match read(core, source, request_id, (known, batch, call)).await {
        Err(Unread::Gone | Unread::Large | Unread::Long(_)) => {
            Ok(batch.usage.map(|usage| known.sum(usage)))
        }
        other => other.map(Some),
    }
}

async fn read(
    core: &Core,
    source: &Source,
    request_id: &HeaderValue,
    (known, batch, call): (&Known, &Batch, &Call),
) -> Result<Sum, Unread> {
    let mut sum = known.sum(Usage::default());
    let share = share(known.held, batch.lines.or(batch.answered));
    let mut seen: u64 = 0;
    let Some(caller) = &known.caller else {
        return Err(Unread::Gone);
    };
    for file in &batch.files {
        let memory = &core.shared.memory;
        let hold = memory
            .hold(Purpose::Body, caller, 0)
            .map_err(Unread::Full)?;
        let bounds = FileBounds {
            size: MOST_BYTES,
            line: LONGEST_LINE,
            until: clock::instant() + PATIENCE,
            hold,
        };
        let mut lines = source.lines(core, file, request_id, bounds).await?;
        while let Some((_, line)) = lines.next(caller).await? {
            let outcome = batches::outcome(call, &line, |_text| None);
            known.add(&mut sum, outcome.ok_or(Unread::Failed)?, share);
            seen += 1;
        }
    }
    // Answered, and in no file: never less than what was held for them.
    for _ in seen..batch.answered.unwrap_or(seen) {
        let missing = Outcome::Shown(share.output_tokens);
        known.add(&mut sum, missing, share);
    }
    Ok(sum)
}

/// The part of a line.
fn share(held: Usage, lines: Option<u64>) -> Usage {
    let lines = lines.unwrap_or(1).max(1);
    Usage {
        input_tokens: held.input_tokens.div_ceil(lines),
        output_tokens: held.output_tokens.div_ceil(lines),
        ..Usage::default()
    }
}
