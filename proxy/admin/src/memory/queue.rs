//! Who makes room for a new connection: first those that have sent no request, then those between two
//! requests, and in each rank the one that came first.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// How many connections are asked at once: several newcomers may be about to come.
const ASKED_AT_ONCE: usize = 4;
/// How long they have before others are asked as well. A silent one is gone once its task has run.
const MOMENT: Duration = Duration::from_millis(10);
/// How long a newcomer waits while others leave.
const LONGEST: Duration = Duration::from_secs(1);

/// Which connections make room first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// No request has come: nothing, a handshake, or a part of a head.
    Silent,
    /// Between two requests.
    Idle,
}

/// The open connections of a budget.
#[derive(Debug)]
pub(super) struct Connections {
    /// Most of them, whatever they cost.
    most: usize,
    open: AtomicUsize,
    silent: Mutex<Queue>,
    idle: Mutex<Queue>,
    /// Those that are asked and not gone yet.
    leaving: AtomicUsize,
    /// Those that wait: newcomers, and connections that need more.
    waiting: AtomicUsize,
    gone: Notify,
    /// Held by the connection that others make more room for.
    growing: tokio::sync::Mutex<()>,
}

/// Connections that may be asked to make room, by the order in which they came.
#[derive(Debug, Default)]
struct Queue {
    next: u64,
    seats: BTreeMap<u64, Arc<Seat>>,
}

/// What one connection is in the queues.
#[derive(Debug)]
pub(super) struct Seat {
    /// Its queue, and its number there.
    stands: Mutex<Option<(Rank, u64)>>,
    is_asked: AtomicBool,
    waker: Mutex<Waker>,
}

/// Whether a connection gets more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It has it.
    Room,
    /// It is asked to make room itself.
    GivesWay,
    /// There is none to ask, or those that are asked are too slow.
    None,
}

/// Counts one that waits.
struct Waits<'a>(&'a AtomicUsize);

// === impl Connections ===

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            open: AtomicUsize::new(0),
            silent: Mutex::default(),
            idle: Mutex::default(),
            leaving: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            gone: Notify::new(),
            growing: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts one more, unless there are too many.
    pub(super) fn opened(&self) -> bool {
        let fits = self.open.fetch_add(1, Ordering::Relaxed) < self.most;
        if !fits {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        fits
    }

    /// Counts one less, which there was no memory for.
    pub(super) fn refused(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts one less. Whoever waits may look again.
    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.gone.notify_one();
        }
    }

    /// Puts a connection behind the others of its rank.
    pub(super) fn stand(&self, seat: &Arc<Seat>, rank: Rank) {
        self.leave(seat);
        let mut queue = self.queue(rank).lock();
        let number = queue.next;
        queue.next += 1;
        queue.seats.insert(number, Arc::clone(seat));
        *seat.stands.lock() = Some((rank, number));
    }

    /// Asks a connection no more.
    pub(super) fn leave(&self, seat: &Seat) {
        let Some((rank, number)) = seat.stands.lock().take() else {
            return;
        };
        let mut queue = self.queue(rank).lock();
        queue.seats.remove(&number);
        if seat.is_asked.swap(false, Ordering::Relaxed) {
            self.leaving.fetch_sub(1, Ordering::Release);
        }
    }

    /// Asks up to `count` connections to make room, but not the one in this seat. Returns how many there were.
    pub(super) fn ask(&self, count: usize, but: Option<&Arc<Seat>>) -> usize {
        let of = |rank| self.ask_first(rank, but);
        let asked = std::iter::from_fn(|| of(Rank::Silent).or_else(|| of(Rank::Idle)));
        asked.take(count).map(Waker::wake).count()
    }

    /// Asks connections to make room until `take` finds some. `None` if there are none to ask, or if they
    /// are too slow.
    pub(super) async fn make_room<T>(&self, mut take: impl FnMut() -> Option<T>) -> Option<T> {
        let _waits = Waits::new(&self.waiting);
        let until = Instant::now() + LONGEST;
        let mut is_late = false;
        loop {
            // Before the try: the last of them may go behind it.
            let leaving = self.leaving.load(Ordering::Acquire);
            if let Some(taken) = take() {
                return Some(taken);
            }
            let asks = is_late || leaving == 0;
            let asked = if asks {
                self.ask(ASKED_AT_ONCE, None)
            } else {
                0
            };
            if asked + leaving == 0 || Instant::now() >= until {
                return None;
            }
            is_late = timeout(MOMENT, self.gone.notified()).await.is_err();
        }
    }

    /// The same for a connection that is open, and may be asked itself meanwhile. Those that need more take turns, so
    /// that of many at once no more give way than others need.
    pub(super) async fn make_more_room(
        &self,
        seat: &Arc<Seat>,
        mut take: impl FnMut() -> bool,
    ) -> Made {
        let _waits = Waits::new(&self.waiting);
        let seek = async {
            let _turn = self.growing.lock().await;
            let mut is_late = false;
            loop {
                let leaving = self.leaving.load(Ordering::Acquire);
                if take() {
                    return true;
                }
                let asks = is_late || leaving == 0;
                let asked = if asks { self.ask(1, Some(seat)) } else { 0 };
                if asked + leaving == 0 {
                    return false;
                }
                is_late = timeout(MOMENT, self.gone.notified()).await.is_err();
            }
        };
        tokio::select! {
            biased;
            () = poll_fn(|cx| seat.poll_asked(cx)) => Made::GivesWay,
            found = timeout(LONGEST, seek) => match found {
                Ok(true) => Made::Room,
                Ok(false) | Err(_) => Made::None,
            },
        }
    }

    const fn queue(&self, rank: Rank) -> &Mutex<Queue> {
        match rank {
            Rank::Silent => &self.silent,
            Rank::Idle => &self.idle,
        }
    }

    fn ask_first(&self, rank: Rank, but: Option<&Arc<Seat>>) -> Option<Waker> {
        let mut queue = self.queue(rank).lock();
        let is_other = |seat: &Arc<Seat>| but.is_none_or(|but| !Arc::ptr_eq(seat, but));
        let (number, _) = queue.seats.iter().find(|(_, seat)| is_other(seat))?;
        let number = *number;
        let seat = queue.seats.remove(&number)?;
        let waker = seat.waker.lock();
        // Under the lock of the queue: it may be about to leave.
        seat.is_asked.store(true, Ordering::Relaxed);
        self.leaving.fetch_add(1, Ordering::Relaxed);
        Some(waker.clone())
    }
}

// === impl Seat ===

impl Seat {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            stands: Mutex::new(None),
            is_asked: AtomicBool::new(false),
            waker: Mutex::new(Waker::noop().clone()),
        })
    }

    pub(super) fn poll_asked(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker = self.waker.lock();
        if self.is_asked.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        if !waker.will_wake(cx.waker()) {
            waker.clone_from(cx.waker());
        }
        Poll::Pending
    }
}

// === impl Waits ===

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
