use prometheus_client::registry::Registry;
use proptest::collection::vec;
use proptest::prelude::*;
use proxy_core::names::ObjectName;
use proxy_core::quota::{CounterReading, LimitName, StoreState, SubjectKey};

use super::*;

fn reading(n: u32, used: u64, limit: &str) -> CounterReading {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&n.to_be_bytes());
    CounterReading {
        limit: LimitName {
            quota: ObjectName::new("team", "spend"),
            limit: limit.into(),
        },
        key: SubjectKey(key),
        subject: format!("consumer=team/c{n}").into(),
        period_start_ms: Some(0),
        used,
        reserved: 0,
        amount: 100,
        overridden: None,
        warned: None,
    }
}

fn check(counters: Vec<CounterReading>) -> (Vec<CounterReading>, i64) {
    let metrics = Metrics::register(&mut Registry::default());
    let counted = Counted {
        counters,
        ..Counted::new(StoreState::None)
    };
    let id = ("p1".to_owned(), "1".to_owned());
    let body = written(&id, bounded(counted), &metrics);
    assert!(body.len() <= LONGEST);
    let report: Report = serde_json::from_slice(&body).unwrap();
    (report.into_counted().counters, metrics.unreported.get())
}

#[test]
fn a_report_keeps_the_counters_nearest_to_their_limits() {
    let many = (0..10_500).map(|n| reading(n, u64::from(n), "day"));
    let (told, left_out) = check(many.collect());
    assert_eq!((told.len(), left_out), (10_000, 500));
    assert!(told.iter().all(|reading| reading.used >= 500));
}

#[test]
fn a_report_stays_below_the_limit_of_an_operator() {
    let long = "day".repeat(1_000);
    let many = (0..5_000).map(|n| reading(n, 1, &long));
    let (told, left_out) = check(many.collect());
    assert_eq!((told.len(), left_out), (1_250, 3_750));
}

fn deployment(backend: &str, n: usize, state: &str) -> DeploymentReport {
    DeploymentReport {
        backend: backend.to_owned(),
        deployment: format!("d{n}"),
        state: state.to_owned(),
        ..DeploymentReport::default()
    }
}

#[test]
fn a_long_cause_is_cut_between_two_characters() {
    let long = DeploymentReport {
        cause: "ü".repeat(CAUSE_CHARS + 1),
        ..deployment("team/a", 0, "Out")
    };
    let [cut] = &whole_backends(vec![long])[..] else {
        panic!("one deployment");
    };
    assert_eq!(cut.cause, "ü".repeat(CAUSE_CHARS));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Backends of up to 64 deployments each, some of them with one that is out.
    #[test]
    fn backends_find_room_whole_and_those_with_trouble_first(
        backends in vec((1_usize..=64, any::<bool>()), 1..120)
    ) {
        let all = backends.iter().enumerate().flat_map(|(index, (size, is_out))| {
            (0..*size).map(move |n| {
                let state = if *is_out && n == 0 { "Out" } else { "In" };
                deployment(&format!("team/b{index}"), n, state)
            })
        });
        let kept = whole_backends(all.collect());
        prop_assert!(kept.len() <= DEPLOYMENTS);
        let has = |index: usize| {
            let name = format!("team/b{index}");
            kept.iter().filter(|one| one.backend == name).count()
        };
        let mut troubled_left_out = false;
        let mut well_kept = false;
        for (index, (size, is_out)) in backends.iter().enumerate() {
            let there = has(index);
            prop_assert!(there == 0 || there == *size, "a backend is whole or away");
            troubled_left_out |= *is_out && there == 0;
            well_kept |= !*is_out && there > 0;
        }
        prop_assert!(!(troubled_left_out && well_kept));
        let total: usize = backends.iter().map(|(size, _)| size).sum();
        prop_assert!(total > DEPLOYMENTS || kept.len() == total, "all find room");
    }
}

#[tokio::test(start_paused = true)]
async fn reports_follow_every_two_seconds_and_at_once_after_a_change_of_replicas_or_at_the_end() {
    let (trigger, shutdown) = proxy_admin::shutdown::channel();
    let (newest, mut reports) = watch::channel(Bytes::new());
    let (fleet, replicas) = watch::channel(1);
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let source = {
        let asked = std::sync::Arc::clone(&asked);
        move || {
            let n = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Counted {
                // The second answer equals the first, but for a number that moves all the time.
                counters: vec![reading(0, u64::from(n.max(1)), "day")],
                deployments: vec![DeploymentReport {
                    in_flight: n,
                    ..deployment("team/foundry", 0, "In")
                }],
                ..Counted::new(StoreState::None)
            }
        }
    };
    let metrics = Metrics::register(&mut Registry::default());
    let id = ("p1".to_owned(), "1".to_owned());
    let collecting = collect(Box::new(source), id, newest, replicas, (metrics, shutdown));
    let collecting = proxy_admin::task::spawn("reports", collecting);
    let start = tokio::time::Instant::now();
    let mut after = async || {
        let changed = reports.changed().await;
        changed.ok().map(|()| start.elapsed().as_secs())
    };
    assert_eq!(after().await, Some(0));
    assert_eq!(after().await, Some(4), "nothing was new after two");
    fleet.send_replace(2);
    assert_eq!(after().await, Some(4));
    trigger.stop();
    assert_eq!(after().await, Some(4), "the last one");
    assert_eq!(after().await, None, "there will be no more");
    collecting.await.unwrap();
}
