use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

use super::*;
use crate::task;

/// A client that sends this much, and then closes or waits.
fn client(bytes: usize, closes: bool) -> DuplexStream {
    let (mut client, server) = duplex(4 << 20);
    task::spawn("client", async move {
        client.write_all(&vec![b'a'; bytes]).await.ok();
        if !closes {
            std::future::pending::<()>().await;
        }
    });
    server
}

async fn lingered(lingers: &Lingers, mut stream: DuplexStream) -> Duration {
    let began = Instant::now();
    lingers.linger(&mut stream).await;
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn connections_read_one_after_the_other_with_pauses() {
    let lingers = Lingers::default();
    let sent = 16 * TURN;
    let streams = [(); 4].map(|()| client(sent, true));
    let all = streams.map(|stream| lingered(&lingers, stream));
    let [one, two, three, four] = all;
    let took = tokio::join!(one, two, three, four);
    // Each has its turn among those of the others, and no two of them at once.
    let turns = u32::try_from(4 * sent / TURN).unwrap();
    let last = took.0.max(took.1).max(took.2).max(took.3);
    assert!(last >= PAUSE * (turns - 4), "{took:?}");
    assert!(last <= PAUSE * 3 * turns, "{took:?}");
    let first = took.0.min(took.1).min(took.2).min(took.3);
    assert!(last - first <= PAUSE * 20, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_or_an_endless_client_ends_it() {
    let lingers = Lingers::default();
    let silent = lingered(&lingers, client(10, false)).await;
    assert!((SILENCE..SILENCE * 2).contains(&silent), "{silent:?}");
    let endless = lingered(&lingers, client(MOST * 2, true)).await;
    let turns = u32::try_from(MOST / TURN).unwrap();
    assert!(endless <= PAUSE * 3 * turns, "{endless:?}");
    // Once all is over the turn is free.
    assert!(lingers.0.try_lock().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_needs_no_turn() {
    let lingers = Lingers::default();
    let _turn = lingers.0.lock().await;
    let closed = lingered(&lingers, client(0, true)).await;
    assert_eq!(closed, Duration::ZERO);
}
