//! Tables that a proxy refuses.

use anyhow::{Context, Result};
use proxy_core::table::Contents;
use proxy_wire::v1::{self, AckResult, Delta, Heartbeat, Line, Snapshot};
use std::collections::BTreeMap;

use crate::liar::{Liar, line};
use crate::parts::{Proxy, contents, route};

fn snapshot(revision: u64, contents: &Contents) -> Snapshot {
    let objects = v1::encode(contents);
    Snapshot {
        version: v1::VERSION,
        revision,
        digest: v1::digest(&objects),
        replicas: 1,
        objects,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_table_is_refused_and_the_current_one_stays() -> Result<()> {
    let good = snapshot(1, &contents(vec![route("x", 1)]));
    // Words of a later version, within a snapshot of this one.
    let text = serde_json::to_string(&good.objects)?.replace("\"ApiKey\"", "\"Mtls\"");
    let objects = serde_json::from_str(&text)?;
    let novel = Snapshot {
        revision: 2,
        digest: v1::digest(&objects),
        objects,
        ..good.clone()
    };
    let future = Snapshot {
        version: 2,
        revision: 3,
        ..good.clone()
    };
    let fixed = snapshot(4, &contents(vec![route("x", 4)]));
    let (changed, removed) = v1::diff(&fixed.objects, &good.objects);
    let back = Delta {
        base: fixed.digest.clone(),
        revision: 5,
        digest: good.digest.clone(),
        replicas: 1,
        changed,
        edited: BTreeMap::new(),
        removed,
    };
    let liar = Liar::start(vec![vec![
        line(&Line::Snapshot(good))?,
        line(&Line::Snapshot(novel))?,
        line(&Line::Snapshot(future))?,
        "nonsense\n".into(),
        line(&Line::Snapshot(fixed))?,
        line(&Line::Delta(back))?,
    ]])
    .await?;
    let proxy = Proxy::start("p1", &[liar.url()])?;
    assert_eq!(proxy.table(5).await?, contents(vec![route("x", 1)]));
    assert_eq!(liar.ack(5).await?.result, AckResult::Applied);
    let revisions: Vec<u64> = proxy.given.lock().tables.iter().map(|(_, r)| *r).collect();
    assert_eq!(revisions, [1, 4, 5]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_wrong_object() -> Result<()> {
    let good = snapshot(1, &contents(vec![route("x", 1)]));
    let text = serde_json::to_string(&good.objects)?.replace("\"ApiKey\"", "\"Mtls\"");
    let objects = serde_json::from_str(&text)?;
    let novel = Snapshot {
        revision: 2,
        digest: v1::digest(&objects),
        objects,
        ..good
    };
    let digest = novel.digest.clone();
    let liar = Liar::start(vec![vec![line(&Line::Snapshot(novel))?]]).await?;
    let proxy = Proxy::start("p1", &[liar.url()])?;
    let refused = liar.ack(2).await?;
    assert_eq!(
        (refused.result, refused.digest),
        (AckResult::Refused, digest)
    );
    let error = refused.error.context("an error")?;
    assert!(
        error.contains("backend/a/east") && error.contains("Mtls"),
        "{error}"
    );
    assert!(!error.contains("s3cr3t"), "{error}");
    assert_eq!(proxy.revision(), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_damaged_delta_the_proxy_asks_for_a_whole_table() -> Result<()> {
    let good = snapshot(1, &contents(vec![route("x", 1)]));
    let unfitting = Delta {
        base: "ff".to_owned(),
        revision: 2,
        digest: "ee".to_owned(),
        replicas: 1,
        changed: v1::Objects::default(),
        edited: BTreeMap::new(),
        removed: Vec::new(),
    };
    let damaged = Delta {
        base: good.digest.clone(),
        revision: 3,
        ..unfitting.clone()
    };
    let whole = snapshot(4, &contents(vec![route("x", 4)]));
    let digest = whole.digest.clone();
    let alive = Heartbeat {
        revision: 4,
        digest: digest.clone(),
        replicas: 1,
    };
    let liar = Liar::start(vec![
        vec![
            line(&Line::Snapshot(good.clone()))?,
            line(&Line::Delta(unfitting))?,
        ],
        vec![line(&Line::Snapshot(good))?, line(&Line::Delta(damaged))?],
        vec![
            line(&Line::Snapshot(whole))?,
            line(&Line::Heartbeat(alive))?,
        ],
    ])
    .await?;
    let proxy = Proxy::start("p1", &[liar.url()])?;
    assert_eq!(proxy.table(4).await?, contents(vec![route("x", 4)]));
    assert_eq!(liar.ack(3).await?.result, AckResult::Refused);
    let applied = liar.ack(4).await?;
    assert_eq!(
        (applied.result, applied.digest),
        (AckResult::Applied, digest)
    );
    for n in 0..3 {
        let query = liar.subscription(n).await?;
        assert!(query.starts_with("replica=p1&instance="), "{query}");
        assert!(!query.contains("have="), "{query}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_table_is_acknowledged_again() -> Result<()> {
    let table = snapshot(1, &contents(vec![route("x", 1)]));
    let again = Heartbeat {
        revision: 3,
        digest: table.digest.clone(),
        replicas: 1,
    };
    let lines = vec![
        line(&Line::Snapshot(table))?,
        line(&Line::Heartbeat(again))?,
    ];
    let liar = Liar::start(vec![lines]).await?;
    let _proxy = Proxy::start("p1", &[liar.url()])?;
    assert_eq!(liar.ack(3).await?.result, AckResult::Applied);
    Ok(())
}
