//! Measures how long ready work of a core waits for its turn: a task that asks for it at a set time, and looks
//! how late it is. So no request reads a clock for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proxy_core::overload::{Classes, Waits};
use tokio::time::{Instant, sleep_until};

use crate::state::Core;

/// Between two looks at a core that keeps up: an overload is noticed within a tenth of a second, and a core
/// that rests is hardly woken.
const CALM: Duration = Duration::from_millis(100);
/// The same while work waits.
const STRAINED: Duration = Duration::from_millis(5);

/// Measures until the runtime of the core ends.
pub(crate) async fn measure(core: Arc<Core>) {
    let overload = &core.overload;
    let mut waits = Waits::default();
    let start = Instant::now();
    let mut due = start;
    loop {
        sleep_until(due).await;
        let now = Instant::now();
        let waited = now.saturating_duration_since(due);
        let since_start = now.saturating_duration_since(start);
        let was_strained = overload.strained.load(Ordering::Relaxed);
        let level = waits.note(since_start, waited);
        let is_strained = waits.is_strained(since_start);
        let live = core.shared.live();
        let classes = live.map_or_else(Classes::default, |live| live.classes);
        overload.set(level, classes);
        overload.strained.store(is_strained, Ordering::Relaxed);
        if is_strained {
            overload.say(waited, now.into_std());
        } else if was_strained {
            overload.end();
        }
        due = now + if is_strained { STRAINED } else { CALM };
    }
}
