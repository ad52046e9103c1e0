//! The Redis server that tests and benchmarks kill and count, on the real program.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tests_support::Redis;

#[test]
fn a_killed_server_comes_back_empty_on_the_same_port() {
    let mut redis = Redis::start().unwrap();
    let url = redis.url();
    assert_eq!(redis.command(&["SET", "key", "two words"]).unwrap(), "OK");
    assert_eq!(redis.command(&["GET", "key"]).unwrap(), "two words");
    redis.kill();
    let error = format!("{:#}", redis.command(&["PING"]).unwrap_err());
    assert!(error.contains("redis-server does not run"), "{error}");
    redis.restart().unwrap();
    assert_eq!(
        (redis.url(), redis.command(&["GET", "key"]).unwrap()),
        (url, String::new())
    );
}

#[test]
fn what_it_was_told_to_keep_survives() {
    let mut redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).unwrap();
    redis.command(&["SET", "key", "kept"]).unwrap();
    redis.restart().unwrap();
    assert_eq!(redis.command(&["GET", "key"]).unwrap(), "kept");
}

#[test]
fn each_question_is_one_command() {
    let redis = Redis::start().unwrap();
    let before = redis.commands().unwrap();
    for _ in 0..10 {
        redis.command(&["INCR", "key"]).unwrap();
    }
    // The first question for the count is the eleventh.
    assert_eq!(redis.commands().unwrap() - before, 11);
}

#[test]
fn a_paused_server_answers_after_it_goes_on() {
    let mut redis = Redis::start().unwrap();
    redis.pause().unwrap();
    // The kernel accepts for it.
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    stream.read_exact(&mut answer).unwrap_err();
    redis.resume().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}
