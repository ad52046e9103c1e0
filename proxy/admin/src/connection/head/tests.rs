use super::*;

/// How a head is judged that comes in pieces of this size, if hyper keeps all of its headers but `dropped`.
fn judged(head: &str, dropped: usize, size: usize) -> Option<Ambiguity> {
    let mut raw = RawHead::default();
    for piece in head.as_bytes().chunks(size) {
        raw.note(piece);
    }
    let lines = head.trim_start().replace('\r', "");
    let headers = lines.lines().skip(1).take_while(|line| !line.is_empty());
    let headers = headers.count();
    raw.judge(headers - dropped, head.to_lowercase().contains("chunked"))
}

#[test]
fn a_header_that_hyper_drops_is_a_second_length() {
    for head in [
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-LENGTH:5\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        "\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\ntransfer-encoding: chunked\ncontent-length: 5\n\n",
    ] {
        for size in [1, 7, 1_000] {
            let judged = judged(head, 1, size);
            assert_eq!(judged, Some(Ambiguity::TwoLengths), "{head:?}");
        }
    }
}

#[test]
fn what_hyper_keeps_is_fine_also_before_a_body_that_looks_like_a_head() {
    for head in [
        "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nx-content-length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n10\r\n\r\ncontent-length: 5\r\n\r\n",
        "\r\nPOST / HTTP/1.1\r\ncontent-length: 9\r\n\r\na#b\r\n\r\n",
        "GET / HTTP/1.1\r\nx-note: #1\r\n\r\n",
        "GET / HTTP/1.1\nhost: x\n\n",
    ] {
        for size in [1, 7, 1_000] {
            assert_eq!(judged(head, 0, size), None, "{head:?}");
        }
    }
}

#[test]
fn a_fragment_is_found_in_the_target_only() {
    for head in [
        "GET /v1/models#x HTTP/1.1\r\nhost: x\r\n\r\n",
        "\r\nGET # HTTP/1.1\r\n\r\n",
    ] {
        for size in [1, 7, 1_000] {
            let judged = judged(head, 0, size);
            assert_eq!(judged, Some(Ambiguity::Fragment), "{head:?}");
        }
    }
}

#[test]
fn a_whole_head_is_not_copied() {
    let mut raw = RawHead::default();
    raw.note(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello");
    assert!(raw.pieces.is_empty());
    assert_eq!(raw.judge(1, false), None);
}

#[test]
fn a_chunked_head_that_was_not_seen_is_taken_for_one_with_two_lengths() {
    let mut raw = RawHead::default();
    raw.note(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n");
    raw.clear();
    assert_eq!(raw.judge(1, false), None);
    assert_eq!(raw.judge(1, true), Some(Ambiguity::TwoLengths));
    raw.note(&[b'a'; MOST + 1]);
    assert_eq!(raw.pieces.len(), MOST);
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
