//! A snapshot that an operator stored, and proxies that start without one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use operator_publish::Publisher;
use proxy_core::table::Contents;
use tempfile::TempDir;

use crate::parts::{Operator, Proxy, contents, route};

/// Writes the snapshot of `publisher` as kubelet mounts it.
fn mount(publisher: &Publisher, folder: &Path) -> Result<()> {
    for (number, part) in publisher.snapshot_parts()?.iter().enumerate() {
        std::fs::write(folder.join(format!("part-{number}")), part)?;
    }
    Ok(())
}

/// The snapshot of an operator that has gone, its URL, and the address for the next one.
async fn left_behind(table: &Contents) -> Result<(TempDir, String, SocketAddr)> {
    let operator = Operator::start().await?;
    operator.publisher.publish(7, table);
    let mounted = tempfile::tempdir()?;
    mount(&operator.publisher, mounted.path())?;
    let url = operator.url();
    Ok((mounted, url, operator.kill().await?))
}

/// Starts a new proxy with this mount.
fn fresh(url: &str, mounted: &TempDir) -> Result<Proxy> {
    let folder = Arc::new(tempfile::tempdir()?);
    let folder_of_snapshot = mounted.path().to_owned();
    Proxy::start_with("p1", &[url.to_owned()], "good-p1", folder, |config| {
        config.snapshot = Some(folder_of_snapshot);
        config.keep_credentials = true;
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_proxy_serves_the_stored_snapshot_until_an_operator_answers() -> Result<()> {
    let table = contents(vec![route("x", 1)]);
    let (mounted, url, address) = left_behind(&table).await?;

    let proxy = fresh(&url, &mounted)?;
    assert_eq!(proxy.table(7).await?, table, "with its credentials");
    assert!(!proxy.given.lock().confirmed);

    // An API server from a backup: older revisions, and they replace the snapshot.
    let back = Operator::start_at(address, None).await?;
    let other = contents(vec![route("x", 2)]);
    let published = back.publisher.publish(3, &other);
    back.acked("p1", published.sequence).await?;
    let (newest, revision) = {
        let given = proxy.given.lock();
        let (table, revision) = given.tables.last().context("a table")?;
        (table.contents().clone(), *revision)
    };
    assert_eq!((newest, revision), (other, 3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_with_the_table_of_the_snapshot_confirms_it() -> Result<()> {
    let table = contents(vec![route("x", 1)]);
    let (mounted, url, address) = left_behind(&table).await?;
    let proxy = fresh(&url, &mounted)?;
    proxy.table(7).await?;

    let back = Operator::start_at(address, None).await?;
    let published = back.publisher.publish(7, &table);
    back.acked("p1", published.sequence).await?;
    let given = proxy.given.lock();
    assert!(given.confirmed);
    assert_eq!(given.tables.len(), 1, "the same table is not applied twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_there_is_asked_first() -> Result<()> {
    let stored = Operator::start().await?;
    stored
        .publisher
        .publish(9, &contents(vec![route("old", 1)]));
    let mounted = tempfile::tempdir()?;
    mount(&stored.publisher, mounted.path())?;
    let operator = Operator::start().await?;
    let table = contents(vec![route("new", 1)]);
    let published = operator.publisher.publish(8, &table);
    let proxy = fresh(&operator.url(), &mounted)?;
    operator.acked("p1", published.sequence).await?;
    assert_eq!(proxy.table(8).await?, table);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_whose_name_does_not_resolve_are_away() -> Result<()> {
    let stored = Operator::start().await?;
    let table = contents(vec![route("x", 1)]);
    stored.publisher.publish(9, &table);
    let mounted = tempfile::tempdir()?;
    mount(&stored.publisher, mounted.path())?;
    // A top-level domain that has no names (RFC 6761).
    let proxy = fresh("http://operators.invalid:8443", &mounted)?;
    assert_eq!(proxy.table(9).await?, table);
    Ok(())
}
