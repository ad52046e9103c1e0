use std::sync::Arc;

use parking_lot::Mutex;

use super::Background;

#[tokio::test]
async fn tasks_stop_in_the_reverse_order_of_their_starts() {
    let ended = Arc::new(Mutex::new(Vec::new()));
    let mut background = Background::default();
    for name in ["first", "second", "third"] {
        let ended = Arc::clone(&ended);
        background.start(name, |mut shutdown| async move {
            shutdown.requested().await;
            ended.lock().push(name);
        });
    }
    background.stop().await;
    assert_eq!(*ended.lock(), ["third", "second", "first"]);
}

#[tokio::test]
async fn a_task_that_panics_does_not_keep_the_others_from_stopping() {
    let (sent, received) = tokio::sync::oneshot::channel();
    let mut background = Background::default();
    background.start("good", |mut shutdown| async move {
        shutdown.requested().await;
        sent.send(()).expect("the test waits");
    });
    background.start("bad", |_shutdown| async { panic!("as the test wants") });
    background.stop().await;
    assert_eq!(received.await, Ok(()));
}
