//! Requests that have no answer when the grace period of a stopped gateway is over.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use http::Response;
use proxy_core::names::Code;
use proxy_core::quota::Wait;

use crate::answer::{self, Refusal};
use crate::exchange::Exchange;
use crate::forward::{Sending, Unserviced};
use crate::relay::Payload;
use crate::state::Core;

/// What became of a charged request.
pub(super) enum Forwarded {
    Answered(Response<Payload>),
    Unserviced(Box<Unserviced>),
    /// The gateway stops: the exchange has ended, and this is its answer.
    Cut(Response<Payload>),
}

pub(super) async fn forwarded(
    core: &Core,
    sending: &Sending<'_>,
    exchange: Box<Exchange>,
) -> Forwarded {
    let (dialect, id) = (
        exchange.record.dialect(),
        exchange.record.request_id.clone(),
    );
    let step = pin!(sending.forward(exchange));
    match unless_cut(core, step).await {
        Some(Ok(answer)) => Forwarded::Answered(answer),
        Some(Err(unserviced)) => Forwarded::Unserviced(unserviced),
        None => {
            let answer = answer::error(&shutting_down(), dialect, &id);
            Forwarded::Cut(answer.map(Payload::from))
        }
    }
}

/// What a step of a request comes to; `None` once what still runs is cut. That wakes the task of the request.
pub(super) async fn unless_cut<T>(
    core: &Core,
    mut step: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    poll_fn(|cx| match step.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if core.is_cut() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

pub(super) fn shutting_down() -> Box<Refusal> {
    let message = "the gateway shuts down; ask again, another replica serves";
    let refusal = Refusal::new(Code::ShuttingDown, message);
    // Another replica can be reached at once.
    Box::new(refusal.waiting(Wait::Millis(1_000)))
}
