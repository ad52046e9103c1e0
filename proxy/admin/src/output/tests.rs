use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::Output;

/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(20);

/// Keeps what it is given; fails as long as it is `broken`.
#[derive(Clone, Default)]
struct Kept {
    text: Arc<Mutex<Vec<u8>>>,
    broken: Arc<Mutex<bool>>,
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if *self.broken.lock() {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        // Short, as the system may be.
        let part = &bytes[..bytes.len().min(1_000)];
        self.text.lock().extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_of_many_threads_come_out_whole_and_in_the_order_of_each() {
    let kept = Kept::default();
    let output = Output::new(kept.clone(), 1 << 20).expect("a thread");
    let threads = [1, 300, 3_000].map(|length| {
        let output = output.clone();
        thread::spawn(move || {
            for number in 0..500 {
                let line = format!("{length} {number} {}\n", "x".repeat(length));
                while !output.write(line.as_bytes()) {
                    assert!(output.flush(LONG));
                }
            }
        })
    });
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert!(output.flush(LONG));
    let text = String::from_utf8(kept.text.lock().clone()).expect("text");
    let mut next = BTreeMap::new();
    for line in text.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let length: usize = parts[0].parse().expect("a length");
        assert_eq!(parts[2], "x".repeat(length));
        let number = next.entry(length).or_insert(0);
        assert_eq!(parts[1], number.to_string());
        *number += 1;
    }
    assert_eq!(next, BTreeMap::from([(1, 500), (300, 500), (3_000, 500)]));
}

#[test]
fn a_pipe_that_nobody_reads_drops_lines_and_holds_up_no_writer() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let output = Output::new(writer, 64 << 10).expect("a thread");
    let line = format!("{}\n", "x".repeat(999));
    let mut written = 0;
    // It drops lines as soon as its bound and the pipe are full.
    loop {
        if output.write(line.as_bytes()) {
            written += 1;
        } else if !output.flush(Duration::from_millis(50)) {
            break;
        }
        assert!(written < 10_000, "nothing is dropped");
    }

    let reading = thread::spawn(move || {
        let lines = BufReader::new(reader).lines();
        lines
            .take(written)
            .map(|line| line.expect("text"))
            .collect()
    });
    assert!(output.flush(LONG), "the reader is back");
    let read: Vec<String> = reading.join().expect("no panic");
    assert!(read.iter().all(|read| *read == line.trim_end()));
}

#[test]
fn an_output_that_fails_loses_lines_and_goes_on() {
    let kept = Kept::default();
    let output = Output::new(kept.clone(), 1 << 20).expect("a thread");
    *kept.broken.lock() = true;
    assert!(output.write(b"lost\n"));
    assert!(output.flush(LONG), "a failed write is waited for no longer");
    *kept.broken.lock() = false;
    assert!(output.write(b"kept\n"));
    assert!(output.flush(LONG));
    assert_eq!(*kept.text.lock(), b"kept\n");
}

#[test]
fn lines_that_are_handed_over_keep_their_order_and_the_bound() {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let output = Output::new(writer, 200 << 10).expect("a thread");
    let lines = |letter: &str| {
        [letter.repeat(99_999), "\n".to_owned()]
            .concat()
            .into_bytes()
    };
    // The pipe is full with a part of the first, so the others wait.
    assert!(output.hand_over(&mut lines("a")));
    assert!(!output.flush(Duration::from_millis(200)));
    let mut handed = lines("b");
    assert!(output.hand_over(&mut handed));
    assert!(handed.is_empty());
    let mut more = lines("c");
    assert!(output.hand_over(&mut more));
    assert!(more.is_empty());
    let mut beyond = lines("d");
    assert!(!output.hand_over(&mut beyond));
    assert!(
        beyond.is_empty(),
        "they are lost, and not kept for the next time"
    );
    let mut read = vec![0; 300_000];
    reader.read_exact(&mut read).expect("three of them");
    assert!(read == [lines("a"), lines("b"), lines("c")].concat());
    assert!(output.flush(LONG));
    assert!(
        !output.hand_over(&mut vec![0; 300 << 10]),
        "larger than the bound"
    );
}

#[test]
fn a_pipe_that_does_not_block_gets_everything() {
    let (mut reader, writer) = std::os::unix::net::UnixStream::pair().expect("sockets");
    writer.set_nonblocking(true).expect("a socket");
    let output = Output::new(writer, 4 << 20).expect("a thread");
    let line = [b"x".repeat(999), b"\n".to_vec()].concat();
    let all = line.repeat(2_000);
    assert!(output.write(&all));
    let mut read = vec![0; all.len()];
    reader.read_exact(&mut read).expect("all of it");
    assert!(read == all);
}
