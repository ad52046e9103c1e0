//! Connections to backends that end, and what becomes of the calls on them.

use std::time::Duration;

use anyhow::{Context, Result};
use tests_support::{Fault, FaultProxy};

use crate::bench::{Bench, at};
use crate::raw::{Raw, ask, echo, request};

/// Enough for each race to happen, and more than connections are kept.
const CALLS: usize = 500;
/// At one time.
const CALLERS: usize = 10;

/// A gateway before a backend that keeps its connections, with this between them.
async fn before(fault: Fault) -> Result<(Bench, FaultProxy, Raw)> {
    let raw = Raw::start(|mut stream| async move {
        loop {
            let request = request(&mut stream).await?;
            echo(&mut stream, &request).await?;
        }
    })
    .await?;
    let port = raw.url.rsplit_once(':').context("a port")?.1.parse()?;
    let proxy = FaultProxy::start(port)?;
    proxy.set(fault);
    let bench = Bench::before(at(&format!("http://127.0.0.1:{}", proxy.port())))?;
    Ok((bench, proxy, raw))
}

/// The statuses of all calls other than 200.
async fn failures(bench: &Bench) -> Result<Vec<u16>> {
    let mut failures = Vec::new();
    for _ in 0..CALLS / CALLERS {
        let asked = (0..CALLERS).map(|_| ask(bench, "x"));
        for answer in futures::future::join_all(asked).await {
            let status = answer?.status;
            if status != 200 {
                failures.push(status);
            }
        }
    }
    Ok(failures)
}

#[tokio::test]
async fn no_call_fails_on_kept_connections_that_their_server_closes() -> Result<()> {
    for fault in [
        Fault::CloseKept,
        Fault::ResetKept,
        Fault::CloseIdle(Duration::ZERO),
        Fault::CloseIdle(Duration::from_millis(1)),
        Fault::CloseIdle(Duration::from_millis(5)),
    ] {
        let (bench, proxy, _raw) = before(fault).await?;
        assert_eq!(failures(&bench).await?, [0_u16; 0], "{fault:?}");
        assert!(proxy.accepted() > 1, "{fault:?}");
    }
    Ok(())
}
