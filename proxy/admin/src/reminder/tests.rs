use std::time::Duration;

use super::Reminder;
use crate::clock;

#[test]
fn is_due_at_once_then_once_a_minute_and_again_after_the_cause_was_over() {
    let reminder = Reminder::default();
    let start = clock::instant();
    let due = |seconds| reminder.is_due(start + Duration::from_secs(seconds));
    assert!(!reminder.clear(), "no line was out");
    assert_eq!(
        [due(0), due(1), due(59), due(60), due(61)],
        [true, false, false, true, false]
    );
    assert!(reminder.clear());
    assert!(due(62));
}
