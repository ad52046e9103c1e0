use super::*;

#[test]
fn a_name_is_read_as_it_is_written() {
    for kind in EntryKind::ALL {
        let entry = EntryName::new(kind, ObjectName::new("team-a", "chat"));
        let text = entry.to_string();
        assert_eq!(text, format!("{}/team-a/chat", kind.as_str()));
        assert_eq!(EntryName::parse(&text), Some(entry));
    }
}

#[test]
fn another_form_or_kind_is_no_name() {
    for text in [
        "",
        "route",
        "route/a",
        "route/a/b/c",
        "route//b",
        "grant/a/b",
        "/a/b",
    ] {
        assert_eq!(EntryName::parse(text), None, "{text}");
    }
}
