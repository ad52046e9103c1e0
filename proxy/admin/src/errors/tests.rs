use super::*;

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Link {
    text: &'static str,
    source: Option<Box<Self>>,
}

/// An error with these messages, the outermost first.
fn linked(texts: &[&'static str]) -> Link {
    let (text, rest) = texts.split_first().expect("an error has a message");
    let source = (!rest.is_empty()).then(|| Box::new(linked(rest)));
    Link { text, source }
}

#[test]
fn every_source_follows_its_error() {
    assert_eq!(chain(&linked(&["a", "b", "c"])), "a: b: c");
}

#[test]
fn a_repeated_source_appears_once_and_line_breaks_become_spaces() {
    assert_eq!(
        chain(&linked(&["connect: refused", "refused"])),
        "connect: refused"
    );
    assert_eq!(chain(&linked(&["a\nb", "c"])), "a b: c");
}
