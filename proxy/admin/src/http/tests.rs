use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Admin, Asked, CONNECTIONS, Readiness, Token};
use crate::shutdown;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn admin() -> (Admin, Readiness, Counter) {
    let (mut registry, readiness, counter) = (
        Registry::default(),
        Readiness::default(),
        Counter::default(),
    );
    registry.register("things", "Things.", counter.clone());
    let admin = Admin::new(registry, readiness.clone()).with_page("/page", |query| match query {
        "" => Ok(["written"]),
        other => Err(format!("no {other}")),
    });
    (admin, readiness, counter)
}

async fn get(admin: &Arc<Admin>, path: &str, query: &str) -> Response<Full<Bytes>> {
    get_from(admin, path, query, HERE, None).await
}

async fn get_from(
    admin: &Arc<Admin>,
    path: &str,
    query: &str,
    peer: IpAddr,
    authorization: Option<&str>,
) -> Response<Full<Bytes>> {
    let authorization = authorization.map(|text| HeaderValue::from_str(text).expect("a header"));
    let asked = Asked {
        path,
        query,
        peer,
        authorization: authorization.as_ref(),
        accept: None,
    };
    admin.answer(&Method::GET, asked).await
}

async fn text(answer: Response<Full<Bytes>>) -> Bytes {
    let body = answer.into_body().collect().await;
    body.expect("it is in memory").to_bytes()
}

#[tokio::test]
async fn is_alive_at_once_and_ready_when_set() {
    let (admin, readiness, _) = admin();
    let admin = Arc::new(admin);
    let status = async |path: &str| get(&admin, path, "").await.status();
    assert_eq!(status("/livez").await, StatusCode::OK);
    assert_eq!(status("/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    readiness.set(true);
    assert_eq!(status("/readyz").await, StatusCode::OK);
    assert_eq!(text(get(&admin, "/readyz", "").await).await, "ok\n");
    readiness.set_detail(|| "from a file".to_owned());
    let detailed = text(get(&admin, "/readyz", "").await).await;
    assert_eq!(detailed, "ok\nfrom a file\n");
    readiness.clear_detail();
    assert_eq!(text(get(&admin, "/readyz", "").await).await, "ok\n");
    assert_eq!(status("/page").await, StatusCode::OK);
    assert_eq!(status("/nothing").await, StatusCode::NOT_FOUND);
    let asked = Asked {
        path: "/livez",
        query: "",
        peer: HERE,
        authorization: None,
        accept: None,
    };
    assert_eq!(
        admin.answer(&Method::POST, asked).await.status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn a_page_reads_its_query_and_may_refuse_it() {
    let admin = Arc::new(admin().0);
    let page = get(&admin, "/page", "").await;
    assert_eq!(page.headers()["content-type"], "application/json");
    let body = page.into_body().collect().await.expect("it is in memory");
    assert_eq!(body.to_bytes(), "[\"written\"]");
    let wrong = get(&admin, "/page", "a=b").await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    assert_eq!(wrong.headers()["content-type"], "text/plain; charset=utf-8");
}

#[tokio::test]
async fn pages_are_for_the_same_machine_and_the_rest_is_for_all() {
    let admin = Arc::new(admin().0);
    let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    for peer in [HERE, IpAddr::V6(Ipv6Addr::LOCALHOST), mapped] {
        let page = get_from(&admin, "/page", "", peer, None).await;
        assert_eq!(page.status(), StatusCode::OK, "{peer}");
    }
    let any = Some("Bearer any");
    let page = get_from(&admin, "/page", "", THERE, any).await;
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
    for path in ["/livez", "/metrics"] {
        let open = get_from(&admin, path, "", THERE, None).await;
        assert_eq!(open.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_token_opens_pages_to_other_machines_as_long_as_its_file_holds_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    assert!(Token::in_file(file.clone()).is_err(), "no file");
    std::fs::write(&file, "\n").expect("written");
    assert!(Token::in_file(file.clone()).is_err(), "no token");
    std::fs::write(&file, "s3cret\n").expect("written");
    let token = Token::in_file(file.clone()).expect("a token");
    let admin = Arc::new(admin().0.with_token(Some(token)));
    let status = async |shown| get_from(&admin, "/page", "", THERE, shown).await.status();
    assert_eq!(status(Some("Bearer s3cret")).await, StatusCode::OK);
    for wrong in [None, Some("Bearer s3cre"), Some("Bearer "), Some("s3cret")] {
        assert_eq!(status(wrong).await, StatusCode::UNAUTHORIZED, "{wrong:?}");
    }
    std::fs::write(&file, "other").expect("written");
    assert_eq!(
        status(Some("Bearer s3cret")).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(status(Some("Bearer other")).await, StatusCode::OK);
    std::fs::write(&file, "").expect("written");
    assert_eq!(status(Some("Bearer ")).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn probes_and_scrapes_are_answered_while_pages_are_computed() {
    let (begin, begun) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let ended = parking_lot::Mutex::new(ended);
    let slow = move |_query: &str| {
        begin.send(()).expect("the test waits");
        ended.lock().recv().expect("the test says when");
        Ok::<_, String>("done")
    };
    let admin = Arc::new(admin().0.with_page("/slow", slow));
    let mut pages = JoinSet::new();
    for _ in 0..2 {
        let admin = Arc::clone(&admin);
        pages.spawn(async move { get(&admin, "/slow", "").await.status() });
    }
    let (begun, first) = tokio::task::spawn_blocking(move || {
        let first = begun.recv_timeout(Duration::from_secs(20));
        (begun, first)
    })
    .await
    .expect("no panic");
    first.expect("the first page is computed");
    for path in ["/livez", "/metrics"] {
        assert_eq!(get(&admin, path, "").await.status(), StatusCode::OK);
    }
    assert!(
        begun.try_recv().is_err(),
        "the second page waits for its turn"
    );
    for _ in 0..2 {
        end.send(()).expect("a page waits");
    }
    assert_eq!(pages.join_all().await, [StatusCode::OK; 2]);
}

#[tokio::test]
async fn connections_that_ask_nothing_do_not_keep_a_probe_out() {
    let bound = admin().0.bind(([127, 0, 0, 1], 0).into()).await;
    let bound = bound.expect("a free port");
    let address = bound.address();
    let (_trigger, shutdown) = shutdown::channel();
    crate::task::spawn("admin port", bound.serve(shutdown));
    let mut held = Vec::new();
    for _ in 0..=CONNECTIONS {
        held.push(TcpStream::connect(address).await.expect("connects"));
    }
    let mut last = held.pop().expect("one");
    last.writable().await.expect("open");
    let request = b"GET /livez HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    last.try_write(request).expect("open");
    let mut answer = String::new();
    last.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut oldest = held.swap_remove(0);
    assert_eq!(oldest.read(&mut [0]).await.expect("closed"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_given_up() {
    // More than the buffers of both sockets hold.
    let large = admin()
        .0
        .with_page("/large", |_query| Ok::<_, String>("x".repeat(64 << 20)));
    let bound = large.bind(([127, 0, 0, 1], 0).into()).await;
    let bound = bound.expect("a free port");
    let address = bound.address();
    let (_trigger, shutdown) = shutdown::channel();
    crate::task::spawn("admin port", bound.serve(shutdown));
    let mut reader = TcpStream::connect(address).await.expect("connects");
    reader.writable().await.expect("open");
    let request = b"GET /large HTTP/1.1\r\nhost: h\r\n\r\n";
    reader.try_write(request).expect("open");
    reader.readable().await.expect("an answer begins");
    tokio::time::sleep(Duration::from_secs(60)).await;
    // A rest of the answer, or a reset; never all of it.
    let mut taken = Vec::new();
    reader.read_to_end(&mut taken).await.ok();
    assert!(taken.len() < 64 << 20, "{}", taken.len());
}

#[tokio::test]
async fn shows_registered_metrics_at_scrape() {
    let (admin, _, counter) = admin();
    counter.inc_by(3);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &admin.registry.lock()).expect("encodes");
    assert!(text.contains("things_total 3"), "{text}");
    let page = get(&Arc::new(admin), "/metrics", "").await;
    assert_eq!(page.status(), StatusCode::OK);
}
