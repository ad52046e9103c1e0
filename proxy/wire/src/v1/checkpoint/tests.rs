use proxy_core::names::ObjectName;

use super::*;

fn counter(used: u64) -> CheckpointCounter {
    CheckpointCounter {
        limit: LimitName {
            quota: ObjectName::new("team", "spend"),
            limit: "day".into(),
        },
        key: SubjectKey([2; 16]),
        subject: "consumer=team/ann".into(),
        period_start_ms: 86_400_000,
        departed: 4,
        used: vec![(0, used)],
        overridden: None,
    }
}

fn checkpoint(counters: usize) -> Checkpoint {
    Checkpoint {
        replicas: vec![CheckpointReplica {
            id: "p1".to_owned(),
            instance: "4f".to_owned(),
            gone: true,
        }],
        counters: (0..counters).map(|_| counter(7)).collect(),
    }
}

#[test]
fn the_committed_checkpoint_is_read_and_written() {
    let committed = include_str!("../../fixtures/v1/checkpoint.json").trim_end();
    assert_eq!(Checkpoint::from_json(committed).unwrap(), checkpoint(1));
    let (written, left_out) = checkpoint(1).to_json(10_000).unwrap();
    assert_eq!((&*written, left_out), (committed, 0));
}

#[test]
fn counters_that_do_not_fit_are_cut_from_the_end_and_counted() {
    let all = checkpoint(1_000);
    for longest in [5_000, 50_000] {
        let (written, left_out) = all.to_json(longest).unwrap();
        assert!(written.len() <= longest, "{}", written.len());
        let read = Checkpoint::from_json(&written).unwrap();
        assert_eq!(read.counters.len() + left_out, 1_000);
        assert!(written.len() + 300 > longest, "{}", written.len());
    }
}

#[test]
fn another_version_is_not_read() {
    let future = r#"{"version":2,"counters":"many"}"#;
    assert!(matches!(
        Checkpoint::from_json(future),
        Err(DecodeError::Version(2))
    ));
    assert!(Checkpoint::from_json("").is_err());
}
