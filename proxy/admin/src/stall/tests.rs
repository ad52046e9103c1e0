use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_fails_the_write_after_the_limit() {
    let (ours, _theirs) = duplex(8);
    let mut stream = Stall::new(ours);
    stream.write_all(b"12345678").await.unwrap();
    let start = Instant::now();
    let error = stream.write_all(b"9").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), LIMIT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_its_time_but_reads_is_served() {
    let (ours, mut theirs) = duplex(8);
    let mut stream = Stall::new(ours);
    let reader = async {
        let mut bytes = [0; 8];
        for _ in 0..8 {
            tokio::time::sleep(LIMIT / 2).await;
            theirs.read_exact(&mut bytes).await.unwrap();
        }
    };
    let writer = async {
        stream.write_all(&[7; 64]).await.unwrap();
    };
    tokio::join!(reader, writer);
}
