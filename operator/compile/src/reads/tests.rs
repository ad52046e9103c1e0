use super::*;

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

/// The readers of a change of backend `a/eu`.
fn readers_of_eu(readers: &Readers) -> Vec<String> {
    let mut changes = Changes::default();
    changes.add(Subject::Backend, &name("a/eu"));
    readers
        .of(&changes)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_change_reaches_readers_of_one_of_its_namespace_and_of_all() {
    let mut readers = Readers::default();
    let reads = Reads::default();
    reads.one(Subject::Backend, &name("a/eu"));
    readers.record(&name("a/one"), &reads);
    reads.namespace(Subject::Backend, "a");
    readers.record(&name("a/namespace"), &reads);
    reads.one(Subject::Backend, &name("b/eu"));
    reads.all(Subject::Backend);
    readers.record(&name("a/all"), &reads);
    reads.one(Subject::Backend, &name("a/us"));
    reads.namespace(Subject::Backend, "b");
    reads.one(Subject::Route, &name("a/eu"));
    reads.all(Subject::Unpriced);
    readers.record(&name("a/other"), &reads);
    assert_eq!(readers_of_eu(&readers), ["a/all", "a/namespace", "a/one"]);
}

#[test]
fn what_is_read_next_replaces_what_was_read_before() {
    let mut readers = Readers::default();
    let reads = Reads::default();
    reads.one(Subject::Backend, &name("a/eu"));
    readers.record(&name("a/one"), &reads);
    reads.one(Subject::Backend, &name("a/us"));
    readers.record(&name("a/one"), &reads);
    assert_eq!(readers_of_eu(&readers), [""; 0]);
    readers.forget(&name("a/one"));
    assert!(readers.readers.is_empty() && readers.reads.is_empty());
}
