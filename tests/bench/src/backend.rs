//! The backend of the measurements: canned answers from memory, over plain HTTP or TLS.
//!
//! It checks nothing, so that the two cores of a small machine belong to what is measured; whether
//! requests and answers are right is the business of the tests on `foundry-sim`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Wake, Poll, Waker, ready};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use memchr::memmem;
use parking_lot::Mutex;
use proxy_admin::task;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{Interval, interval};
use tokio_rustls::TlsAcceptor;

use crate::certificate::Certificate;

/// Text of a request that asks for a stream; then come the number of its events, how many come per second
/// (0: as fast as they are taken), and its manner. It is in the body because a gateway hands on no header
/// that it does not know.
pub(crate) const STREAM: &str = "bench-stream ";

/// A manner: the stream stays open after its events.
pub(crate) const HANGS: &str = "hangs";
/// A manner: each event waits for a request with [`STEP`].
pub(crate) const STEPS: &str = "steps";

/// Text of a request that lets one event of a stepped stream go.
pub(crate) const STEP: &str = "bench-step";

/// One in each event of a stream with text, and nowhere else in an answer.
pub(crate) const MARK: u8 = b'~';

const ANSWER: &str = r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1764000000,"model":"gpt-4o-2024-11-20","system_fingerprint":"fp_bench","choices":[{"index":0,"message":{"role":"assistant","content":"The answer that the benchmark always gets.","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":120,"completion_tokens":8,"total_tokens":128}}"#;

macro_rules! event {
    ($end:literal) => {
        concat!(
            r#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1764000000,"#,
            r#""model":"gpt-4o-2024-11-20","system_fingerprint":"fp_bench","choices":[{"index":0,"#,
            r#""delta":{"content":" word~"},"logprobs":null,"finish_reason":null}]"#,
            $end,
            "\n\n"
        )
    };
}

/// An event, and one of a stream that was asked for usage.
const EVENT: &str = event!("}");
const EVENT_USAGE: &str = event!(r#","usage":null}"#);

const USAGE: &str = concat!(
    r#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1764000000,"#,
    r#""model":"gpt-4o-2024-11-20","system_fingerprint":"fp_bench","choices":[],"#,
    r#""usage":{"prompt_tokens":120,"completion_tokens":8,"total_tokens":128}}"#,
    "\n\n"
);
const DONE: &str = "data: [DONE]\n\n";

/// The start of a body that is searched for these wishes.
const SEARCHED: usize = 4 * 1024;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    listen: SocketAddr,
    /// Certificate chain; makes it speak TLS
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The one protocol that it offers over TLS
    #[arg(long, default_value = "http/1.1")]
    alpn: String,
}

/// Serves on one current-thread runtime until it is killed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let acceptor = match (&args.tls_cert, &args.tls_key) {
        (Some(file), Some(key)) => {
            let (file, key) = (file.clone(), key.clone());
            Some(Certificate { file, key }.acceptor(&args.alpn)?)
        }
        _ => None,
    };
    runtime.block_on(serve(args.listen, acceptor, args.alpn == "h2"))
}

async fn serve(address: SocketAddr, acceptor: Option<TlsAcceptor>, h2: bool) -> Result<()> {
    let listener = TcpListener::bind(address).await.context("listen")?;
    let acceptor = acceptor.map(Arc::new);
    let gate = Arc::new(Gate::default());
    loop {
        let (stream, _peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, gate) = (acceptor.clone(), Arc::clone(&gate));
        task::spawn("connection", async move {
            match acceptor {
                None => connection(stream, false, gate).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        connection(stream, h2, gate).await;
                    }
                }
            }
        });
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    h2: bool,
    gate: Arc<Gate>,
) {
    let stream = TokioIo::new(stream);
    let service = service_fn(move |request| answer(request, Arc::clone(&gate)));
    if h2 {
        let server = http2::Builder::new(TokioExecutor::new());
        server.serve_connection(stream, service).await.ok();
    } else {
        let server = http1::Builder::new();
        server.serve_connection(stream, service).await.ok();
    }
}

type Answer = Either<Full<Bytes>, Events>;

async fn answer(
    request: Request<Incoming>,
    gate: Arc<Gate>,
) -> Result<Response<Answer>, hyper::Error> {
    let mut body = request.into_body();
    let mut start = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data()
            && start.len() < SEARCHED
        {
            start.extend_from_slice(data.get(..SEARCHED.min(data.len())).unwrap_or_default());
        }
    }
    if memmem::find(&start, STEP.as_bytes()).is_some() {
        gate.open();
    }
    let answer = Events::asked(&start, gate);
    let stream = answer.is_some();
    let mut response = Response::new(match answer {
        Some(events) => Either::Right(events),
        None => Either::Left(Full::new(Bytes::from_static(ANSWER.as_bytes()))),
    });
    let headers = response.headers_mut();
    if stream {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        // nginx would collect events otherwise; others do not know it.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(response)
}

/// Lets events of stepped streams go one by one. One stream at a time.
#[derive(Debug, Default)]
struct Gate(Mutex<(u64, Option<Waker>)>);

impl Gate {
    fn open(&self) {
        let (free, waiting) = &mut *self.0.lock();
        *free += 1;
        if let Some(waiting) = waiting.take() {
            waiting.wake();
        }
    }

    fn poll(&self, wake: &Wake<'_>) -> Poll<()> {
        let (free, waiting) = &mut *self.0.lock();
        if *free == 0 {
            *waiting = Some(wake.waker().clone());
            return Poll::Pending;
        }
        *free -= 1;
        Poll::Ready(())
    }
}

/// The body of a stream: each event is a frame, so a chunk of its own.
#[derive(Debug)]
struct Events {
    left: u64,
    pace: Option<Interval>,
    gate: Option<Arc<Gate>>,
    /// The event before has been handed out and must be written before the next.
    pause: bool,
    event: &'static str,
    ending: Ending,
}

/// What follows the events.
#[derive(Debug)]
enum Ending {
    Hang,
    Last(Bytes),
    Over,
}

impl Events {
    fn asked(body: &[u8], gate: Arc<Gate>) -> Option<Self> {
        let from = memmem::find(body, STREAM.as_bytes())? + STREAM.len();
        let words = std::str::from_utf8(body.get(from..)?).ok()?;
        let mut words = words.split_ascii_whitespace();
        let left = words.next()?.parse().ok()?;
        let rate: u64 = words.next()?.parse().ok()?;
        let pace = (rate > 0).then(|| interval(Duration::from_nanos(1_000_000_000 / rate)));
        let usage = memmem::find(body, b"include_usage").is_some();
        let manner = words.next()?;
        let ending = match (manner == HANGS, usage) {
            (true, _) => Ending::Hang,
            (false, true) => Ending::Last(Bytes::from(format!("{USAGE}{DONE}"))),
            (false, false) => Ending::Last(Bytes::from_static(DONE.as_bytes())),
        };
        Some(Self {
            left,
            pace,
            pause: false,
            gate: (manner == STEPS).then_some(gate),
            event: if usage { EVENT_USAGE } else { EVENT },
            ending,
        })
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        wake: &mut Wake<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return match std::mem::replace(&mut self.ending, Ending::Over) {
                Ending::Hang => {
                    self.ending = Ending::Hang;
                    Poll::Pending
                }
                Ending::Last(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Ending::Over => Poll::Ready(None),
            };
        }
        // hyper writes when its body is pending: each event is a write of its own, as models send them.
        if std::mem::take(&mut self.pause) {
            wake.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll_tick(wake));
        }
        if let Some(gate) = &self.gate {
            ready!(gate.poll(wake));
        }
        self.left -= 1;
        self.pause = self.pace.is_none() && self.gate.is_none();
        let event = Bytes::from_static(self.event.as_bytes());
        Poll::Ready(Some(Ok(Frame::data(event))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &[u8]) -> Option<Events> {
        Events::asked(body, Arc::default())
    }

    async fn text(events: Events) -> String {
        let bytes = events.collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_stream_has_as_many_marks_as_events_and_usage_only_if_asked() {
        assert!(asked(b"{}").is_none());
        let plain = text(asked(br#"["bench-stream 3 0 ends x"]"#).unwrap()).await;
        assert_eq!(plain.matches('~').count(), 3);
        assert!(!plain.contains("prompt_tokens") && plain.ends_with(DONE));
        let body = br#"{"a":"bench-stream 2 1000 ends x","stream_options":{"include_usage":true}}"#;
        let usage = text(asked(body).unwrap()).await;
        assert_eq!(usage.matches('~').count(), 2);
        assert_eq!(usage.matches("prompt_tokens").count(), 1);
        assert!(!ANSWER.contains('~') && !USAGE.contains('~'));
    }

    #[tokio::test]
    async fn a_stepped_stream_waits_for_each_step() {
        let gate = Arc::new(Gate::default());
        let body = br#"["bench-stream 2 0 steps x"]"#;
        let mut events = Events::asked(body, Arc::clone(&gate)).unwrap();
        for _ in 0..2 {
            let mut frame = std::pin::pin!(events.frame());
            assert!(polled(frame.as_mut()).is_pending());
            gate.open();
            assert!(polled(frame).is_ready());
        }
        assert_eq!(text(events).await, DONE);
    }

    fn polled<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Wake::from_waker(Waker::noop()))
    }
}
