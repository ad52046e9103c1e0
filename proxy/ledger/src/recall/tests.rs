use proptest::prelude::*;
use redis::{PushInfo, PushKind, Value};

use super::{Recall, read};

fn message(text: &[u8]) -> PushInfo {
    PushInfo {
        kind: PushKind::Message,
        data: vec![
            Value::BulkString(b"{t}:recall".to_vec()),
            Value::BulkString(text.to_vec()),
        ],
    }
}

#[test]
fn a_recall_names_the_replica_and_the_counter() {
    let recall = read(&message(b"pod-1-00c0ffee {t}:default/q/l:Tokens:Minute:ab"));
    let expected = Recall {
        by: "pod-1-00c0ffee".to_owned(),
        key: "{t}:default/q/l:Tokens:Minute:ab".to_owned(),
    };
    assert_eq!(recall, Some(expected));
}

#[test]
fn other_messages_are_none() {
    assert_eq!(read(&message(b"nothing")), None);
    assert_eq!(read(&message(b"\xff \xff")), None);
    let push = PushInfo {
        kind: PushKind::Subscribe,
        data: message(b"a b").data,
    };
    assert_eq!(read(&push), None);
    let push = PushInfo {
        kind: PushKind::Message,
        data: vec![Value::Int(1)],
    };
    assert_eq!(read(&push), None);
}

proptest! {
    #[test]
    fn any_message_is_read_or_ignored(text in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Some(Recall { by, key }) = read(&message(&text)) {
            prop_assert_eq!(format!("{by} {key}").into_bytes(), text);
        }
    }
}
