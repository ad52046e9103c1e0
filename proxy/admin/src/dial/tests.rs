use std::sync::Arc;

use proxy_core::reach::{Allowance, OutOfReach, Reach, Zone};
use tokio::net::TcpListener;

use super::{DialError, Dialer, open};

fn dialer(reach: Reach) -> Dialer {
    Dialer::new(Arc::new(reach), None, None)
}

async fn zone(reach: Reach, uri: &str) -> Option<Zone> {
    match dialer(reach).connect(&uri.parse().expect(uri)).await {
        Err(DialError::OutOfReach(OutOfReach { zone, .. })) => Some(zone),
        Ok(_) | Err(DialError::Connect(_)) => None,
    }
}

#[tokio::test]
async fn an_address_in_the_url_is_judged() {
    for (uri, expect) in [
        ("http://127.0.0.1:1/", Zone::Loopback),
        ("http://[::ffff:127.0.0.1]:1/", Zone::Loopback),
        ("https://169.254.169.254/", Zone::Metadata),
        ("http://localhost:1/", Zone::Loopback),
        ("http://0.0.0.0:1/", Zone::Unspecified),
    ] {
        assert_eq!(zone(Reach::default(), uri).await, Some(expect), "{uri}");
    }
}

#[tokio::test]
async fn a_name_is_judged_by_the_addresses_that_it_has() {
    // An address in a form that only the resolver reads, as a name of a tenant could have it.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    for name in ["127.1", "0x7f000001", "2130706433"] {
        let uri = format!("http://{name}:{port}/");
        let judged = zone(Reach::default().with([Allowance::Cluster]), &uri).await;
        assert_eq!(judged, Some(Zone::Loopback), "{name}");
        let both = [Allowance::Cluster, Allowance::Loopback];
        let dialer = dialer(Reach::default().with(both));
        let connected = dialer.connect(&uri.parse().expect("a URI")).await;
        assert!(connected.is_ok(), "{name}");
    }
}

#[test]
fn open_addresses_of_a_name_stay() {
    let addresses = |list: &[&str]| {
        let list: Vec<_> = list.iter().map(|one| one.parse().expect(one)).collect();
        list.into_iter()
    };
    let reach = Reach::default();
    let mixed = open(
        &reach,
        "a.example",
        addresses(&["127.0.0.1:0", "10.0.0.4:0"]),
    );
    assert!(mixed.expect("one is open").eq(addresses(&["10.0.0.4:0"])));
    let closed = open(
        &reach,
        "a.example",
        addresses(&["[::1]:0", "169.254.169.254:0"]),
    );
    assert_eq!(closed.expect_err("none is open").zone, Zone::Loopback);
}

#[tokio::test]
async fn a_server_that_is_away_is_not_out_of_reach() {
    let reach = Reach::default().with([Allowance::Loopback]);
    let uri = "http://127.0.0.1:1/".parse().expect("a URI");
    let failed = dialer(reach)
        .connect(&uri)
        .await
        .expect_err("port 1 is closed");
    assert!(matches!(failed, DialError::Connect(_)), "{failed}");
}
