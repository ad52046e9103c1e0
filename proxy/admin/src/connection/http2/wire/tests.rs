use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::memory::{Budget, CONNECTION};

/// A connection with room of this budget, and its client.
fn connected(budget: &Arc<Budget>) -> (DuplexStream, Wire<DuplexStream>) {
    let (client, stream) = duplex(1 << 20);
    let accepted = Accepted {
        stream,
        socket: |_stream| None,
        peer: None,
        room: budget.room(),
    };
    let wire = Wire::new(accepted, CONNECTION, &Faults::default());
    (client, wire)
}

/// The begin of HEADERS or CONTINUATION with this much to come.
fn begin(kind: u8, length: usize, is_last: bool) -> Vec<u8> {
    let [.., high, middle, low] = length.to_be_bytes();
    vec![high, middle, low, kind, u8::from(is_last) * 4, 0, 0, 0, 1]
}

impl Wire<DuplexStream> {
    async fn takes(&mut self, client: &mut DuplexStream, bytes: &[u8]) -> io::Result<()> {
        client.write_all(bytes).await?;
        let mut left = bytes.len();
        while left > 0 {
            left -= self.read(&mut vec![0; left]).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_head_counts_while_it_is_on_its_way_and_until_the_next_one() {
    let budget = Budget::new(1 << 20);
    let (mut client, mut wire) = connected(&budget);
    let head = |kind, length, is_last| [begin(kind, length, is_last), vec![0; length]].concat();
    let preface = vec![0; PREFACE_BYTES];
    wire.takes(&mut client, &preface).await.unwrap();
    wire.takes(&mut client, &head(1, 100, true)).await.unwrap();
    assert_eq!(budget.held(), CONNECTION);
    // In pieces of 4 KB: the third one is too much.
    wire.takes(&mut client, &head(1, 4_096, false))
        .await
        .unwrap();
    wire.takes(&mut client, &head(9, 4_096, false))
        .await
        .unwrap();
    assert_eq!(budget.held(), CONNECTION);
    wire.takes(&mut client, &head(9, 4_096, true))
        .await
        .unwrap();
    assert_eq!(budget.held(), CONNECTION + LONG_HEAD);
    wire.takes(&mut client, &head(0, 9_000, false))
        .await
        .unwrap();
    assert_eq!(budget.held(), CONNECTION + LONG_HEAD, "data says nothing");
    wire.takes(&mut client, &head(1, 100, true)).await.unwrap();
    assert_eq!(budget.held(), CONNECTION);
    drop(wire);
    assert_eq!(budget.held(), 0);
}

#[tokio::test]
async fn without_room_for_a_head_the_connection_ends_before_it_has_come() {
    let budget = Budget::new(4 * CONNECTION);
    let (mut client, mut wire) = connected(&budget);
    let bytes = [vec![0; PREFACE_BYTES], begin(1, 16_000, false)].concat();
    let error = wire.takes(&mut client, &bytes).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
}
