//! The store's script as a function, to be compared with its model. Not part of the ledger's interface.

use proxy_core::quota::{LeaseReply, LeaseRequest, StoreWindow};

use crate::script;

/// The store's script on a server.
pub struct StoreScript {
    connection: redis::aio::MultiplexedConnection,
    script: redis::Script,
}

/// The caller of the script and its knowledge.
#[derive(Clone, Copy, Debug)]
pub struct ScriptCaller<'a> {
    /// Its name.
    pub replica: &'a str,
    /// The epoch of the data that it knows; empty at first.
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
    /// The report and the request.
    pub ask: LeaseRequest,
}

/// What the script answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptReply {
    /// What became of the call.
    pub outcome: ScriptOutcome,
    /// The epoch of the data.
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

    /// Calls it as a gateway does; `None` if the answer cannot be read.
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
