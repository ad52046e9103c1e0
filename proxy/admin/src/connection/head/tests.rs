use super::*;

fn has_two_lengths(head: &str) -> bool {
    let mut raw = RawHead::default();
    for piece in head.as_bytes().chunks(7) {
        raw.note(piece);
    }
    raw.has_two_lengths(head.to_ascii_lowercase().contains("chunked"))
}

#[test]
fn a_length_beside_chunks_is_found_wherever_it_stands() {
    for head in [
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-LENGTH:5\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
        "\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\ntransfer-encoding: chunked\ncontent-length: 5\n\n",
    ] {
        assert!(has_two_lengths(head), "{head:?}");
    }
}

#[test]
fn one_of_them_is_fine_also_before_a_body_that_names_the_other() {
    for head in [
        "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nx-content-length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n10\r\n\r\ncontent-length: 5\r\n\r\n",
    ] {
        assert!(!has_two_lengths(head), "{head:?}");
    }
}

#[test]
fn a_whole_head_is_kept_only_if_it_speaks_of_a_coding() {
    let mut raw = RawHead::default();
    raw.note(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nransfer-");
    assert!(raw.0.is_empty());
    for name in ["Transfer-Encoding", "transfer-encoding"] {
        let head = format!("POST / HTTP/1.1\r\n{name}: chunked\r\n\r\n");
        raw.note(format!("{head}5\r\nhello").as_bytes());
        assert_eq!(raw.0, head.as_bytes());
        raw.clear();
    }
}

#[test]
fn a_chunked_head_that_was_not_seen_is_taken_for_one_with_two() {
    let mut raw = RawHead::default();
    raw.note(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n");
    raw.clear();
    assert!(!raw.has_two_lengths(false));
    assert!(raw.has_two_lengths(true));
    raw.note(b"POST / HTTP/1.1\r\ntRaNsFeR-eNcOdInG: chunked\r\n\r\n");
    assert!(raw.has_two_lengths(true), "no client writes so");
    raw.note(&[b'a'; MOST + 1]);
    assert_eq!(raw.0.len(), MOST);
}

#[test]
fn tells_answers_of_hyper_from_those_of_a_service() {
    let bare = |status: &str| {
        format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    };
    let status = |text: &str| of_hyper(text.as_bytes()).map(|status| status.as_u16());
    assert_eq!(status(&bare("400")), Some(400));
    assert_eq!(status(&bare("431")), Some(431));
    assert_eq!(status(&bare("404")), None);
    assert_eq!(status(&bare("200")), None);
    assert_eq!(
        status(&bare("400").replace("connection", "content-type")),
        None
    );
    assert_eq!(
        status(&bare("400").replace("connection", "x-request-id")),
        None
    );
    assert_eq!(status("HTTP/1.1 4"), None);
    assert_eq!(status("data: HTTP/1.1 400"), None);
}
