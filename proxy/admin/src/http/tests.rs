use http::{Method, StatusCode};
use http_body_util::BodyExt;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::{Admin, Readiness};

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

#[test]
fn is_alive_at_once_and_ready_when_set() {
    let (admin, readiness, _) = admin();
    let status = |path: &str| admin.answer(&Method::GET, path, "").status();
    assert_eq!(status("/livez"), StatusCode::OK);
    assert_eq!(status("/readyz"), StatusCode::SERVICE_UNAVAILABLE);
    readiness.set(true);
    assert_eq!(status("/readyz"), StatusCode::OK);
    assert_eq!(status("/page"), StatusCode::OK);
    assert_eq!(status("/nothing"), StatusCode::NOT_FOUND);
    assert_eq!(
        admin.answer(&Method::POST, "/livez", "").status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn a_page_reads_its_query_and_may_refuse_it() {
    let (admin, _, _) = admin();
    let answer = |query| admin.answer(&Method::GET, "/page", query);
    let page = answer("");
    assert_eq!(page.headers()["content-type"], "application/json");
    let body = page.into_body().collect().await.expect("it is in memory");
    assert_eq!(body.to_bytes(), "[\"written\"]");
    let wrong = answer("a=b");
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    assert_eq!(wrong.headers()["content-type"], "text/plain; charset=utf-8");
}

#[test]
fn shows_registered_metrics_at_scrape() {
    let (admin, _, counter) = admin();
    counter.inc_by(3);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &admin.registry.lock()).expect("encodes");
    assert!(text.contains("things_total 3"), "{text}");
    assert_eq!(
        admin.answer(&Method::GET, "/metrics", "").status(),
        StatusCode::OK
    );
}
