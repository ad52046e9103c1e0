//! Calls of which no answer tells what they cost.

use proxy_api::{Billing, Call};
use proxy_core::names::{Code, Operation};
use proxy_core::table::Rule;
use proxy_ledger::Counters;

use crate::answer::{Refusal, refuse};

/// Whether the limits of a call can be kept: what tells no usage needs the rule's leave.
pub(super) fn metered(
    operation: Operation,
    call: &Call,
    billing: Billing,
    counters: &Counters,
    rule: &Rule,
) -> Result<(), Box<Refusal>> {
    let is_broken = match billing {
        Billing::Unmetered => counters.has_amounts(),
        Billing::Priced => counters.has_money(),
        Billing::Metered
        | Billing::MeteredInEvents
        | Billing::Batch
        | Billing::Request
        | Billing::Free => false,
    };
    if !is_broken || rule.allows_unmetered {
        return Ok(());
    }
    if billing == Billing::Priced {
        let message = format!(
            "{} costs by size or time, which no answer tells, and a limit of this consumer counts money; the rule \
             must say unmetered: Allow",
            operation.as_str()
        );
        return Err(refuse(Code::Unmetered, message));
    }
    let way_out = if call.billing == Billing::MeteredInEvents {
        "ask with stream_format \"sse\", or the rule must say unmetered: Allow"
    } else {
        "the rule must say unmetered: Allow"
    };
    Err(refuse(
        Code::Unmetered,
        format!(
            "{} tells no usage, and a limit of this consumer counts tokens or money; {way_out}",
            operation.as_str()
        ),
    ))
}
