//! The parsers of foreign bytes as functions, for fuzzing, and the store's script, to be compared with
//! its model. Not part of the gateway's interface.

use bytes::Bytes;
use proxy_core::names::{Operation, Usage};
use proxy_core::quota::{LeaseReply, LeaseRequest, StoreWindow};

use crate::store::script;
use crate::upstream::Call;
use crate::{dialect, prompt, scan, splice, sse};

/// Whether the scanner takes this body.
#[must_use]
pub fn scan_body(body: &[u8]) -> bool {
    scan::body(body).is_ok()
}

/// The body as it goes to a backend that reads the deployment from it; `None` if it is refused.
#[must_use]
pub fn splice_body(body: &[u8], deployment: &str) -> Option<Vec<u8>> {
    let scanned = scan::body(body).ok()?;
    let call = Call::to("/", true, true);
    let bytes = Bytes::copy_from_slice(body);
    Some(splice::splice(&bytes, &scanned, &call, deployment).to_vec())
}

/// What came of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// What goes on to the client.
    pub bytes: Vec<u8>,
    /// The usage, if the stream told it.
    pub usage: Option<Usage>,
    /// Output tokens counted from the deltas.
    pub counted: u64,
    /// Whether `[DONE]` was seen.
    pub done: bool,
}

/// Watches a stream that arrives in these chunks; `strip` takes the usage chunk out.
#[must_use]
pub fn watch_stream(chunks: &[&[u8]], strip: bool) -> Watched {
    let mut stream = sse::Stream::new(strip);
    let mut bytes = Vec::new();
    for chunk in chunks {
        bytes.extend_from_slice(&stream.push(Bytes::copy_from_slice(chunk)));
    }
    bytes.extend_from_slice(&stream.finish());
    Watched {
        bytes,
        usage: stream.usage(),
        counted: stream.counted_output(),
        done: stream.is_done(),
    }
}

/// Whether an API is served at this path.
#[must_use]
pub fn read_path(path: &str) -> bool {
    dialect::target(path).is_ok()
}

/// The input tokens of a body, as they are counted for an estimate.
#[must_use]
pub fn count_prompt(body: &[u8], operation: Operation, model: &str, budget: u64) -> Option<u64> {
    prompt::count(body, operation, model, budget)
}

/// The store's script on a server.
pub struct StoreScript {
    connection: redis::aio::MultiplexedConnection,
    script: redis::Script,
}

/// Who calls the script, and what it knows.
#[derive(Clone, Copy, Debug)]
pub struct ScriptCaller<'a> {
    /// Its name.
    pub replica: &'a str,
    /// The life of the data that it knows; empty at first.
    pub epoch: &'a str,
    /// Whether the script counts the replicas.
    pub counts: bool,
    /// How many replicas it knows.
    pub replicas: u64,
}

/// One counter of a call.
#[derive(Clone, Debug)]
pub struct ScriptItem {
    /// Its name.
    pub key: String,
    /// The limit's amount.
    pub amount: u64,
    /// How to count.
    pub window: StoreWindow,
    /// What is told and asked.
    pub ask: LeaseRequest,
}

/// What the script answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptReply {
    /// What became of the call.
    pub outcome: ScriptOutcome,
    /// The life of the data.
    pub epoch: String,
    /// The server's clock.
    pub unix_ms: i64,
    /// How many replicas there are.
    pub replicas: u64,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptOutcome {
    /// An answer for each counter, and for how many milliseconds nothing is granted.
    Done(Vec<LeaseReply>, u64),
    /// The caller knows another life of the data; nothing was done.
    OtherEpoch,
    /// No period of a counter holds the server's time; nothing was done.
    OtherPeriod,
}

impl std::fmt::Debug for StoreScript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreScript").finish_non_exhaustive()
    }
}

impl StoreScript {
    /// Connects to `redis://host:port`.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn connect(url: &str) -> Result<Self, redis::RedisError> {
        let client = redis::Client::open(url)?;
        Ok(Self {
            connection: client.get_multiplexed_async_connection().await?,
            script: redis::Script::new(script::TEXT),
        })
    }

    /// Calls it as a gateway does; none if the answer cannot be read.
    ///
    /// # Errors
    /// The server does not answer, or with an error.
    pub async fn call(
        &mut self,
        caller: ScriptCaller<'_>,
        items: &[ScriptItem],
    ) -> Result<Option<ScriptReply>, redis::RedisError> {
        let caller = script::Caller {
            prefix: "test",
            replica: caller.replica,
            epoch: caller.epoch,
            counts: caller.counts,
            replicas: caller.replicas,
        };
        let items: Vec<_> = items
            .iter()
            .map(|item| script::Item {
                key: item.key.clone(),
                amount: item.amount,
                window: item.window.clone(),
                ask: item.ask.clone(),
            })
            .collect();
        let call = caller.fill(&self.script, &items);
        let value: redis::Value = call.invoke_async(&mut self.connection).await?;
        let reply = script::Reply::read(&value, &items);
        Ok(reply.map(|reply| ScriptReply {
            outcome: match reply.outcome {
                script::Outcome::Done(answers, grace) => ScriptOutcome::Done(answers, grace),
                script::Outcome::OtherEpoch => ScriptOutcome::OtherEpoch,
                script::Outcome::OtherPeriod => ScriptOutcome::OtherPeriod,
            },
            epoch: reply.epoch,
            unix_ms: reply.unix_ms,
            replicas: reply.replicas,
        }))
    }
}
