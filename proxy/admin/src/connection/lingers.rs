//! Closed connections whose clients still send: what they send is read and thrown away for a while, or they
//! would get a reset instead of the answer.
//!
//! It must cost others little: all of them together read so much in each interval, and no more. The clients are
//! held up by their windows.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

/// How long, and how far, a closed connection is read on.
const LONGEST: Duration = Duration::from_secs(30);
const MOST: usize = 64 << 20;
/// The silence that ends it sooner.
const SILENCE: Duration = Duration::from_secs(2);

/// What all of a process read in each interval: 250 MB/s, for which the kernel takes a tenth of a core at either
/// end. 200 bodies of 30 MB are read within the longest time.
const INTERVAL: Duration = Duration::from_millis(10);
const SHARE: usize = 2_500_000;
/// What is read at once. Another one has its turn then.
const PIECE: usize = 64 << 10;

/// What the closed connections of a process have read. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lingers(Arc<Mutex<Pace>>);

#[derive(Default)]
struct Pace {
    /// When the interval began, and what may still be read in it.
    since: Option<Instant>,
    left: usize,
    /// To where all of them read.
    place: Vec<u8>,
}

/// What comes of a look at a connection.
enum Look {
    Read(usize),
    /// The interval has its share.
    Full,
    Ended,
}

// === impl Lingers ===

impl Lingers {
    /// Reads on until the client closes its side too, or for a bounded time and size.
    pub(super) async fn linger<I: AsyncRead + Unpin>(&self, stream: &mut I) {
        // Boxed, or every connection would be as large.
        timeout(LONGEST, Box::pin(self.read(stream))).await.ok();
    }

    async fn read<I: AsyncRead + Unpin>(&self, stream: &mut I) {
        let mut total = 0;
        while total < MOST {
            let look = poll_fn(|cx| self.0.lock().poll_read(cx, stream));
            match timeout(SILENCE, look).await {
                Ok(Look::Read(size)) => {
                    total += size;
                    yield_now().await;
                }
                Ok(Look::Full) => sleep(INTERVAL).await,
                Ok(Look::Ended) | Err(_) => return,
            }
        }
    }
}

// === impl Pace ===

impl Pace {
    fn poll_read<I: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut I,
    ) -> Poll<Look> {
        let now = Instant::now();
        let is_over = |since| now.saturating_duration_since(since) >= INTERVAL;
        if self.since.is_none_or(is_over) {
            (self.since, self.left) = (Some(now), SHARE);
        }
        if self.left == 0 {
            return Poll::Ready(Look::Full);
        }
        self.place.resize(PIECE, 0);
        let mut buffer = ReadBuf::new(&mut self.place);
        Pin::new(stream).poll_read(cx, &mut buffer).map(|read| {
            let size = buffer.filled().len();
            self.left = self.left.saturating_sub(size);
            match read {
                Ok(()) if size > 0 => Look::Read(size),
                Ok(()) | Err(_) => Look::Ended,
            }
        })
    }
}

impl fmt::Debug for Lingers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lingers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
