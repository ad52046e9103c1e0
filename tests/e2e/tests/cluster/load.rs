//! A steady load that must not notice anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_support::http::Connection;
use tests_support::{eventually, outage};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::installation::{ANN, LIMIT, chat};
use crate::parts::Proxy;

/// The path of the requests.
pub(crate) const PATH: &str = "/v1/chat/completions";

/// A request every few milliseconds: enough to see a gap, and it leaves the machine to the rest.
const PACE: Duration = Duration::from_millis(10);

/// Two kept connections to each proxy, until it is ended. The first failure ends it, too.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    tasks: JoinSet<Result<()>>,
}

impl Load {
    /// Starts it; every answer must be a 200.
    pub(crate) fn start<'a>(proxies: impl IntoIterator<Item = &'a Proxy>) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            answered: Arc::default(),
            tasks: JoinSet::new(),
        };
        for proxy in proxies {
            for _ in 0..2 {
                let (stop, answered) = (Arc::clone(&load.stop), Arc::clone(&load.answered));
                load.tasks.spawn(drive(proxy.url.clone(), stop, answered));
            }
        }
        load
    }

    /// Waits until `count` more requests were answered, and [`outage`] is over.
    ///
    /// # Errors
    /// One of them was not.
    pub(crate) async fn outlasts(&mut self, count: u64) -> Result<()> {
        let over = Instant::now() + outage();
        self.goes_on(count).await?;
        while Instant::now() < over {
            self.goes_on(count).await?;
        }
        Ok(())
    }

    /// Waits until `count` more requests were answered.
    ///
    /// # Errors
    /// One of them was not.
    pub(crate) async fn goes_on(&mut self, count: u64) -> Result<()> {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        eventually("the load to go on", LIMIT, async || {
            if let Some(ended) = self.tasks.try_join_next() {
                return Some(outcome(ended));
            }
            (self.answered.load(Ordering::Relaxed) >= goal).then_some(Ok(()))
        })
        .await?
    }

    /// Ends it, and says how many requests were answered.
    ///
    /// # Errors
    /// One of them was not.
    pub(crate) async fn end(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            outcome(ended)?;
        }
        Ok(self.answered.load(Ordering::Relaxed))
    }
}

fn outcome(ended: Result<Result<()>, JoinError>) -> Result<()> {
    ended.context("the load")?.context("a request failed")
}

async fn drive(url: String, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) -> Result<()> {
    let body = chat("gpt-4o");
    let mut connection = Connection::open(&url).await?;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let asked = connection.post_json(PATH, &[("api-key", ANN)], body.clone());
        let answer = asked.await?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
