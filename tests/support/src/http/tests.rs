use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers one connection with these pieces, one per message that the test sends.
async fn server(
    pieces: &'static [&'static str],
) -> (String, tokio::sync::mpsc::Sender<()>, JoinSet<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (go, mut gone) = tokio::sync::mpsc::channel(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut seen = String::new();
        let mut buffer = [0; 4096];
        while !seen.contains("\r\n\r\n") {
            let n = socket.read(&mut buffer).await.unwrap();
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        for piece in pieces {
            if gone.recv().await.is_none() {
                break;
            }
            socket.write_all(piece.as_bytes()).await.unwrap();
        }
        // Ends when the client has closed its side.
        while socket.read(&mut buffer).await.unwrap_or(0) > 0 {}
        seen
    });
    (url, go, tasks)
}

#[tokio::test]
async fn each_chunk_is_returned_when_it_arrives_and_a_drop_disconnects() {
    let (url, go, mut tasks) = server(&[
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-seen: yes\r\n\r\n",
        "3\r\none\r\n",
        "3\r\ntwo\r\n",
    ])
    .await;
    go.send(()).await.unwrap();
    let mut answer = stream_json(&format!("{url}/a?b=c"), &[("api-key", "k")], "{}")
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.headers["x-seen"].as_bytes()),
        (200, b"yes".as_slice())
    );
    go.send(()).await.unwrap();
    let first = answer.next().await.unwrap().unwrap();
    go.send(()).await.unwrap();
    let second = answer.next().await.unwrap().unwrap();
    assert_eq!(
        (&first.bytes[..], &second.bytes[..]),
        (b"one".as_slice(), b"two".as_slice())
    );
    assert!(answer.at <= first.at && first.at <= second.at);

    drop(answer);
    let seen = timeout(PATIENCE, tasks.join_next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(seen.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{seen}");
    assert!(
        seen.contains("api-key: k\r\n") && seen.contains("application/json"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_cut_body_is_an_error_and_a_status_is_not() {
    let (url, go, mut tasks) = server(&["HTTP/1.1 429 Slow\r\ncontent-length: 2\r\n\r\n{}"]).await;
    go.send(()).await.unwrap();
    let answer = get(&url).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (429, "{}"));
    tasks.join_next().await.unwrap().unwrap();

    let (url, go, mut tasks) = server(&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"]).await;
    go.send(()).await.unwrap();
    let answer = stream(Method::GET, &url, &[], "").await.unwrap();
    tasks.abort_all();
    assert!(
        answer
            .whole()
            .await
            .unwrap_err()
            .to_string()
            .contains("read the body")
    );
}
