//! Backends whose deployments are left out.

use super::*;

fn backend_object() -> ObjectRef {
    ObjectRef::new(Kind::AiBackend, ObjectName::new("team", "foundry"))
}

/// A fleet of two proxies that both have the deployment out for this reason, or in.
fn with_outage(reason: Option<(&str, &str)>) -> Fleet {
    let outage = reason.map(|(reason, cause)| Outage {
        reason: reason.to_owned(),
        cause: cause.to_owned(),
    });
    let of_backend = BTreeMap::from([("gpt-4o".to_owned(), outage)]);
    let mut fleet = fleet(&[Some(5), Some(5)]);
    for replica in &mut fleet.replicas {
        let outages = BTreeMap::from([(backend_object().name, of_backend.clone())]);
        replica.outages = Arc::new(outages);
    }
    fleet
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_serves_nothing_is_written_once_it_has_lasted() {
    let bench = bench(BTreeMap::from([(backend_object(), sound(1))]));
    bench.wrote(1).await;
    bench.fleet.send_replace(with_outage(None));
    bench.rest().await;
    assert_eq!(bench.writes(), 2, "it serves");
    let last = || {
        bench
            .scenario
            .calls(&Method::PATCH)
            .pop()
            .expect("there are some")
            .body
    };
    assert_eq!(last()["status"]["deployments"], "1/1 serving");
    let refused = |cause| with_outage(Some(("CredentialRefused", cause)));
    let pause = |seconds| tokio::time::sleep(std::time::Duration::from_secs(seconds));
    // It comes and goes.
    for _ in 0..10 {
        bench.fleet.send_replace(refused("401"));
        pause(20).await;
        bench.fleet.send_replace(with_outage(None));
        pause(20).await;
    }
    bench.rest().await;
    assert_eq!(bench.writes(), 2);
    // It stays.
    bench.fleet.send_replace(refused("401"));
    pause(25).await;
    assert_eq!(bench.writes(), 2);
    pause(10).await;
    assert_eq!(bench.writes(), 3);
    let status = last()["status"].clone();
    assert_eq!(status["deployments"], "0/1 serving");
    let word = words(&status).pop();
    assert_eq!(word.as_deref(), Some("Ready=False/CredentialRefused"));
    bench.rest().await;
    assert_eq!(bench.writes(), 3, "nothing is written at rest");
    // It is mended.
    bench.fleet.send_replace(with_outage(None));
    bench.rest().await;
    assert_eq!(bench.writes(), 4);
    let word = words(&last()["status"]).pop();
    assert_eq!(word.as_deref(), Some("Ready=True/Ready"));
    // All proxies go.
    bench.fleet.send_replace(fleet(&[]));
    bench.rest().await;
    assert_eq!(bench.writes(), 5);
    assert_eq!(last()["status"].get("deployments"), None);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_fails_with_ever_other_words_is_written_once() {
    let bench = bench(BTreeMap::from([(backend_object(), sound(1))]));
    bench.wrote(1).await;
    for turn in 0..30 {
        let cause = format!("status 50{}", turn % 4);
        bench
            .fleet
            .send_replace(with_outage(Some(("Failing", &cause))));
        tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    }
    assert_eq!(bench.writes(), 2);
}
