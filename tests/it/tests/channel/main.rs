//! The control channel between a real operator and a real proxy, on loopback.

mod counting;
mod liar;
mod parts;
mod refusals;
mod skew;
mod stored;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use operator_publish::epoch;
use operator_publish::tls::{Authorities, Authority, Certificates};
use parts::{Operator, PATIENCE, Proxy, contents, last_good, route};
use proxy_admin::clock;
use proxy_core::names::{EntryKind, EntryName, ObjectName};
use proxy_wire::v1::{self, Line, Snapshot};
use tests_support::{eventually, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The first line of `GET /v1/table` as curl would see it.
async fn first_line(operator: &Operator, query: &str, token: &str) -> Result<Line> {
    let mut stream = subscribe(operator, query, token).await?;
    let mut text = Vec::new();
    while !text.contains(&b'\n') {
        let chunk = stream.next().await?.context("the stream ended")?;
        text.extend_from_slice(&chunk.bytes);
    }
    let line = text.split(|byte| *byte == b'\n').next().context("a line")?;
    Ok(Line::parse(line)?)
}

async fn subscribe(operator: &Operator, query: &str, token: &str) -> Result<http::Streaming> {
    http::stream(
        ::http::Method::GET,
        &format!("{}/v1/table{query}", operator.url()),
        &[("authorization", &format!("Bearer {token}"))],
        "",
    )
    .await
}

async fn post_ack(operator: &Operator, token: &str, body: String) -> Result<http::Answer> {
    let bearer = format!("Bearer {token}");
    let url = format!("{}/v1/ack", operator.url());
    http::post_json(&url, &[("authorization", &bearer)], body).await
}

fn ack(replica: &str, digest: &str, result: &str) -> String {
    format!(
        r#"{{"replica":"{replica}","revision":1,"digest":"{digest}","result":"{result}","error":"e"}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_and_its_changes_reach_the_proxy_and_are_acknowledged() -> Result<()> {
    let operator = Operator::start().await?;
    let first = operator
        .publisher
        .publish(10, &contents(vec![route("x", 1)]));
    let proxy = Proxy::start("p1", &[operator.url()])?;
    assert_eq!(proxy.table(10).await?, contents(vec![route("x", 1)]));
    operator.acked("p1", first.sequence).await?;

    let changed = contents(vec![route("x", 1), route("y", 2)]);
    let second = operator.publisher.publish(11, &changed);
    assert_eq!(second.sequence, first.sequence + 1);
    assert_eq!(proxy.table(11).await?, changed);
    operator.acked("p1", second.sequence).await?;
    let changed_at = |route: &str| {
        let entry = EntryName::new(EntryKind::Route, ObjectName::new("a", route));
        second.changed_at.get(&entry)
    };
    assert_eq!(changed_at("x"), Some(first.sequence));
    assert_eq!(changed_at("y"), Some(second.sequence));

    let third = operator
        .publisher
        .publish(12, &contents(vec![route("y", 2)]));
    assert_eq!(proxy.table(12).await?, contents(vec![route("y", 2)]));
    operator.acked("p1", third.sequence).await?;
    let same = operator
        .publisher
        .publish(13, &contents(vec![route("y", 2)]));
    assert_eq!(same, third);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_are_undone_at_once_are_acknowledged_too() -> Result<()> {
    let operator = Operator::start().await?;
    let (x, y) = (contents(vec![route("x", 1)]), contents(vec![route("y", 1)]));
    operator.publisher.publish(1, &x);
    let proxy = Proxy::start("p1", &[operator.url()])?;
    for revision in 1..=20 {
        operator.publisher.publish(revision * 2, &y);
        let back = operator.publisher.publish(revision * 2 + 1, &x);
        operator.acked("p1", back.sequence).await?;
        assert_eq!(proxy.table(1).await?, x);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_line_depends_on_the_table_of_the_follower() -> Result<()> {
    let operator = Operator::start().await?;
    let early = subscribe(&operator, "", "anyone").await?.whole().await?;
    assert_eq!(early.status, 503);
    let first = operator
        .publisher
        .publish(1, &contents(vec![route("x", 1)]));
    let second = operator
        .publisher
        .publish(2, &contents(vec![route("x", 2)]));

    for unknown in ["", "?have=00"] {
        let Line::Snapshot(snapshot) = first_line(&operator, unknown, "anyone").await? else {
            anyhow::bail!("not a snapshot");
        };
        assert_eq!(snapshot.revision, 2);
        assert_eq!(
            v1::decode(&snapshot.verified()?)?,
            contents(vec![route("x", 2)])
        );
    }
    let behind = format!("?digest=shards&have={}", first.digest);
    let Line::Delta(delta) = first_line(&operator, &behind, "anyone").await? else {
        anyhow::bail!("not a delta");
    };
    assert_eq!(
        (&*delta.base, &*delta.digest),
        (&*first.digest, &*second.digest)
    );
    assert_eq!(delta.changed.len(), 1);
    let current = format!("?digest=shards&have={}", second.digest);
    let Line::Heartbeat(heartbeat) = first_line(&operator, &current, "anyone").await? else {
        anyhow::bail!("not a heartbeat");
    };
    assert_eq!(heartbeat.digest, *second.digest);

    // One of the first proxies knows the same tables by other names.
    let Line::Snapshot(old) = first_line(&operator, "", "anyone").await? else {
        anyhow::bail!("not a snapshot");
    };
    assert_eq!(old.digest, v1::digest_in_a_row(&old.objects));
    let base = v1::encode(&contents(vec![route("x", 1)]));
    let behind = format!("?have={}", v1::digest_in_a_row(&base));
    let Line::Delta(delta) = first_line(&operator, &behind, "anyone").await? else {
        anyhow::bail!("not a delta");
    };
    let next = v1::apply(&base, &v1::digest_in_a_row(&base), &delta)?;
    assert_eq!((next, delta.digest), (old.objects, old.digest));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_good_token_are_refused() -> Result<()> {
    let operator = Operator::start().await?;
    let published = operator.publisher.publish(1, &contents(Vec::new()));
    for (token, query, status, code) in [
        ("unknown", "", 401, "Unauthenticated"),
        ("", "", 401, "Unauthenticated"),
        ("wrong-audience", "", 403, "Forbidden"),
        ("good-p1", "?replica=p2", 403, "Forbidden"),
    ] {
        let answer = subscribe(&operator, query, token).await?.whole().await?;
        assert_eq!(answer.status, status, "{token}");
        let body: serde_json::Value = answer.json()?;
        assert_eq!(body["error"]["code"], code, "{token}");
        assert!(!answer.text().contains("s3cr3t"));
    }
    let forged = post_ack(
        &operator,
        "good-p1",
        ack("p2", &published.digest, "applied"),
    )
    .await?;
    assert_eq!(forged.status, 403);
    let alone = post_ack(
        &operator,
        "good-p1",
        ack("p1", &published.digest, "applied"),
    )
    .await?;
    assert_eq!(alone.status, 409);
    let vast = post_ack(&operator, "good-p1", "x".repeat(100_000)).await?;
    assert_eq!(vast.status, 400);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_recorded_until_a_newer_table_is_applied() -> Result<()> {
    let operator = Operator::start().await?;
    let first = operator.publisher.publish(1, &contents(Vec::new()));
    let _open = subscribe(&operator, "", "good-p1").await?;
    let fleet = operator.publisher.fleet();
    let refused = post_ack(&operator, "good-p1", ack("p1", &first.digest, "refused")).await?;
    assert_eq!(refused.status, 204);
    let replica = fleet.borrow().replicas[0].clone();
    assert_eq!(replica.refused, Some((1, "e".to_owned())));
    assert_eq!(replica.acked, None);
    let applied = post_ack(&operator, "good-p1", ack("p1", &first.digest, "applied")).await?;
    assert_eq!(applied.status, 204);
    let replica = fleet.borrow().replicas[0].clone();
    assert_eq!((replica.acked, replica.refused), (Some(1), None));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_with_a_wrong_token_gets_nothing_until_the_token_is_replaced() -> Result<()> {
    let operator = Operator::start().await?;
    operator.publisher.publish(1, &contents(Vec::new()));
    let folder = Arc::new(tempfile::tempdir()?);
    let proxy = Proxy::start_with("p1", &[operator.url()], "bad", folder, |_| {})?;
    eventually("an attempt to be refused", PATIENCE, async || {
        let answer = subscribe(&operator, "", "bad").await.ok()?;
        (answer.status == 401).then_some(())
    })
    .await?;
    assert_eq!(proxy.revision(), None);
    std::fs::write(proxy.folder.path().join("token"), "good-p1\n")?;
    proxy.table(1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_is_counted_and_a_departed_one_is_removed() -> Result<()> {
    let operator = Operator::start().await?;
    operator.publisher.publish(1, &contents(Vec::new()));
    let one = Proxy::start("p1", &[operator.url()])?;
    let two = Proxy::start("p2", &[operator.url()])?;
    for proxy in [&one, &two] {
        eventually("two replicas", PATIENCE, async || {
            (proxy.given.lock().replicas == Some(2)).then_some(())
        })
        .await?;
    }
    two.stop().await?;
    eventually("one replica", PATIENCE, async || {
        (one.given.lock().replicas == Some(1)).then_some(())
    })
    .await?;
    let fleet = operator.publisher.fleet();
    assert_eq!(fleet.borrow().replicas.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_operator_is_followed_again() -> Result<()> {
    let operator = Operator::start().await?;
    operator
        .publisher
        .publish(1, &contents(vec![route("x", 1)]));
    let proxy = Proxy::start("p1", &[operator.url()])?;
    proxy.table(1).await?;
    let address = operator.kill().await?;
    assert_eq!(proxy.revision(), Some(1));

    let back = Operator::start_at(address, None).await?;
    let again = back.publisher.publish(1, &contents(vec![route("x", 1)]));
    back.acked("p1", again.sequence).await?;
    let next = back.publisher.publish(2, &contents(vec![route("x", 2)]));
    assert_eq!(proxy.table(2).await?, contents(vec![route("x", 2)]));
    back.acked("p1", next.sequence).await?;
    let tables = proxy.given.lock().tables.len();
    assert_eq!(tables, 2, "the same table is not applied twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_version_is_followed_in_a_new_epoch_and_not_before() -> Result<()> {
    let operator = Operator::start().await?;
    let (old, new) = (contents(vec![route("x", 1)]), contents(vec![route("x", 2)]));
    operator.publisher.publish(900, &old);
    let proxy = Proxy::start("p1", &[operator.url()])?;
    proxy.table(900).await?;
    let address = operator.kill().await?;

    // Restored from a backup: versions begin again.
    let back = Operator::start_at(address, None).await?;
    let mut ahead = back.publisher.proxies_revision();
    back.publisher.publish(500, &new);
    ahead.wait_for(|revision| *revision == 900).await?;
    let revision = epoch::revision(1, 500);
    assert_eq!(epoch::parts(revision), (1, 500));
    // The same contents, so there is no other publication.
    let again = back.publisher.publish(revision, &new);
    assert_eq!(proxy.table(revision).await?, new);
    back.acked("p1", again.sequence).await?;
    let revisions: Vec<u64> = proxy.given.lock().tables.iter().map(|(_, r)| *r).collect();
    assert_eq!(revisions, [900, revision], "500 is ignored");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_the_newer_wins_and_each_gets_acknowledgements() -> Result<()> {
    let (old, new) = (Operator::start().await?, Operator::start().await?);
    let stale = old.publisher.publish(5, &contents(vec![route("old", 1)]));
    let fresh = new.publisher.publish(9, &contents(vec![route("new", 1)]));
    let proxy = Proxy::start("p1", &[old.url(), new.url()])?;
    assert_eq!(proxy.table(9).await?, contents(vec![route("new", 1)]));
    new.acked("p1", fresh.sequence).await?;

    // Still behind: its tables are ignored.
    let behind = old.publisher.publish(7, &contents(vec![route("old", 2)]));
    let caught_up = old.publisher.publish(9, &contents(vec![route("new", 1)]));
    old.acked("p1", caught_up.sequence).await?;
    assert!(stale.sequence < behind.sequence);
    let revisions: Vec<u64> = proxy.given.lock().tables.iter().map(|(_, r)| *r).collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
    assert_eq!(revisions.last(), Some(&9));

    // The other one continues alone.
    new.kill().await?;
    let alone = old
        .publisher
        .publish(12, &contents(vec![route("alone", 1)]));
    assert_eq!(proxy.table(12).await?, contents(vec![route("alone", 1)]));
    old.acked("p1", alone.sequence).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_proxy_serves_its_last_good_table_without_an_operator() -> Result<()> {
    let operator = Operator::start().await?;
    let mut with_other = contents(vec![route("x", 1)]);
    let open = Arc::new(proxy_core::test_util::backend("a/open"));
    with_other.backends.push(Arc::clone(&open));
    operator.publisher.publish(7, &with_other);
    let proxy = Proxy::start("p1", &[operator.url()])?;
    proxy.table(7).await?;
    let folder = proxy.stop().await?;
    let address = operator.kill().await?;

    let file = last_good(folder.path());
    let text = std::fs::read_to_string(&file)?;
    assert!(!text.contains("s3cr3t"));
    assert_eq!(
        std::fs::metadata(&file)?.permissions().mode() & 0o777,
        0o600
    );

    let url = [format!("http://{address}")];
    let restarted = Proxy::start_with("p1", &url, "good-p1", folder, |_| {})?;
    let table = restarted.table(7).await?;
    assert_eq!(table.backends[..], [open]);
    assert_eq!(table.routes, with_other.routes);

    // An older table is refused; the same one with its credentials is applied.
    let back = Operator::start_at(address, None).await?;
    back.publisher.publish(6, &contents(vec![route("x", 0)]));
    let same = back.publisher.publish(7, &with_other);
    back.acked("p1", same.sequence).await?;
    assert_eq!(restarted.table(7).await?, with_other);
    let revisions: Vec<u64> = restarted
        .given
        .lock()
        .tables
        .iter()
        .map(|(_, r)| *r)
        .collect();
    assert_eq!(revisions, [7, 7]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_good_table_in_memory_keeps_its_credentials() -> Result<()> {
    let operator = Operator::start().await?;
    operator
        .publisher
        .publish(7, &contents(vec![route("x", 1)]));
    let folder = Arc::new(tempfile::tempdir()?);
    let keep = |config: &mut proxy_sync::Config| config.keep_credentials = true;
    let url = [operator.url()];
    let proxy = Proxy::start_with("p1", &url, "good-p1", Arc::clone(&folder), keep)?;
    proxy.table(7).await?;
    proxy.stop().await?;
    operator.kill().await?;
    let restarted = Proxy::start_with("p1", &url, "good-p1", folder, keep)?;
    assert_eq!(restarted.table(7).await?, contents(vec![route("x", 1)]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_ignored_and_replaced() -> Result<()> {
    let operator = Operator::start().await?;
    operator.publisher.publish(3, &contents(Vec::new()));
    let folder = Arc::new(tempfile::tempdir()?);
    std::fs::write(
        last_good(folder.path()),
        "{\"type\":\"snapshot\",\"version\":1",
    )?;
    let proxy = Proxy::start_with("p1", &[operator.url()], "good-p1", folder, |_| {})?;
    proxy.table(3).await?;
    let folder = proxy.stop().await?;
    let text = std::fs::read(last_good(folder.path()))?;
    assert!(matches!(Line::parse(&text)?, Line::Snapshot(s) if s.revision == 3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_only_the_given_ca_is_trusted() -> Result<()> {
    let now_ms = clock::now().unix_ms;
    let authorities = Authorities::generate(now_ms)?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificates = Certificates::new(authorities.signing()?, names, now_ms)?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let operator = Operator::start_at(any, Some(certificates.server_config()?)).await?;
    operator
        .publisher
        .publish(1, &contents(vec![route("x", 1)]));
    let url = [format!("https://127.0.0.1:{}", operator.address.port())];

    let shared = tempfile::tempdir()?;
    let ca = shared.path().join("ca.pem");
    std::fs::write(&ca, Authorities::generate(now_ms)?.store().bundle())?;
    let start = |id: &str| {
        let own = Arc::new(tempfile::tempdir()?);
        Proxy::start_with(id, &url, &format!("good-{id}"), own, |config| {
            config.ca_file = Some(ca.clone());
        })
    };
    // With the wrong CA no replica connects, until the right one is in the file.
    let proxy = start("p1")?;
    let fleet = operator.publisher.fleet();
    assert!(fleet.borrow().replicas.is_empty());
    assert_eq!(proxy.revision(), None);
    std::fs::write(&ca, authorities.store().bundle())?;
    proxy.table(1).await?;
    operator.acked("p1", 1).await?;

    // New connections get the new leaf; the open one continues.
    certificates.renew(now_ms)?;
    operator
        .publisher
        .publish(2, &contents(vec![route("x", 2)]));
    operator.acked("p1", 2).await?;
    let second = start("p2")?;
    second.table(2).await?;

    // Signed by an authority that is not in the bundle: no new connection.
    certificates.sign_with(Authority::generate(now_ms)?, now_ms)?;
    let third = start("p3")?;
    operator
        .publisher
        .publish(3, &contents(vec![route("x", 3)]));
    operator.acked("p1", 3).await?;
    operator.acked("p2", 3).await?;
    assert_eq!(third.revision(), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_the_newest_table_and_delays_no_other() -> Result<()> {
    let operator = Operator::start().await?;
    let many = |created_s: i64| {
        let routes = (0..1_000).map(|n| route(&format!("r{n:04}"), created_s));
        contents(routes.collect())
    };
    operator.publisher.publish(1, &many(1));
    // Reads the first bytes only.
    let mut slow = TcpStream::connect(operator.address).await?;
    slow.write_all(b"GET /v1/table?digest=shards HTTP/1.1\r\nhost: x\r\nauthorization: Bearer good-slow\r\n\r\n")
        .await?;
    let mut start = [0; 64];
    timeout(PATIENCE, slow.read_exact(&mut start)).await??;
    let proxy = Proxy::start("p1", &[operator.url()])?;
    for revision in 2..=40 {
        let published = operator
            .publisher
            .publish(revision, &many(i64::try_from(revision)?));
        operator.acked("p1", published.sequence).await?;
    }
    assert_eq!(proxy.revision(), Some(40));
    // It continues: far fewer lines than publications, and the last leads to the newest table.
    let newest = operator.publisher.newest().context("published")?;
    let mut text = Vec::new();
    let mut buffer = vec![0; 65_536];
    let end = format!("\"digest\":\"{}\"", newest.digest);
    while !text
        .windows(end.len())
        .any(|window| window == end.as_bytes())
    {
        let count = timeout(PATIENCE, slow.read(&mut buffer)).await??;
        ensure!(count > 0, "the stream ended");
        let keep = text.len().min(end.len());
        text.drain(..text.len() - keep);
        text.extend_from_slice(&buffer[..count]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_good_table_with_a_wrong_digest_is_not_used() -> Result<()> {
    let objects = v1::encode(&contents(vec![route("x", 1)]));
    let line = Line::Snapshot(Snapshot {
        version: v1::VERSION,
        revision: 50,
        digest: "00".to_owned(),
        replicas: 1,
        objects,
    });
    let folder = Arc::new(tempfile::tempdir()?);
    std::fs::write(last_good(folder.path()), line.to_bytes()?)?;
    let operator = Operator::start().await?;
    operator.publisher.publish(3, &contents(Vec::new()));
    let proxy = Proxy::start_with("p1", &[operator.url()], "good-p1", folder, |_| {})?;
    assert_eq!(proxy.table(3).await?, contents(Vec::new()));
    assert_eq!(proxy.revision(), Some(3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_an_operator_changes_nothing() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let operator = Operator::start().await?;
    operator.publisher.publish(3, &contents(Vec::new()));
    let proxy = Proxy::start("p1", &[url, operator.url()])?;
    let (mut odd, _) = timeout(PATIENCE, listener.accept()).await??;
    odd.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await?;
    proxy.table(3).await?;
    operator.acked("p1", 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_route_of_a_thousand_travels_alone_and_applies_at_once() -> Result<()> {
    let operator = Operator::start().await?;
    let mut table = contents((0..1_000).map(|n| route(&format!("r{n:04}"), 1)).collect());
    let first = operator.publisher.publish(1, &table);
    let proxy = Proxy::start("p1", &[operator.url()])?;
    operator.acked("p1", first.sequence).await?;
    let mut slowest = std::time::Duration::ZERO;
    for revision in 2..=20u64 {
        let before = operator.publisher.newest().context("published")?;
        Arc::make_mut(&mut table.routes[500]).created_s += 1;
        let start = clock::instant();
        let published = operator.publisher.publish(revision, &table);
        operator.acked("p1", published.sequence).await?;
        slowest = slowest.max(start.elapsed());
        let behind = format!("?digest=shards&have={}", before.digest);
        let Line::Delta(delta) = first_line(&operator, &behind, "anyone").await? else {
            anyhow::bail!("not a delta");
        };
        assert_eq!(delta.changed.len(), 1);
    }
    assert_eq!(proxy.table(20).await?, table);
    // A generous bound, for an unoptimised build on a busy machine.
    assert!(slowest.as_secs() < 1, "{slowest:?}");
    Ok(())
}
