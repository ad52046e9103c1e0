//! Closed connections whose clients still send: what they send is read and thrown away for a while, or they
//! would get a reset instead of the answer.
//!
//! It must cost others nothing: of all connections of a process one reads at a time, a little, and then none
//! for a moment. The others are held up by their windows.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// How long, and how far, a closed connection is read on.
const LONGEST: Duration = Duration::from_secs(30);
const MOST: usize = 64 << 20;
/// The silence that ends it sooner.
const SILENCE: Duration = Duration::from_secs(2);

/// What one connection reads at its turn. With the pause behind it some 150 MB/s: a tenth of a core for each of
/// both ends, and 150 bodies of 30 MB within the longest time.
const TURN: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(1);
/// What is read at once.
const PIECE: usize = 64 << 10;

/// The turn of the closed connections of a process, and the place to which they read.
#[derive(Clone, Default)]
pub struct Lingers(Arc<Mutex<Vec<u8>>>);

impl Lingers {
    /// Reads on until the client closes its side too, or for a bounded time and size.
    pub(super) async fn linger<I: AsyncRead + Unpin>(&self, stream: &mut I) {
        // Boxed, or every connection would be as large.
        timeout(LONGEST, Box::pin(self.read(stream))).await.ok();
    }

    async fn read<I: AsyncRead + Unpin>(&self, stream: &mut I) {
        let mut total = 0;
        while total < MOST {
            // Most clients close now, and need no turn.
            match timeout(SILENCE, stream.read_u8()).await {
                Ok(Ok(_byte)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
            let mut place = self.0.lock().await;
            place.resize(PIECE, 0);
            let mut of_turn = 0;
            while of_turn < TURN
                && let Some(size) = ready(stream, &mut place).await
            {
                if size == 0 {
                    return;
                }
                of_turn += size;
            }
            total += of_turn;
            sleep(PAUSE).await;
        }
    }
}

/// Reads what is there: 0 bytes at the end, `None` if nothing has come.
async fn ready<I: AsyncRead + Unpin>(stream: &mut I, place: &mut [u8]) -> Option<usize> {
    let mut buffer = ReadBuf::new(place);
    poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => Some(buffer.filled().len()),
            Poll::Ready(Err(_broken)) => Some(0),
            Poll::Pending => None,
        })
    })
    .await
}

impl fmt::Debug for Lingers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lingers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
