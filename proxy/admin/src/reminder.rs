//! A line of the log that is repeated rarely while its cause lasts.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Often enough that whoever reads the end of a log sees it, and rare enough to hide nothing else.
const EVERY: Duration = Duration::from_secs(60);

/// Says when a line is due: at once, and then once a minute.
#[derive(Debug, Default)]
pub struct Reminder(Mutex<Option<Instant>>);

impl Reminder {
    /// Whether the line is due at `now`. It then is not for a minute.
    pub fn is_due(&self, now: Instant) -> bool {
        let mut last = self.0.lock();
        let waits = last.is_some_and(|last| now.saturating_duration_since(last) < EVERY);
        if !waits {
            *last = Some(now);
        }
        !waits
    }

    /// The cause is over: the next line is due at once. Returns whether a line was out.
    pub fn clear(&self) -> bool {
        self.0.lock().take().is_some()
    }
}

#[cfg(test)]
mod tests;
