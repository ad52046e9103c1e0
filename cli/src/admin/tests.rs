use std::io::{Error, ErrorKind};

use super::{AdminUrl, named, split};

#[test]
fn takes_a_host_and_a_port_and_nothing_else() {
    for good in [
        "http://127.0.0.1:8081",
        "localhost:8081/",
        "http://[::1]:8081",
    ] {
        assert!(good.parse::<AdminUrl>().is_ok(), "{good}");
    }
    for bad in [
        "",
        "localhost",
        "https://h:1",
        "http://h:1/quota",
        "http://u@h:1",
        ":1",
        "h:x",
    ] {
        assert!(bad.parse::<AdminUrl>().is_err(), "{bad}");
    }
}

#[test]
fn an_answer_that_broke_off_is_not_taken_for_a_whole_one() {
    let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    assert_eq!(split(whole).expect("whole"), (200, &b"{}"[..]));
    assert!(split(&whole[..whole.len() - 1]).is_err());
    assert!(split(b"HTTP/1.1 200 OK\r\n").is_err());
    assert!(split(b"SSH-2.0\r\n\r\n").is_err());
}

#[test]
fn a_port_that_hangs_is_said_to_hang() {
    for kind in [ErrorKind::WouldBlock, ErrorKind::TimedOut] {
        assert_eq!(
            named(Error::from(kind)).to_string(),
            "no answer within 10 s"
        );
    }
    let refused = named(Error::from(ErrorKind::ConnectionRefused));
    assert!(refused.to_string().contains("refused"), "{refused}");
}
