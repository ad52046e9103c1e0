//! The wait for the first event of a stream, where a rule bounds it: nothing of the answer has gone to the client
//! yet, so another endpoint may still be tried.

use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Response};
use proxy_api::has_event;
use tokio::time::timeout_at;

use super::Sending;
use crate::exchange::Exchange;
use crate::upstream::{AnswerBody, Failed, Fate, Patience};
use crate::watch::is_event_stream;

/// A first event may be as large as what is kept of an answer within the cost of its request.
const LARGEST: usize = 16 << 10;

impl Sending<'_> {
    /// The answer, if it is no stream or its first event comes in time.
    pub(super) async fn begun(
        &self,
        tried: Result<Response<AnswerBody>, Failed>,
        exchange: &Exchange,
        patience: Patience,
    ) -> Result<Response<AnswerBody>, Failed> {
        let mut response = tried?;
        let is_stream = response.status().is_success() && is_event_stream(response.headers());
        let wait = self.declared.first_token_timeout;
        let Some(wait) = wait.filter(|_| is_stream) else {
            return Ok(response);
        };
        // A client that leaves meanwhile leaves an answer.
        *exchange.fate.lock() = Fate::Sent(None);
        let is_plain = !is_coded(response.headers());
        let body = response.body_mut();
        let is_enough = |read: &[u8]| has_event(read) || !(is_plain || read.is_empty());
        let began = body.begin(LARGEST, is_enough);
        let end = patience.until.min(patience.now + wait);
        timeout_at(end.into(), began)
            .await
            .unwrap_or_else(|_elapsed| Err(Failed::timeout()))?;
        Ok(response)
    }
}

fn is_coded(headers: &HeaderMap) -> bool {
    let coding = headers.get(CONTENT_ENCODING);
    coding.is_some_and(|coding| coding != "identity")
}
