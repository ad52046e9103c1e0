//! A relay in front of a TCP server on loopback. It replaces a word in the clients' bytes by another one of
//! the same length, so a protocol that counts bytes still works.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A usual read of a socket on loopback.
const PIECE: usize = 16 * 1024;

/// Copies bytes both ways between its clients and the server, until it is dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    replaced: Arc<AtomicU64>,
    // Holds the tasks: dropping it closes the listener and all connections.
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Listens on a free port for clients of `server`, a port on 127.0.0.1, and sends it `by` where they
    /// send `word`.
    ///
    /// # Errors
    /// The words differ in length or are empty, or no port is free.
    pub async fn start(server: u16, word: &str, by: &str) -> Result<Self> {
        ensure!(!word.is_empty(), "an empty word is everywhere");
        ensure!(
            word.len() == by.len(),
            "{by} is not as long as {word}: what is sent would change its length"
        );
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.context("listen")?;
        let port = listener.local_addr().context("read the port")?.port();
        let replaced = Arc::new(AtomicU64::new(0));
        let replacer = Replacer::new(word, by, Arc::clone(&replaced));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        // The client may have disconnected meanwhile.
                        let Ok((client, _)) = accepted else { continue };
                        let replacer = replacer.clone();
                        connections.spawn(async move {
                            // A broken connection shows at its other end.
                            drop(join(client, server, replacer).await);
                        });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self {
            port,
            replaced,
            _tasks: tasks,
        })
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How often it has replaced the word.
    #[must_use]
    pub fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }
}

/// Joins a client and the server until one of them closes or breaks its connection.
async fn join(client: TcpStream, server: u16, replacer: Replacer) -> Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server)).await?;
    // Coalescing would delay bytes.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::select! {
        sent = replace(&mut from_client, &mut to_server, replacer) => sent,
        answered = copy(&mut from_server, &mut to_client) => answered,
    }
}

async fn replace(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut replacer: Replacer,
) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            to.write_all(&replacer.finish()).await?;
            return Ok(());
        }
        let read = piece.get(..length).context("read what there is")?;
        to.write_all(&replacer.push(read)).await?;
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<()> {
    tokio::io::copy(from, to).await?;
    Ok(())
}

/// Replaces a word in a stream of pieces.
#[derive(Clone, Debug)]
struct Replacer {
    word: Vec<u8>,
    by: Vec<u8>,
    /// The end of the input, which may be the start of the word.
    held: Vec<u8>,
    replaced: Arc<AtomicU64>,
}

// === impl Replacer ===

impl Replacer {
    fn new(word: &str, by: &str, replaced: Arc<AtomicU64>) -> Self {
        Self {
            word: word.as_bytes().to_vec(),
            by: by.as_bytes().to_vec(),
            held: Vec::new(),
            replaced,
        }
    }

    /// The bytes that can be sent after `piece`.
    fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut came = std::mem::take(&mut self.held);
        came.extend_from_slice(piece);
        let mut goes = Vec::with_capacity(came.len());
        let mut rest = came.as_slice();
        while let Some((first, after)) = rest.split_first() {
            if let Some(after) = rest.strip_prefix(self.word.as_slice()) {
                goes.extend_from_slice(&self.by);
                self.replaced.fetch_add(1, Ordering::Relaxed);
                rest = after;
            } else if self.word.starts_with(rest) {
                self.held = rest.to_vec();
                break;
            } else {
                goes.push(*first);
                rest = after;
            }
        }
        goes
    }

    /// The bytes held back, at the end.
    fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests;
