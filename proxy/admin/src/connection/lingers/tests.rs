use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::task;

/// A client that sends this much, and then closes or waits.
fn client(bytes: usize, closes: bool) -> DuplexStream {
    let (mut client, server) = duplex(100 << 10);
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
async fn all_connections_share_what_an_interval_allows() {
    let lingers = Lingers::default();
    let sent = 10 * SHARE;
    let streams = [(); 4].map(|()| client(sent, true));
    let [one, two, three, four] = streams.map(|stream| lingered(&lingers, stream));
    let took: [Duration; 4] = tokio::join!(one, two, three, four).into();
    let (first, last) = (took.iter().min().unwrap(), took.iter().max().unwrap());
    assert!(*last >= INTERVAL * 38, "{took:?}");
    assert!(*last <= INTERVAL * 50, "{took:?}");
    assert!(*first >= INTERVAL * 20, "none has it all: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_or_an_endless_client_ends_it() {
    let lingers = Lingers::default();
    let silent = lingered(&lingers, client(10, false)).await;
    assert!((SILENCE..SILENCE * 2).contains(&silent), "{silent:?}");
    let endless = lingered(&lingers, client(MOST * 2, true)).await;
    let intervals = u32::try_from(MOST / SHARE).unwrap();
    assert!(endless >= INTERVAL * (intervals - 1), "{endless:?}");
    assert!(endless <= INTERVAL * (intervals + 10), "{endless:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_ends_it_at_once() {
    let lingers = Lingers::default();
    let closed = lingered(&lingers, client(0, true)).await;
    assert_eq!(closed, Duration::ZERO);
}
