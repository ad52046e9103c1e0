//! Sends a request with the token of its backend, if the backend is shown one. A token that the backend
//! refuses is replaced once. What a backend says against a credential of the gateway is not for the client: it
//! may repeat it.

use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use parking_lot::Mutex;
use proxy_admin::clock;
use serde_json::Value;

use crate::origin::{Origin, Outgoing};
use crate::upstream::{AnswerBody, Connections, Failed, Fate, Patience};

/// Longest wait for a token: the first one, or one that replaces another. Entra takes less than a second.
const WAIT: Duration = Duration::from_secs(5);

/// How much of a refusal is looked at, and for how long.
const REFUSAL_BYTES: usize = 16 << 10;
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Sends, and waits for the head of the answer, as [`Connections::send`] does.
pub(crate) async fn send(
    connections: &Connections,
    origin: &Origin,
    mut outgoing: Outgoing<'_>,
    mut patience: Patience,
    fate: &Mutex<Fate>,
) -> Result<Response<AnswerBody>, Failed> {
    let identity = origin.identity();
    if let Some(identity) = identity {
        let bearer = match identity.bearer(patience.now) {
            Some(bearer) => bearer,
            None => Box::pin(identity.ready(end(patience, patience.now)))
                .await
                .map_err(|why| Failed::no_token(&why))?,
        };
        outgoing.bearer = Some(bearer);
    }
    let mut renewed = false;
    loop {
        let mut response = connections.send(origin, &outgoing, patience, fate).await?;
        let is_refused = matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        );
        if !is_refused || !origin.shows_own_credential() {
            return Ok(response);
        }
        patience.now = clock::instant();
        let other = match (identity, &outgoing.bearer) {
            (Some(identity), Some(bearer)) if !renewed && is_unknown(&response) => {
                let renewal = identity.renewed(bearer, end(patience, patience.now));
                Box::pin(renewal).await
            }
            _ => None,
        };
        let Some(other) = other else {
            let word = Box::pin(word_of(&mut response)).await;
            if word.is_none() && !is_unknown(&response) {
                // A firewall's page: it refuses what the client sent.
                return Ok(response);
            }
            return Err(Failed::refused(word.as_deref()));
        };
        outgoing.bearer = Some(other);
        patience.now = clock::instant();
        renewed = true;
    }
}

/// Whether another token may be known: 403 is for one that is.
fn is_unknown(response: &Response<AnswerBody>) -> bool {
    response.status() == StatusCode::UNAUTHORIZED
}

fn end(patience: Patience, now: Instant) -> Instant {
    patience.until.min(now + WAIT)
}

/// The word by which a refusal calls itself, such as `PermissionDenied`.
pub(crate) async fn word_of(response: &mut Response<AnswerBody>) -> Option<String> {
    let body = response.body_mut().peek(REFUSAL_BYTES, REFUSAL_TIME).await;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let word = body.pointer("/error/code")?.as_str()?;
    let is_word = word.len() <= 64
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word.then(|| word.to_owned())
}
