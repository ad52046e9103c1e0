use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// All bytes sent, and the number held back after each piece.
fn told(word: &str, by: &str, pieces: &[&[u8]]) -> (String, Vec<usize>, u64) {
    let mut replacer = Replacer::new(word, by, Arc::default());
    let (mut goes, mut held) = (Vec::new(), Vec::new());
    for piece in pieces {
        goes.extend(replacer.push(piece));
        held.push(replacer.held.len());
    }
    goes.extend(replacer.finish());
    let replaced = replacer.replaced.load(Ordering::Relaxed);
    (String::from_utf8(goes).unwrap(), held, replaced)
}

#[test]
fn a_word_is_replaced_however_it_is_split() {
    let text = b"aab-abab-aabab";
    for first in 0..=text.len() {
        for second in first..=text.len() {
            let pieces = [&text[..first], &text[first..second], &text[second..]];
            let (goes, _, replaced) = told("aba", "xyz", &pieces);
            assert_eq!(
                (goes.as_str(), replaced),
                ("aab-xyzb-axyzb", 2),
                "{pieces:?}"
            );
        }
    }
}

#[test]
fn only_a_possible_start_of_the_word_is_held_back() {
    let pieces: [&[u8]; 5] = [b"xxab", b"x", b"aba", b"bac", b"ab"];
    let (goes, held, replaced) = told("abac", "1234", &pieces);
    assert_eq!(held, [2, 0, 3, 0, 2]);
    assert_eq!((goes.as_str(), replaced), ("xxabxab1234ab", 1));
}

#[tokio::test]
async fn bytes_travel_both_ways_and_a_close_is_passed_on() -> Result<()> {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = server.local_addr()?.port();
    let relay = Relay::start(port, "word", "mots").await?;
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port())).await?;
    let (mut served, _) = server.accept().await?;

    client.write_all(b"a wo").await?;
    let mut told = [0; 2];
    served.read_exact(&mut told).await?;
    client.write_all(b"rd.").await?;
    let mut rest = [0; 5];
    served.read_exact(&mut rest).await?;
    assert_eq!((&told, &rest), (b"a ", b"mots."));
    assert_eq!(relay.replaced(), 1);

    served.write_all(b"a word back").await?;
    drop(served);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await?;
    assert_eq!(answer, "a word back");
    Ok(())
}

#[tokio::test]
async fn words_of_different_lengths_are_refused() {
    assert!(Relay::start(1, "word", "words").await.is_err());
    assert!(Relay::start(1, "", "").await.is_err());
}
