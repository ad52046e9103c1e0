use proxy_core::names::{EntryKind, ObjectName};

use super::*;

fn entry(number: u64) -> EntryName {
    EntryName::new(EntryKind::Route, ObjectName::new("a", format!("r{number}")))
}

#[test]
fn a_change_copies_one_shard_and_leaves_the_older_copy_as_it_was() {
    let before: ChangedAt = (0..1_000).map(|number| (entry(number), 1)).collect();
    let mut after = before.clone();
    after.insert(entry(7), 2);
    after.remove(&entry(7_000));
    assert_eq!(before.get(&entry(7)), Some(1));
    assert_eq!(after.get(&entry(7)), Some(2));
    assert_eq!(after.get(&entry(8)), Some(1));
    assert_eq!(after.get(&entry(7_000)), None);
    let both = before.0.iter().zip(after.0.iter());
    let copied = both.filter(|(one, other)| !Arc::ptr_eq(one, other)).count();
    assert_eq!(copied, 2);
    after.remove(&entry(7));
    assert_eq!(after.get(&entry(7)), None);
}
