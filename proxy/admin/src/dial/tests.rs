use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proxy_core::reach::{Allowance, OutOfReach, Reach, Zone};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::{DialError, Dialer, UNACKNOWLEDGED_MS, alternate, is_local, open, sockopt};
use crate::host::{Host, Looking};

fn dialer(reach: Reach) -> Dialer {
    Dialer::new(Arc::new(reach))
}

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|one| one.parse().expect(one)).collect()
}

/// A name with these addresses.
fn named(list: &[&str]) -> Host {
    let list = addresses(list);
    let lookup = move |_name: &str| -> Looking { Box::pin(std::future::ready(Ok(list.clone()))) };
    Host::with_lookup("a.example", Arc::new(lookup))
}

async fn zone(reach: Reach, host: &str, port: u16) -> Option<Zone> {
    match dialer(reach).connect(&Host::new(host), port).await {
        Err(DialError::OutOfReach(OutOfReach { zone, .. })) => Some(zone),
        Ok(_) | Err(DialError::Connect(_) | DialError::Local(_)) => None,
    }
}

#[tokio::test]
async fn an_address_in_the_url_is_judged() {
    for (host, expect) in [
        ("127.0.0.1", Zone::Loopback),
        ("[::ffff:127.0.0.1]", Zone::Loopback),
        ("169.254.169.254", Zone::Metadata),
        ("localhost", Zone::Loopback),
        ("0.0.0.0", Zone::Unspecified),
    ] {
        assert_eq!(
            zone(Reach::default(), host, 1).await,
            Some(expect),
            "{host}"
        );
    }
}

#[tokio::test]
async fn a_name_is_judged_by_the_addresses_that_it_has() {
    // An address in a form that only the resolver reads, as a name of a tenant could have it.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    for name in ["127.1", "0x7f000001", "2130706433"] {
        let cluster = Reach::default().with([Allowance::Cluster]);
        assert_eq!(
            zone(cluster, name, port).await,
            Some(Zone::Loopback),
            "{name}"
        );
        let both = [Allowance::Cluster, Allowance::Loopback];
        let dialer = dialer(Reach::default().with(both));
        let connected = dialer.connect(&Host::new(name), port).await;
        assert!(connected.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn what_is_remembered_is_judged_at_each_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let host = named(&["127.0.0.1"]);
    let everywhere = dialer(Reach::everywhere()).connect(&host, port).await;
    assert!(everywhere.is_ok());
    let nowhere = dialer(Reach::default()).connect(&host, port).await;
    assert!(matches!(nowhere, Err(DialError::OutOfReach(_))));
}

#[test]
fn open_addresses_of_a_name_stay() {
    let reach = Reach::default();
    let mixed = open(&reach, "a.example", &addresses(&["127.0.0.1", "10.0.0.4"]));
    assert_eq!(mixed.expect("one is open"), addresses(&["10.0.0.4"]));
    let closed = open(&reach, "a.example", &addresses(&["::1", "169.254.169.254"]));
    assert_eq!(closed.expect_err("none is open").zone, Zone::Loopback);
}

#[tokio::test]
async fn a_server_that_is_away_is_not_out_of_reach() {
    let reach = Reach::default().with([Allowance::Loopback]);
    let failed = dialer(reach).connect(&Host::new("127.0.0.1"), 1).await;
    let failed = failed.expect_err("port 1 is closed");
    assert!(matches!(failed, DialError::Connect(_)), "{failed}");
}

#[tokio::test]
async fn an_address_that_refuses_or_is_silent_costs_little() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    // TEST-NET-1 has no servers (RFC 5737), and nothing listens at the second one.
    for list in [&["192.0.2.1", "127.0.0.1"], &["127.0.0.2", "127.0.0.1"]] {
        let host = named(list);
        let dialer = dialer(Reach::everywhere());
        // Each address is the first once.
        for _ in 0..2 {
            let began = Instant::now();
            let connected = dialer.connect(&host, port).await.expect("one listens");
            let peer = connected.peer_addr().expect("it is open").ip();
            assert_eq!(peer, Ipv4Addr::LOCALHOST);
            assert!(began.elapsed() < Duration::from_secs(1), "{list:?}");
        }
    }
}

#[test]
fn both_families_are_tried_in_turn() {
    let list = addresses(&["::1", "::2", "10.0.0.1", "::3"]);
    let order: Vec<_> = alternate(&list, 0).collect();
    assert_eq!(order, addresses(&["::1", "10.0.0.1", "::2", "::3"]));
    let order: Vec<_> = alternate(&list, 1).collect();
    assert_eq!(order, addresses(&["::2", "10.0.0.1", "::3", "::1"]));
    assert_eq!(alternate(&[], 7).count(), 0);
}

proptest! {
    #[test]
    fn each_address_is_tried_once(list: Vec<IpAddr>, turn: usize) {
        let mut order: Vec<_> = alternate(&list, turn).collect();
        let mut expect = list.clone();
        let first = order.first().map(IpAddr::is_ipv6);
        prop_assert_eq!(first, list.first().map(IpAddr::is_ipv6));
        order.sort();
        expect.sort();
        prop_assert_eq!(order, expect);
    }
}

#[test]
fn what_this_process_lacks_is_not_the_servers_fault() {
    let [v4, v6] = ["10.0.0.1", "::1"].map(|one| one.parse().expect(one));
    for (number, on_v4, on_v6) in [
        (rustix::io::Errno::MFILE, true, true),
        (rustix::io::Errno::NFILE, true, true),
        (rustix::io::Errno::NOMEM, true, true),
        (rustix::io::Errno::NOBUFS, true, true),
        (rustix::io::Errno::ADDRNOTAVAIL, true, false),
        (rustix::io::Errno::CONNREFUSED, false, false),
        (rustix::io::Errno::NETUNREACH, false, false),
    ] {
        let number = number.raw_os_error();
        let found = (is_local(Some(number), v4), is_local(Some(number), v6));
        assert_eq!(found, (on_v4, on_v6), "{number}");
    }
    assert!(!is_local(None, v4));
}

#[tokio::test]
async fn a_peer_that_acknowledges_nothing_or_is_gone_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let open = dialer(Reach::default().with([Allowance::Loopback]));
    let stream = open.connect(&Host::new("127.0.0.1"), port).await;
    let stream = stream.expect("a connection");
    // The kernel does the rest, with what the socket says.
    let unacknowledged = sockopt::tcp_user_timeout(&stream).expect("an option");
    assert_eq!(unacknowledged, UNACKNOWLEDGED_MS);
    let idle = sockopt::tcp_keepidle(&stream).expect("an option");
    let probes = sockopt::tcp_keepcnt(&stream).expect("an option");
    let between = sockopt::tcp_keepintvl(&stream).expect("an option");
    assert!(sockopt::socket_keepalive(&stream).expect("an option"));
    let found = idle + between * probes;
    assert!(found <= Duration::from_secs(30), "{found:?}");
}
