use operator_publish::epoch::revision;

use super::next;

#[test]
fn an_epoch_begins_when_a_proxy_is_ahead_of_the_api_server() {
    for (proxies, own, now, expected) in [
        // Another operator was faster.
        (revision(0, 900), 0, 900, None),
        (revision(0, 900), 0, 1_000, None),
        // Restored.
        (revision(0, 900), 0, 500, Some(1)),
        // Another operator has noticed.
        (revision(1, 500), 0, 500, Some(1)),
        (revision(1, 500), 1, 500, None),
        // Restored again.
        (revision(1, 900), 1, 500, Some(2)),
        (revision(1, 900), 0, 500, Some(2)),
        // A proxy of the epoch before changes nothing.
        (revision(0, 900), 1, 500, None),
        // There is no later one.
        (revision(u16::MAX, 900), 0, 500, None),
    ] {
        assert_eq!(next(proxies, own, now), expected, "{proxies} {own} {now}");
    }
}
