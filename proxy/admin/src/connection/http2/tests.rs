use hyper::body::Frame;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::io::duplex;

use super::*;
use crate::connection::faults::Faults;
use crate::connection::lingers::Lingers;
use crate::memory::Budget;
use crate::{shutdown, task};

const SIZE: usize = 100_000;

/// A body that does not know its end before it is asked for it, as that of a backend.
struct Relayed(Option<Bytes>);

impl Body for Relayed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

fn limits() -> Limits {
    Limits {
        http1: http1::Builder::new(),
        http2: |builder| {
            builder.timer(TokioTimer::new());
        },
        faults: Faults::default(),
        lingers: Lingers::default(),
        strained: Arc::default(),
        head: Duration::from_secs(60),
        close: None,
    }
}

/// A client with this window, and the server's end of its connection.
async fn client(window: u32, deadline: Option<Duration>) -> h2::client::SendRequest<Bytes> {
    let (client, server) = duplex(1 << 20);
    let limits = limits();
    task::spawn("connection under test", async move {
        let (_stop, shutdown) = shutdown::channel();
        let answer = move |_request, leash: Arc<Leash>| async move {
            if let Some(deadline) = deadline {
                leash.end_at((Instant::now() + deadline).into_std());
            }
            Response::new(Relayed(Some(Bytes::from(vec![b'x'; SIZE]))))
        };
        let client = Accepted::unbudgeted(server);
        serve(client, &limits, answer, shutdown).await.ok();
    });
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(window)
        .handshake(client)
        .await
        .unwrap();
    task::spawn("client", async move { drop(connection.await) });
    sender.ready().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_makes_room_and_a_busy_one_does_not() {
    for busy in [false, true] {
        let budget = Budget::with_connections(1 << 20, 1);
        let (client, server) = duplex(1 << 20);
        let served = Accepted {
            stream: server,
            socket: |_server| None,
            peer: None,
            room: budget.room(),
        };
        let (_stop, shutdown) = shutdown::channel();
        let limits = limits();
        let answer = |_request, _leash| async { Response::new(Relayed(Some(Bytes::new()))) };
        let wait = |_request, _leash| std::future::pending::<Response<Relayed>>();
        let mut served: Pin<Box<dyn Future<Output = _>>> = if busy {
            Box::pin(serve(served, &limits, wait, shutdown))
        } else {
            Box::pin(serve(served, &limits, answer, shutdown))
        };
        let asking = async {
            let (sender, connection) = h2::client::handshake(client).await.unwrap();
            task::spawn("client", async move { drop(connection.await) });
            let mut sender = sender.ready().await.unwrap();
            let (response, upload) = sender.send_request(Request::new(()), true).unwrap();
            let mut asked = Some((response, upload));
            if !busy && let Some((response, _)) = asked.take() {
                let mut body = response.await.unwrap().into_body();
                while body.data().await.is_some() {}
            }
            sleep(Duration::from_secs(10)).await;
            drop(budget.room_for_newcomer().await);
            sleep(Duration::from_secs(10)).await;
            drop(asked);
        };
        let is_closed = tokio::select! {
            _ended = served.as_mut() => true,
            () = asking => false,
        };
        assert_eq!(is_closed, !busy);
        drop(served);
        assert_eq!(budget.held(), 0);
    }
}

/// How long it takes until an answer of which this much is taken each second is reset.
async fn reset_after(window: u32, each: usize, deadline: Option<Duration>) -> Duration {
    let mut sender = client(window, deadline).await;
    let began = Instant::now();
    let (response, _) = sender.send_request(Request::new(()), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut flow = body.flow_control().clone();
    task::spawn("taking", async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            // An error before so much has come.
            flow.release_capacity(each).ok();
        }
    });
    loop {
        if let Err(error) = body.data().await.expect("it does not end well") {
            assert!(error.is_reset(), "{error:?}");
            return began.elapsed();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_takes_nothing_is_reset_after_the_stall() {
    for (window, each) in [(0, 0), (1_000, 0), (1_000, 50)] {
        let after = reset_after(window, each, None).await;
        let late = after.saturating_sub(Duration::from_secs(30));
        assert!(late <= LOOK * 2, "{window}, {each}: {after:?}");
        assert!(
            after >= Duration::from_secs(30),
            "{window}, {each}: {after:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_takes_nothing_is_reset_at_its_deadline() {
    let deadline = Duration::from_secs(5);
    let after = reset_after(0, 0, Some(deadline)).await;
    assert!(after >= deadline, "{after:?}");
    assert!(after <= deadline + LOOK * 3, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_its_time_gets_all_of_its_answer() {
    let mut sender = client(1_000, None).await;
    let (response, _) = sender.send_request(Request::new(()), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut size = 0;
    while let Some(data) = body.data().await {
        let data = data.expect("no reset");
        size += data.len();
        sleep(Duration::from_millis(100)).await;
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(size, SIZE);
}

#[tokio::test(start_paused = true)]
async fn a_draining_connection_serves_new_streams_until_the_last_one_has_ended() {
    let (client, server) = duplex(1 << 20);
    let (stop, shutdown) = shutdown::channel();
    let may_answer = Arc::new(tokio::sync::Semaphore::new(0));
    let turn = Arc::clone(&may_answer);
    let served = task::spawn("connection under test", async move {
        let answer = move |_request, _leash| {
            let turn = Arc::clone(&turn);
            async move {
                turn.acquire().await.unwrap().forget();
                Response::new(Relayed(Some(Bytes::from_static(b"whole"))))
            }
        };
        let client = Accepted::unbudgeted(server);
        serve(client, &limits(), answer, shutdown).await.ok();
    });
    let (sender, connection) = h2::client::handshake(client).await.unwrap();
    let closed = task::spawn("client", async move { drop(connection.await) });
    let mut sender = sender.ready().await.unwrap();
    let mut ask = || sender.send_request(Request::new(()), true).unwrap().0;
    let first = ask();
    sleep(LOOK).await;
    stop.leave();
    stop.drain();
    sleep(LOOK).await;
    // A client that had seen a GOAWAY would refuse it.
    let second = ask();
    may_answer.add_permits(2);
    for response in [first, second] {
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "whole");
        while let Some(rest) = body.data().await {
            assert!(rest.unwrap().is_empty());
        }
    }
    closed.await.unwrap();
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_when_it_drains() {
    let (client, server) = duplex(1 << 20);
    let (stop, shutdown) = shutdown::channel();
    let served = task::spawn("connection under test", async move {
        let answer = |_request, _leash| async { Response::new(Relayed(None)) };
        let client = Accepted::unbudgeted(server);
        serve(client, &limits(), answer, shutdown).await.ok();
    });
    let (sender, connection) = h2::client::handshake(client).await.unwrap();
    let closed = task::spawn("client", async move { drop(connection.await) });
    let sender = sender.ready().await.unwrap();
    stop.leave();
    sleep(LOOK).await;
    assert!(!closed.is_finished(), "the server only leaves");
    stop.drain();
    closed.await.unwrap();
    served.await.unwrap();
    drop::<h2::client::SendRequest<Bytes>>(sender);
}

#[tokio::test(start_paused = true)]
async fn a_cut_wakes_every_answer() {
    let (client, server) = duplex(1 << 20);
    let (stop, shutdown) = shutdown::channel();
    let seen = shutdown.clone();
    task::spawn("connection under test", async move {
        let answer = move |_request, _leash| {
            let seen = seen.clone();
            async move {
                // Registers no waker, as an answer that waits for its backend.
                poll_fn(|_cx| {
                    if seen.is_cutting() {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await;
                Response::new(Relayed(Some(Bytes::from_static(b"last word"))))
            }
        };
        let client = Accepted::unbudgeted(server);
        serve(client, &limits(), answer, shutdown).await.ok();
    });
    let (sender, connection) = h2::client::handshake(client).await.unwrap();
    task::spawn("client", async move { drop(connection.await) });
    let mut sender = sender.ready().await.unwrap();
    let asked = [(), ()].map(|()| sender.send_request(Request::new(()), true).unwrap().0);
    sleep(LOOK).await;
    stop.cut();
    for response in asked {
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "last word");
    }
}
