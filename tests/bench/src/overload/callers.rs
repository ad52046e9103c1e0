//! Clients in an open loop: they call when it is time, however slow the answers are, and give up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use memchr::memmem;
use parking_lot::Mutex;
use proxy_admin::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::latency::Latencies;

/// A client closes its connection and goes then.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// One part of a phase, for the time that it takes to be well again.
pub(super) const PART: Duration = Duration::from_millis(250);
/// The end of a body in chunks.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What is sent: requests for the wire, which take turns.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    pub(super) target: SocketAddr,
    pub(super) requests: Arc<[Vec<u8>]>,
}

/// What came of the calls with one of the requests.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) good: u64,
    pub(super) refused: u64,
    /// No answer within the patience.
    pub(super) given_up: u64,
    /// Connections that broke, and other answers.
    pub(super) broken: u64,
    pub(super) answers: Latencies,
    pub(super) refusals: Latencies,
}

/// What came of a phase.
#[derive(Debug)]
pub(super) struct Phase {
    /// One for each of the requests.
    pub(super) tallies: Vec<Tally>,
    pub(super) elapsed: Duration,
    /// Calls of each part, and those of them with a good answer.
    pub(super) parts: Vec<(u64, u64)>,
}

#[derive(Clone, Copy)]
enum Ended {
    Good,
    Refused,
    Broken,
}

/// Connections between two calls.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<TcpStream>>);

// === impl Tally ===

impl Tally {
    fn new() -> Result<Self> {
        Ok(Self {
            good: 0,
            refused: 0,
            given_up: 0,
            broken: 0,
            answers: Latencies::new()?,
            refusals: Latencies::new()?,
        })
    }

    pub(super) const fn all(&self) -> u64 {
        self.good + self.refused + self.given_up + self.broken
    }
}

// === impl Pool ===

impl Pool {
    async fn call(&self, target: SocketAddr, request: &[u8]) -> Result<Ended> {
        let idle = self.0.lock().pop();
        let mut stream = match idle {
            Some(idle) => idle,
            None => {
                let stream = TcpStream::connect(target).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(request).await?;
        let mut answer = Vec::with_capacity(4_096);
        let head = loop {
            if let Some(end) = memmem::find(&answer, b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(stream.read_buf(&mut answer).await? > 0, "closed");
        };
        let text = std::str::from_utf8(answer.get(..head).unwrap_or_default())?;
        let text = text.to_ascii_lowercase();
        let length = text.split_once("content-length: ");
        let length = length.and_then(|(_, rest)| rest.lines().next());
        let length: Option<usize> = length.map(str::parse).transpose()?;
        while match length {
            Some(length) => answer.len() < head + length,
            None => !answer.ends_with(LAST_CHUNK),
        } {
            ensure!(stream.read_buf(&mut answer).await? > 0, "cut");
        }
        if !text.contains("connection: close") {
            self.0.lock().push(stream);
        }
        let status = text.split_ascii_whitespace().nth(1).context("no status")?;
        Ok(match status {
            "200" => Ended::Good,
            "503" if memmem::find(&answer, b"overloaded").is_some() => Ended::Refused,
            _ => Ended::Broken,
        })
    }
}

// === impl Calls ===

impl Calls {
    /// Good answers a second to clients that call as soon as they have the answer.
    pub(super) async fn closed(&self, clients: usize, time: Duration) -> Result<f64> {
        let until = clock::instant() + time;
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            let calls = self.clone();
            tasks.spawn(async move {
                let pool = Pool::default();
                let turns = calls.requests.iter().cycle().skip(client);
                let mut good = 0_u32;
                for request in turns {
                    if clock::instant() >= until {
                        break;
                    }
                    if let Ended::Good = pool.call(calls.target, request).await? {
                        good += 1;
                    }
                }
                anyhow::Ok(good)
            });
        }
        let mut good = 0;
        while let Some(one) = tasks.join_next().await {
            good += one??;
        }
        Ok(f64::from(good) / time.as_secs_f64())
    }

    /// Calls `rate` times a second.
    pub(super) async fn open(&self, pool: &Arc<Pool>, rate: f64, time: Duration) -> Result<Phase> {
        let began = clock::instant();
        let tallies = self.requests.iter().map(|_| Tally::new());
        let tallies: Result<Vec<Tally>> = tallies.collect();
        let parts = usize::try_from(time.as_millis() / PART.as_millis())? + 1;
        let phase = Arc::new(Mutex::new(Phase {
            tallies: tallies?,
            elapsed: Duration::ZERO,
            parts: vec![(0, 0); parts],
        }));
        let mut tasks = JoinSet::new();
        let turns = (0..self.requests.len()).cycle();
        for (sent, turn) in (0_u32..).zip(turns) {
            let due = began + Duration::from_secs_f64(f64::from(sent) / rate);
            if due >= began + time {
                break;
            }
            let wait = due.saturating_duration_since(clock::instant());
            if !wait.is_zero() {
                sleep(wait).await;
            }
            while tasks.try_join_next().is_some() {}
            let (calls, pool, phase) = (self.clone(), Arc::clone(pool), Arc::clone(&phase));
            tasks.spawn(async move {
                let begun = clock::instant();
                let Some(request) = calls.requests.get(turn) else {
                    return;
                };
                let ended = timeout(PATIENCE, pool.call(calls.target, request)).await;
                let took = clock::instant().saturating_duration_since(begun);
                let part = due.saturating_duration_since(began).as_millis() / PART.as_millis();
                let ended = ended.map(|ended| ended.unwrap_or(Ended::Broken));
                phase.lock().count((turn, part), ended.ok(), took);
            });
        }
        let elapsed = clock::instant().saturating_duration_since(began);
        tasks.join_all().await;
        let mut phase = Arc::into_inner(phase).context("a call runs")?.into_inner();
        phase.elapsed = elapsed;
        Ok(phase)
    }
}

// === impl Phase ===

impl Phase {
    fn count(&mut self, (turn, part): (usize, u128), ended: Option<Ended>, took: Duration) {
        let is_good = matches!(ended, Some(Ended::Good));
        if let Some((all, good)) = usize::try_from(part)
            .ok()
            .and_then(|part| self.parts.get_mut(part))
        {
            *all += 1;
            *good += u64::from(is_good);
        }
        let Some(tally) = self.tallies.get_mut(turn) else {
            return;
        };
        match ended {
            None => tally.given_up += 1,
            Some(Ended::Good) => {
                tally.good += 1;
                tally.answers.record(took);
            }
            Some(Ended::Refused) => {
                tally.refused += 1;
                tally.refusals.record(took);
            }
            Some(Ended::Broken) => tally.broken += 1,
        }
    }
}

/// Notes how long the probes of a gateway take, until it is dropped.
pub(super) async fn probe(urls: [String; 2], slowest: Arc<Mutex<Latencies>>) {
    loop {
        for url in &urls {
            let begun: Instant = clock::instant();
            let answer = tests_support::http::get(url).await;
            let took = clock::instant().saturating_duration_since(begun);
            let is_good = answer.is_ok_and(|answer| answer.status == 200);
            slowest.lock().record(if is_good {
                took
            } else {
                Duration::from_secs(59)
            });
        }
        sleep(Duration::from_millis(50)).await;
    }
}
