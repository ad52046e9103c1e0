//! The ways to a store: TLS with a password, Sentinels, a cluster.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tests_support::{Process, Redis, Replicas, eventually_ok, free_port};
use tokio::time::Instant;

use crate::load::{LIMIT, burst, down, light, quota, start, times, up};

/// Too small for grants ahead, so the remainder is exact.
fn small(consumer: &str) -> String {
    quota(
        consumer,
        "Deny",
        "{name: calls, unit: Requests, limit: 30, window: Minute}",
    )
}

/// What one replica leaves of the limit, and no more, the other one may use.
async fn shares(replicas: &Replicas, consumer: &str) -> Result<()> {
    // Who has not heard of the other one yet takes the limit for large enough to borrow ahead.
    for replica in replicas.all() {
        eventually_ok("the replicas know each other", LIMIT, async || {
            let known = replica.metric("tundish_quota_store_replicas").await?;
            ensure!(known > 1.5, "{known} replicas");
            Ok(())
        })
        .await?;
    }
    let first = burst(times(replicas.at(0), 18), consumer, 1).await?;
    assert_eq!(first.admitted(), 18);
    let second = burst(times(replicas.at(1), 30), consumer, 1).await?;
    second.check()?;
    assert_eq!(second.admitted(), 12);
    Ok(())
}

/// A CA, and a certificate of 127.0.0.1 by it: the paths of CA, certificate and key.
fn certificates(folder: &Path) -> Result<[String; 3]> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let server = CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &authority)?;
    let files = [
        ("ca.pem", authority.pem()),
        ("server.pem", server.pem()),
        ("server.key", key.serialize_pem()),
    ];
    let mut paths = <[String; 3]>::default();
    for (path, (name, text)) in paths.iter_mut().zip(files) {
        let file = folder.join(name);
        std::fs::write(&file, text)?;
        file.to_str().context("UTF-8")?.clone_into(path);
    }
    Ok(paths)
}

#[tokio::test]
async fn over_tls_with_a_private_ca_and_a_password_limits_are_shared() -> Result<()> {
    let _turn = light().await;
    let folder = tempfile::tempdir()?;
    let [ca, certificate, key] = certificates(folder.path())?;
    let port = free_port()?.to_string();
    let _redis = Redis::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "a b/c@d",
    ])?;
    let url = format!("rediss://:a%20b%2Fc%40d@127.0.0.1:{port}");
    let more = ["--quota-store-ca", &ca, "--no-access-log"];
    let replicas = start(2, &url, &small("team"), &more, &[]).await?;
    shares(&replicas, "team").await?;
    let log = replicas.at(0).log();
    assert!(
        !log.contains("a b/c@d") && !log.contains("a%20b"),
        "the password is not logged"
    );

    // Whose CA is not trusted is not talked to.
    let stranger = Replicas::start(1, &small("team"), &["--quota-store", &url], &[]).await?;
    let stranger = stranger.at(0);
    eventually_ok("the certificate is refused", LIMIT, async || {
        let log = stranger.log();
        ensure!(
            log.contains("quota store lost") && log.contains("UnknownIssuer"),
            "{log}"
        );
        Ok(())
    })
    .await?;
    down(stranger, LIMIT).await?;
    let denied = burst(times(stranger, 3), "team", 1).await?;
    assert_eq!(denied.refused(), 3);
    Ok(())
}

#[tokio::test]
async fn when_sentinels_name_another_primary_limits_are_shared_there() -> Result<()> {
    let _turn = light().await;
    let mut primary = Redis::start()?;
    let replica_of = format!("127.0.0.1 {}", primary.port());
    let other = Redis::start_with(&[
        "--replicaof",
        &replica_of,
        "--repl-diskless-sync-delay",
        "0",
    ])?;
    eventually_ok("the replica follows", LIMIT, async || {
        let info = other.command(&["INFO", "replication"])?;
        ensure!(info.contains("master_link_status:up"), "{info}");
        Ok(())
    })
    .await?;
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let configuration = folder.path().join("sentinel.conf");
    write!(
        File::create(&configuration)?,
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor quotas 127.0.0.1 {} 1\n\
         sentinel down-after-milliseconds quotas 500\nsentinel failover-timeout quotas 2000\n",
        folder.path().display(),
        primary.port(),
    )?;
    let mut command = Command::new("redis-server");
    command.arg(&configuration).arg("--sentinel");
    let mut sentinel = Process::spawn("sentinel", &mut command, folder.path())?;
    // It has to know the replica before the primary dies.
    sentinel.wait_for_line("+slave slave", LIMIT).await?;

    let url = format!("redis+sentinel://127.0.0.1:{port}/quotas");
    let quotas = small("team") + &small("later");
    let replicas = start(2, &url, &quotas, &["--no-access-log"], &[]).await?;
    shares(&replicas, "team").await?;

    let began = Instant::now();
    primary.kill();
    for replica in replicas.all() {
        down(replica, LIMIT).await?;
    }
    for replica in replicas.all() {
        up(replica, LIMIT).await?;
    }
    println!("another primary after {:?}", began.elapsed());
    assert!(other.command(&["ROLE"])?.starts_with("master"));
    let spent = burst(times(replicas.at(0), 3), "team", 1).await?;
    assert_eq!(spent.refused(), 3, "what was used is known there");
    shares(&replicas, "later").await
}

#[tokio::test]
async fn over_a_cluster_limits_are_shared_whichever_node_is_asked() -> Result<()> {
    let _turn = light().await;
    let mut nodes = Vec::new();
    for slots in [["0", "8191"], ["8192", "16383"]] {
        let bus = free_port()?.to_string();
        let node = Redis::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus])?;
        node.command(&["CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1]])?;
        nodes.push((node, bus));
    }
    let [(first, _), (second, bus)] = &nodes[..] else {
        anyhow::bail!("two nodes");
    };
    let port = second.port().to_string();
    first.command(&["CLUSTER", "MEET", "127.0.0.1", &port, bus])?;
    for (node, _) in &nodes {
        eventually_ok("the cluster is whole", LIMIT, async || {
            let info = node.command(&["CLUSTER", "INFO"])?;
            ensure!(info.contains("cluster_state:ok"), "{info}");
            ensure!(info.contains("cluster_slots_assigned:16384"), "{info}");
            Ok(())
        })
        .await?;
    }
    let url = format!(
        "redis://127.0.0.1:{},127.0.0.1:{}",
        first.port(),
        second.port()
    );
    // The prefix says which node has the keys: these two are on different ones.
    let mut owners = Vec::new();
    for prefix in ["one", "two"] {
        let slot: u32 = first.command(&["CLUSTER", "KEYSLOT", prefix])?.parse()?;
        owners.push(slot > 8191);
        let more = ["--quota-store-prefix", prefix, "--no-access-log"];
        let replicas = start(2, &url, &small("team"), &more, &[]).await?;
        shares(&replicas, "team").await?;
    }
    assert_ne!(owners[0], owners[1], "one node has both");
    Ok(())
}
