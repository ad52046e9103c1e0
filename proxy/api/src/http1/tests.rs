use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Decoder, Malformed, Piece};

/// What a reader makes of an answer, and of the end of the connection.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The end of the body, as the answer or the connection has it.
    end: Result<(), Malformed>,
    keeps: bool,
    /// Bytes after a good answer.
    rest: usize,
}

/// Reads an answer that comes in these pieces, after which the connection is closed. The second is the
/// number of pieces that came out.
fn read(pieces: &[&[u8]]) -> Result<(Answer, usize), Malformed> {
    let mut decoder = Decoder::new();
    let mut buffer = BytesMut::new();
    let mut pieces = pieces.iter();
    let head = loop {
        if let Some(head) = decoder.head(&mut buffer)? {
            break head;
        }
        let Some(piece) = pieces.next() else {
            return Err(decoder.closed().expect_err("no head is no answer"));
        };
        buffer.extend_from_slice(piece);
    };
    let headers = head.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.to_string(), value.into_owned())
    });
    let (mut body, mut frames) = (Vec::new(), 0);
    let end = loop {
        match decoder.body(&mut buffer) {
            Ok(Piece::Data(data)) => {
                assert!(!data.is_empty());
                body.extend_from_slice(&data);
                frames += 1;
            }
            Ok(Piece::End) => break Ok(()),
            Ok(Piece::More) => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => break decoder.closed(),
            },
            Err(malformed) => break Err(malformed),
        }
    };
    let answer = Answer {
        status: head.status,
        headers: headers.collect(),
        body,
        keeps: decoder.keeps(),
        rest: match end {
            Ok(()) => buffer.len() + pieces.map(|piece| piece.len()).sum::<usize>(),
            Err(_) => 0,
        },
        end,
    };
    Ok((answer, frames))
}

/// Reads an answer whole, byte by byte, and cut in two at every byte: it is the same each time.
fn check(bytes: impl AsRef<[u8]>) -> Result<Answer, Malformed> {
    let bytes = bytes.as_ref();
    let whole = read(&[bytes]).map(|(answer, _)| answer);
    for at in 0..bytes.len().min(2_000) {
        let (first, second) = bytes.split_at(at);
        let cut = read(&[first, second]).map(|(answer, _)| answer);
        assert_eq!(cut, whole, "cut at {at} of {}", bytes.escape_ascii());
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single).map(|(answer, _)| answer), whole);
    whole
}

/// An answer with these lines in its head.
fn answer(lines: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}")
}

/// A body in chunks, as given.
fn chunked(body: &str) -> String {
    answer("transfer-encoding: chunked\r\n", body)
}

/// The body of a good answer.
fn body(bytes: impl AsRef<[u8]>) -> String {
    let answer = check(&bytes).expect("a good head");
    let shown = bytes.as_ref().escape_ascii();
    assert_eq!(answer.end, Ok(()), "{shown}");
    String::from_utf8(answer.body).expect("the body is text")
}

#[test]
fn a_head_that_two_readers_could_read_differently_is_refused() {
    for (head, expect) in [
        ("HTTP/0.9 200 OK\r\n\r\n", Malformed::Version),
        ("HTTP/2.0 200 OK\r\n\r\n", Malformed::Version),
        ("HTTP/1.2 200 OK\r\n\r\n", Malformed::Version),
        ("http/1.1 200 OK\r\n\r\n", Malformed::Version),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Malformed::Version),
        ("<html>hello</html>", Malformed::Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Malformed::Version),
        ("\0\0\x12\x04\0\0\0\0\0", Malformed::Version),
        ("HTTP/1.1 2x0 OK\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 099 OK\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 +20 OK\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 2000 OK\r\n\r\n", Malformed::Head),
        ("HTTP/1.1  200 OK\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 200 O\0K\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 200 OK\nlf: a\n\n", Malformed::BareLineFeed),
        ("HTTP/1.1 200 OK\r\na: b\n\r\n", Malformed::BareLineFeed),
        ("HTTP/1.1 200 OK\r\na: b\r\n\n", Malformed::BareLineFeed),
        ("HTTP/1.1 200 OK\r\na: b\rc: d\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 200 OK\r\na: b\r\n c: d\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 200 OK\r\n a: b\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 200 OK\r\na : b\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 200 OK\r\na b: c\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 200 OK\r\n: no name\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 200 OK\r\na: b\x7fc\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 200 OK\r\na\u{e9}: b\r\n\r\n", Malformed::Head),
        ("HTTP/1.1 101 Go\r\nupgrade: x\r\n\r\n", Malformed::Upgrade),
        ("HTTP/1.1 200 OK\r\na: b\r\n", Malformed::Truncated),
        ("HTTP/1", Malformed::Truncated),
        ("", Malformed::Truncated),
    ] {
        assert_eq!(check(head), Err(expect), "{}", head.escape_debug());
    }
}

#[test]
fn a_body_has_one_length() {
    let te = "transfer-encoding: chunked\r\n";
    for (lines, expect) in [
        ("content-length: 5\r\ncontent-length: 5", Malformed::Length),
        ("content-length: 5\r\ncontent-length: 6", Malformed::Length),
        ("content-length: 5, 5", Malformed::Length),
        ("content-length: +5", Malformed::Length),
        ("content-length: -5", Malformed::Length),
        ("content-length: 5 5", Malformed::Length),
        ("content-length: 05", Malformed::Length),
        ("content-length: 00", Malformed::Length),
        ("content-length: 0x5", Malformed::Length),
        ("content-length: 5.0", Malformed::Length),
        ("content-length: \"5\"", Malformed::Length),
        ("content-length: \u{665}", Malformed::Length),
        ("content-length:", Malformed::Length),
        ("content-length: 18446744073709551616", Malformed::Length),
        (
            "content-length: 5\r\ntransfer-encoding: chunked",
            Malformed::TwoLengths,
        ),
        (
            "transfer-encoding: chunked\r\ncontent-length: 0",
            Malformed::TwoLengths,
        ),
        (
            "transfer-encoding: chunked\r\nTransfer-Encoding: chunked",
            Malformed::TransferCoding,
        ),
        (
            "transfer-encoding: chunked, chunked",
            Malformed::TransferCoding,
        ),
        (
            "transfer-encoding: gzip, chunked",
            Malformed::TransferCoding,
        ),
        ("transfer-encoding: identity", Malformed::TransferCoding),
        ("transfer-encoding: xchunked", Malformed::TransferCoding),
        ("transfer-encoding: \"chunked\"", Malformed::TransferCoding),
        ("transfer-encoding: chunked;q=1", Malformed::TransferCoding),
        ("transfer-encoding: chunk\u{eb}d", Malformed::TransferCoding),
        ("transfer-encoding: \x0bchunked", Malformed::Head),
        ("transfer-encoding:", Malformed::TransferCoding),
    ] {
        let answer = answer(&format!("{lines}\r\n"), "5\r\nhello\r\n0\r\n\r\n");
        assert_eq!(check(&answer), Err(expect), "{lines}");
    }
    let old = format!("HTTP/1.0 200 OK\r\n{te}\r\n0\r\n\r\n");
    assert_eq!(check(old), Err(Malformed::TransferCoding));
    // Blanks around a value are no part of it.
    assert_eq!(body(answer("content-length: \t5 \t\r\n", "hello")), "hello");
    assert_eq!(
        body(answer("Transfer-Encoding: \tChunked \r\n", "0\r\n\r\n")),
        ""
    );
}

#[test]
fn a_status_decides_whether_there_is_a_body() {
    let head = |status: u16, lines: &str| check(format!("HTTP/1.1 {status} X\r\n{lines}\r\n"));
    for (status, lines) in [
        (204, ""),
        (204, "content-length: 0\r\n"),
        (304, ""),
        (304, "content-length: 5\r\n"),
        (304, "transfer-encoding: chunked\r\n"),
        (200, "content-length: 0\r\n"),
    ] {
        let answer = head(status, lines).expect("a good head");
        assert_eq!(
            (answer.end, answer.keeps),
            (Ok(()), true),
            "{status} {lines}"
        );
    }
    for (status, lines, expect) in [
        (204, "content-length: 5\r\n", Malformed::Bodiless),
        (204, "transfer-encoding: chunked\r\n", Malformed::Bodiless),
        (100, "content-length: 5\r\n", Malformed::Bodiless),
        (103, "transfer-encoding: chunked\r\n", Malformed::Bodiless),
        (304, "content-length: x\r\n", Malformed::Length),
    ] {
        assert_eq!(head(status, lines), Err(expect), "{status} {lines}");
    }
}

#[test]
fn interim_answers_are_skipped_up_to_a_bound() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let answer = answer("content-length: 5\r\n", "hello");
    let read = check(format!("{interim}{answer}")).expect("a good answer");
    assert_eq!(read.status, StatusCode::OK);
    assert_eq!(read.headers, [("content-length".into(), "5".into())]);
    assert!(read.keeps);
    let interim = "HTTP/1.1 102 Processing\r\n\r\n";
    assert_eq!(body(interim.repeat(32) + &answer), "hello");
    let bytes = interim.repeat(33) + &answer;
    assert_eq!(check(bytes), Err(Malformed::TooManyInterim));
}

#[test]
fn a_head_is_bounded() {
    let lines = |count: usize| {
        let lines = (0..count).map(|index| format!("x-{index}: a\r\n"));
        lines.collect::<String>()
    };
    let read_once = |lines: String| read(&[answer(&lines, "").as_bytes()]).map(|_| ());
    assert_eq!(read_once(lines(100)), Ok(()));
    assert_eq!(read_once(lines(101)), Err(Malformed::HeadTooLarge));
    let large = |size: usize| format!("a: {}\r\n", "b".repeat(size));
    // The status line, the name and the line ends are 24 bytes.
    assert_eq!(read_once(large((64 << 10) - 24)), Ok(()));
    assert_eq!(
        read_once(large((64 << 10) - 23)),
        Err(Malformed::HeadTooLarge)
    );
    // An endless head is refused before its end.
    let endless = answer(&large(64 << 10), "");
    let (endless, _) = endless.as_bytes().split_at(64 << 10);
    let mut buffer = BytesMut::from(endless);
    let refused = Decoder::new().head(&mut buffer).map(|_| ());
    assert_eq!(refused, Err(Malformed::HeadTooLarge));
}

#[test]
fn chunks_follow_the_grammar() {
    for (bytes, expect) in [
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "hello"),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("a\r\n0123456789\r\n00\r\n\r\n", "0123456789"),
        ("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5;a=b;c=\"d;e\";f\r\nhello\r\n0;x\r\n\r\n", "hello"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("5\r\nhello\r\n0\r\nx-sum: 1\r\nx-b:\r\n\r\n", "hello"),
    ] {
        assert_eq!(body(chunked(bytes)), expect);
    }
    for (bytes, before, expect) in [
        ("\r\n", "", Malformed::ChunkSize),
        ("x\r\n", "", Malformed::ChunkSize),
        ("-5\r\nhello", "", Malformed::ChunkSize),
        ("+5\r\nhello", "", Malformed::ChunkSize),
        ("0x5\r\nhello", "", Malformed::ChunkSize),
        ("1_0\r\nhello", "", Malformed::ChunkSize),
        (" 5\r\nhello", "", Malformed::ChunkSize),
        ("5 \r\nhello", "", Malformed::ChunkSize),
        ("5\t;a\r\nhello", "", Malformed::ChunkSize),
        ("5\nhello\r\n0\r\n\r\n", "", Malformed::ChunkSize),
        ("5\rhello\r\n0\r\n\r\n", "", Malformed::ChunkSize),
        ("5;a\nhello\r\n0\r\n\r\n", "", Malformed::ChunkSize),
        ("5;a\rb\r\nhello", "", Malformed::ChunkSize),
        ("5;a\0\r\nhello", "", Malformed::ChunkSize),
        (";a\r\nhello", "", Malformed::ChunkSize),
        ("00000000000000005\r\nhello", "", Malformed::ChunkSize),
        ("fffffffffffffffff\r\nhello", "", Malformed::ChunkSize),
        ("5\r\nhello0\r\n\r\n", "hello", Malformed::ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n", "hello", Malformed::ChunkEnd),
        ("5\r\nhello\r0\r\n\r\n", "hello", Malformed::ChunkEnd),
        ("4\r\nhello\r\n0\r\n\r\n", "hell", Malformed::ChunkEnd),
        ("5\r\nhello\r\n0\n\n", "hello", Malformed::ChunkSize),
        ("5\r\nhello\r\n0\r\n\n", "hello", Malformed::Trailers),
        ("0\r\n\rx", "", Malformed::Trailers),
        ("0\r\nno colon\r\n\r\n", "", Malformed::Trailers),
        ("0\r\n: a\r\n\r\n", "", Malformed::Trailers),
        ("0\r\na : b\r\n\r\n", "", Malformed::Trailers),
        ("0\r\na: b\r\n c\r\n\r\n", "", Malformed::Trailers),
        ("0\r\na: b\n\r\n", "", Malformed::Trailers),
        ("0\r\na: b\0\r\n\r\n", "", Malformed::Trailers),
        ("0\r\nHTTP/1.1 200 OK\r\n\r\n", "", Malformed::Trailers),
        ("", "", Malformed::Truncated),
        ("5", "", Malformed::Truncated),
        ("5\r\nhel", "hel", Malformed::Truncated),
        ("5\r\nhello\r\n", "hello", Malformed::Truncated),
        ("5\r\nhello\r\n0\r\n", "hello", Malformed::Truncated),
        ("5\r\nhello\r\n0\r\n\r", "hello", Malformed::Truncated),
        ("ffffffffffffffff\r\nhel", "hel", Malformed::Truncated),
    ] {
        let answer = check(chunked(bytes)).expect("a good head");
        let read = (answer.body.as_slice(), answer.end, answer.keeps);
        let shown = bytes.escape_debug();
        assert_eq!(read, (before.as_bytes(), Err(expect), false), "{shown}");
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let end = |bytes: String| read(&[chunked(&bytes).as_bytes()]).map(|(answer, _)| answer.end);
    let extended = |size: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(size));
    assert_eq!(end(extended(1 << 10)), Ok(Ok(())));
    assert_eq!(end(extended((1 << 10) + 1)), Ok(Err(Malformed::Extensions)));
    // Colons and line ends are not counted: 64 lines of 128 bytes.
    let trailed = |size: usize| {
        let line = format!("{}:{}\r\n", "a".repeat(28), "b".repeat(100));
        format!("0\r\n{}{}:\r\n\r\n", line.repeat(63), "c".repeat(size))
    };
    assert_eq!(end(trailed(128)), Ok(Ok(())));
    assert_eq!(end(trailed(129)), Ok(Err(Malformed::Trailers)));
}

#[test]
fn a_connection_is_kept_only_if_the_answer_ends_without_it() {
    let length = "content-length: 0\r\n";
    for (version, lines, keeps) in [
        ("1.1", "", true),
        ("1.1", "connection: keep-alive\r\n", true),
        ("1.1", "connection: close\r\n", false),
        ("1.1", "connection: x, Close\r\n", false),
        ("1.1", "connection: x\r\nconnection: CLOSE\r\n", false),
        ("1.1", "connection: keep-alive, close\r\n", false),
        ("1.1", "connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "connection: Keep-Alive\r\n", true),
        ("1.0", "connection: keep-alive, close\r\n", false),
    ] {
        let answer = check(format!("HTTP/{version} 200 OK\r\n{lines}{length}\r\n"));
        assert_eq!(
            answer.expect("a good head").keeps,
            keeps,
            "{version} {lines}"
        );
    }
    let until_close = check("HTTP/1.1 200 OK\r\n\r\nhello").expect("a good head");
    assert_eq!(until_close.body, b"hello");
    assert_eq!((until_close.end, until_close.keeps), (Ok(()), false));
    let cut = check(answer("content-length: 6\r\n", "hello")).expect("a good head");
    assert_eq!((cut.end, cut.keeps), (Err(Malformed::Truncated), false));
}

#[test]
fn bytes_after_the_end_are_left_over() {
    let next = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    for bytes in [
        answer("content-length: 5\r\n", "hello") + next,
        chunked("5\r\nhello\r\n0\r\n\r\n") + next,
    ] {
        let answer = check(bytes).expect("a good head");
        assert_eq!(answer.body, b"hello");
        assert_eq!(answer.rest, next.len());
    }
}

#[test]
fn headers_of_the_connection_end_here() {
    let lines = "connection: x-hop, keep-alive\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\n\
                 te: trailers\r\ntrailer: x-sum\r\nupgrade: h2c\r\nproxy-authenticate: Basic\r\n\
                 proxy-connection: close\r\nset-cookie: a\r\nset-cookie: b\r\n\
                 X-Empty:\r\nx-latin: \u{e9}\r\ncontent-length: 0\r\n";
    let answer = check(answer(lines, "")).expect("a good head");
    let mut names: Vec<&str> = answer.headers.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    let kept = ["content-length", "x-empty", "x-latin"];
    assert_eq!(names, kept);
}

#[test]
fn what_one_read_brought_is_one_piece() {
    let frames = |pieces: &[&[u8]]| read(pieces).expect("a good head").1;
    let events = "4\r\ndata\r\n".repeat(50);
    assert_eq!(frames(&[chunked(&events).as_bytes()]), 1);
    let cut = chunked(&events);
    let (first, second) = cut.as_bytes().split_at(cut.len() / 2);
    assert_eq!(frames(&[first, second]), 2);
    // The end is known with the last data.
    let mut buffer = BytesMut::from(chunked(&(events + "0\r\n\r\n")).as_bytes());
    let mut decoder = Decoder::new();
    decoder.head(&mut buffer).expect("good").expect("whole");
    let Ok(Piece::Data(data)) = decoder.body(&mut buffer) else {
        panic!("there are data")
    };
    assert_eq!(data.len(), 200);
    assert!(decoder.is_ended() && decoder.keeps());
}

/// What hyper's client makes of an answer.
async fn by_hyper(bytes: &[u8]) -> hyper::Result<(StatusCode, Vec<u8>)> {
    let (mut server, client) = tokio::io::duplex(1 << 20);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(client)).await?;
    let request = Request::post("/").body(Empty::<Bytes>::new());
    let exchange = async {
        let answer = sender.send_request(request.expect("a request")).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?;
        Ok((status, body.to_bytes().to_vec()))
    };
    let serve = async {
        // An answer to nothing is an error.
        server.read_u8().await.expect("a request");
        server.write_all(bytes).await.expect("there is room");
        server.shutdown().await.expect("it is open");
        // Dropped, it would not take the request.
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        answer = exchange => answer,
        _ = async { tokio::join!(connection, serve) } => unreachable!("the server does not end"),
    }
}

#[tokio::test]
async fn hyper_reads_a_good_answer_alike() {
    let long = "x".repeat(70_000);
    let good = [
        answer("content-length: 5\r\n", "hello"),
        answer(&format!("content-length: {}\r\n", long.len()), &long),
        answer("", "until the end"),
        answer("connection: close\r\ncontent-length: 2\r\n", "hi"),
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_owned(),
        "HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n".to_owned(),
        "HTTP/1.1 429 Slow\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na".to_owned(),
        chunked("5\r\nhello\r\n0\r\n\r\n"),
        chunked("5;a=\"b\"\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
        chunked("5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"),
        chunked("0000000000000005\r\nhello\r\n000\r\n\r\n"),
    ];
    for bytes in good {
        let (status, body) = by_hyper(bytes.as_bytes()).await.expect("hyper reads it");
        let answer = check(&bytes).expect("a good head");
        let shown = bytes.escape_debug();
        assert_eq!((answer.status, answer.end), (status, Ok(())), "{shown}");
        assert!(answer.body == body, "{shown}");
    }
}
