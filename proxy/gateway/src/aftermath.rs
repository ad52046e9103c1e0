//! What goes on when a client has left, or has all that it needs: a backend that works on an answer bills
//! it, so the gateway reads on for its usage, for a short time.

use std::time::{Duration, Instant};

use http_body::Body as _;
use http_body_util::BodyExt;
use proxy_admin::{clock, task};

use crate::exchange::Exchange;
use crate::slot::Slots;
use crate::upstream::{AnswerBody, Fate};
use crate::watch::Watch;

/// How long an answer is read on without a client. Most clients that give up do so shortly before the
/// answer, since its time is what they misjudged.
const READ_ON: Duration = Duration::from_secs(10);
/// The same for a request that continues what its backend keeps: only the end tells what the model has read.
const READ_TO_END: Duration = Duration::from_secs(10 * 60);
/// Answers of this process that are read on at once.
static RUNNING: Slots = Slots::new(1_000);
/// How long the end of a stream may come after its last event, for the connection to be used again.
const LATE_END: Duration = Duration::from_secs(1);

/// The client has left before the answer began.
pub(crate) fn without_head(mut exchange: Box<Exchange>) {
    exchange.release_permits();
    let now = clock::instant();
    let unanswered = match std::mem::take(exchange.fate.get_mut()) {
        Fate::Unsent => {
            exchange.released(now);
            return exchange.end("client_aborted", now);
        }
        Fate::Sent(unanswered) => unanswered,
    };
    let call = exchange.record.api.and_then(|api| api.answer.call());
    let (Some(unanswered), Some(call), Some(slot)) = (unanswered, call, RUNNING.take()) else {
        return exchange.left_unanswered(now);
    };
    let read = async move {
        let until = clock::instant() + READ_ON;
        let mut closing = exchange.core().closing.clone();
        let answered = tokio::select! {
            answered = unanswered.answer(until) => answered,
            () = closing.cutting() => None,
        };
        match answered {
            Some(response) => {
                exchange.answered(response.status(), clock::instant());
                let (parts, body) = response.into_parts();
                let watch = Watch::of(call, exchange.record.streamed, &parts, false);
                // The client has seen nothing of it: all of it is worth a wait, also a stream.
                read_on(exchange, (body, watch), until, |_watch| true).await;
            }
            None => exchange.left_unanswered(clock::instant()),
        }
        drop(slot);
    };
    task::spawn("answer without a client", read);
}

/// The client has left within the answer.
pub(crate) fn within(mut exchange: Box<Exchange>, body: Option<AnswerBody>, mut watch: Watch) {
    exchange.release_permits();
    let to_end = exchange.record.shape.continues && watch.is_stream() && !watch.tells_usage();
    let (time, is_worth_it): (_, fn(&Watch) -> bool) = if to_end {
        (READ_TO_END, |watch| !watch.tells_usage())
    } else {
        (READ_ON, Watch::is_worth_reading)
    };
    let goes_on = is_worth_it(&watch).then_some(body).flatten();
    let (Some(body), Some(slot)) = (goes_on, RUNNING.take()) else {
        return watch.left(&mut exchange, clock::instant());
    };
    let read = async move {
        let until = clock::instant() + time;
        read_on(exchange, (body, watch), until, is_worth_it).await;
        drop(slot);
    };
    task::spawn("answer without a client", read);
}

async fn read_on(
    mut exchange: Box<Exchange>,
    (mut body, mut watch): (AnswerBody, Watch),
    until: Instant,
    is_worth_it: fn(&Watch) -> bool,
) {
    let mut closing = exchange.core().closing.clone();
    let whole = async {
        while !watch.is_done() && is_worth_it(&watch) {
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && watch.pass(data, &mut exchange).is_err()
                    {
                        return false;
                    }
                }
                Some(Err(_broken)) => return false,
                None => return true,
            }
        }
        watch.is_done()
    };
    let is_whole = tokio::select! {
        read = tokio::time::timeout_at(until.into(), whole) => read == Ok(true),
        () = closing.cutting() => false,
    };
    let now = clock::instant();
    if is_whole {
        watch.settle(&mut exchange, now);
        exchange.end("client_aborted", now);
    } else {
        watch.left(&mut exchange, now);
    }
}

/// The client has the whole stream, and the backend has not ended it yet.
pub(crate) fn late_end(mut body: AnswerBody) {
    if body.is_end_stream() {
        return;
    }
    let ended = async move {
        let end = async { while let Some(Ok(_)) = body.frame().await {} };
        tokio::time::timeout(LATE_END, end).await.ok();
    };
    task::spawn("end of a stream", ended);
}
