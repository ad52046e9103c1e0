//! The standard output of a process, written by one thread: a slow reader of the log stops no one who
//! writes to it.
//!
//! Refuses to hold more than a bound. Lines beyond it are dropped and counted, and the log says how many
//! once its reader is back.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::warn;

#[cfg(test)]
mod tests;

/// What may wait for the reader: some 10,000 lines of the access log, a second or more of full load on
/// one core. As much again may be with the thread.
const BOUND: usize = 4 << 20;
/// What a buffer keeps of its memory once it is written.
const KEPT: usize = 256 << 10;
/// Between two tries of an output that does not block and is full.
const PAUSE: Duration = Duration::from_millis(10);

/// Where whole lines go. Cheap to clone; its thread lives as long as the process.
#[derive(Clone, Debug)]
pub struct Output(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bound: usize,
    queue: Mutex<Queue>,
    /// Something waits to be written.
    filled: Condvar,
    /// Something was written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    pending: Vec<u8>,
    /// Bytes that were taken in, ever.
    accepted: u64,
    /// Bytes that the thread is done with, ever.
    done: u64,
    /// Lines that were lost and not reported yet.
    lost: u64,
}

impl Output {
    /// The standard output. Whoever else writes there may tear lines.
    ///
    /// # Errors
    /// The system has no descriptor or no thread left.
    pub fn standard() -> io::Result<Self> {
        // Not `Stdout`: it would keep a part of a line that the system did not take.
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Self::new(file, BOUND)
    }

    /// An output of which at most `bound` bytes wait for `writer`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn new(writer: impl Write + Send + 'static, bound: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            bound,
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        });
        let owned = Arc::clone(&shared);
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || owned.run(writer))?;
        Ok(Self(shared))
    }

    /// Appends whole lines. Waits for no reader: false says that they are dropped, since too much waits
    /// already.
    pub fn write(&self, lines: &[u8]) -> bool {
        let mut queue = self.0.queue.lock();
        if queue.pending.len().saturating_add(lines.len()) > self.0.bound {
            queue.lost = queue.lost.saturating_add(count(lines));
            return false;
        }
        queue.pending.extend_from_slice(lines);
        queue.accepted = queue.accepted.saturating_add(size(lines));
        drop(queue);
        self.0.filled.notify_one();
        true
    }

    /// Does the same with lines that are not needed any more, without a copy if none waits. `lines` is empty
    /// then, and may be another vector.
    pub fn hand_over(&self, lines: &mut Vec<u8>) -> bool {
        let mut queue = self.0.queue.lock();
        let is_taken = lines.len() <= self.0.bound && queue.pending.is_empty();
        if is_taken {
            queue.accepted = queue.accepted.saturating_add(size(lines));
            std::mem::swap(&mut queue.pending, lines);
        }
        drop(queue);
        if is_taken {
            self.0.filled.notify_one();
            return true;
        }
        let is_taken = self.write(lines);
        lines.clear();
        is_taken
    }

    /// Waits until everything that was written before is out, but not longer than `within`. Blocks: not
    /// for an async task. False if some of it is not out.
    pub fn flush(&self, within: Duration) -> bool {
        let mut queue = self.0.queue.lock();
        let upto = queue.accepted;
        let waits = |queue: &mut Queue| queue.done < upto;
        !self
            .0
            .emptied
            .wait_while_for(&mut queue, waits, within)
            .timed_out()
    }
}

impl Shared {
    fn run(&self, mut writer: impl Write) {
        let mut buffer = Vec::new();
        let mut works = true;
        loop {
            let mut queue = self.queue.lock();
            self.filled
                .wait_while(&mut queue, |queue| queue.pending.is_empty());
            std::mem::swap(&mut queue.pending, &mut buffer);
            // A report of what a broken output lost would itself be lost, and reported again.
            let lost = if works {
                std::mem::take(&mut queue.lost)
            } else {
                0
            };
            drop(queue);
            // There is room for this line: the queue has just been emptied.
            if lost > 0 {
                warn!(
                    lines = lost,
                    "log lines were dropped: their reader does not keep up"
                );
            }
            works = write_all(&mut writer, &buffer).is_ok();
            let mut queue = self.queue.lock();
            queue.done = queue.done.saturating_add(size(&buffer));
            if !works {
                queue.lost = queue.lost.saturating_add(count(&buffer));
            }
            drop(queue);
            self.emptied.notify_all();
            buffer.clear();
            buffer.shrink_to(KEPT);
        }
    }
}

/// Writes all of it, also to a pipe that another process has set not to block.
fn write_all(writer: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match writer.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn count(lines: &[u8]) -> u64 {
    let ends = lines.iter().filter(|byte| **byte == b'\n');
    u64::try_from(ends.count()).unwrap_or(u64::MAX)
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
