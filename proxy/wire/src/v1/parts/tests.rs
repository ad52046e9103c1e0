use std::sync::Arc;

use proptest::prelude::*;
use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::ObjectName;
use proxy_core::table::Contents;

use super::*;
use crate::v1;

/// A table with this number of keys, whose digests no compression makes shorter.
fn snapshot(revision: u64, keys: usize) -> Snapshot {
    let key = |n: usize| Key {
        secret: ObjectName::new("team", format!("key-{n}")),
        consumer: format!("team/{n}").into(),
        digest: KeyDigest::of(&format!("{revision}/{n}")),
        attributes: Vec::new(),
        expires_ms: None,
    };
    let objects = v1::encode(&Contents {
        keys: (0..keys).map(|n| Arc::new(key(n))).collect(),
        ..Contents::default()
    });
    Snapshot {
        version: v1::VERSION,
        revision,
        digest: v1::digest(&objects),
        replicas: 3,
        objects,
    }
}

/// Changes the head of a part.
fn with_head(part: &[u8], old: &str, new: &str) -> Vec<u8> {
    let end = part.iter().position(|byte| *byte == b'\n').unwrap();
    let head = String::from_utf8(part[..end].to_vec()).unwrap();
    assert!(head.contains(old), "{head}");
    [head.replace(old, new).as_bytes(), &part[end..]].concat()
}

#[test]
fn a_snapshot_of_one_part_comes_back() {
    let parts = split(snapshot(7, 3), 1_000).unwrap();
    assert_eq!(parts.len(), 1);
    let stored = join(&parts).unwrap();
    assert_eq!(stored.snapshot, snapshot(7, 3));
    assert_eq!(stored.written_ms, 1_000);
    assert!(stored.snapshot.verified().is_ok());
}

#[test]
fn the_committed_part_is_read() {
    let part = include_bytes!("../../fixtures/v1/part-0").to_vec();
    let stored = join(&[part]).unwrap();
    assert_eq!(
        (stored.snapshot.revision, stored.written_ms),
        (42, 1_795_737_600_000)
    );
    let sent = include_str!("../../fixtures/v1/operator.ndjson");
    let sent = Line::parse(sent.lines().next().unwrap().as_bytes()).unwrap();
    assert_eq!(sent, Line::Snapshot(stored.snapshot));
}

#[test]
fn a_large_one_has_several_and_each_fits_into_an_object() {
    let parts = split(snapshot(7, 25_000), 1_000).unwrap();
    assert_eq!(parts.len(), 2);
    for part in &parts {
        assert!(part.len() < 1_000_000, "{}", part.len());
        assert_eq!(head(&parts[0]).unwrap().parts, 2);
    }
    assert_eq!(join(&parts).unwrap().snapshot, snapshot(7, 25_000));

    let missing = join(&parts[..1]).unwrap_err();
    assert!(matches!(missing, PartsError::Missing(1)), "{missing}");
    let swapped = join(&[parts[1].clone(), parts[0].clone()]).unwrap_err();
    assert!(matches!(swapped, PartsError::Foreign(0)), "{swapped}");
    // The operator was stopped between two writes.
    let newer = split(snapshot(8, 25_000), 2_000).unwrap();
    let mixed = join(&[newer[0].clone(), parts[1].clone()]).unwrap_err();
    assert!(matches!(mixed, PartsError::Mixed(1)), "{mixed}");
}

#[test]
fn one_that_does_not_fit_is_not_split() {
    let error = split(snapshot(7, 100_000), 0).unwrap_err();
    assert!(matches!(error, PartsError::TooLarge { bytes, most } if bytes > most));
}

#[test]
fn other_files_and_newer_formats_are_told_apart() {
    let parts = split(snapshot(7, 3), 1_000).unwrap();
    for foreign in [
        "",
        "\n",
        "{}\n",
        "a: b\n",
        "{\"kind\":\"List\",\"format\":1}\n",
    ] {
        let error = join(&[foreign.as_bytes().to_vec()]).unwrap_err();
        assert!(
            matches!(error, PartsError::Foreign(0)),
            "{foreign:?}: {error}"
        );
    }
    let newer = with_head(&parts[0], "\"format\":1", "\"format\":2,\"more\":3");
    let error = join(&[newer]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "part 0 has format 2, and only format 1 is known"
    );
    let many = with_head(&parts[0], "\"parts\":1", "\"parts\":5");
    assert!(matches!(join(&[many]), Err(PartsError::Foreign(0))));
    let renamed = with_head(&parts[0], "\"revision\":7", "\"revision\":9");
    assert!(matches!(join(&[renamed]), Err(PartsError::Damaged)));
    assert!(matches!(join(&[]), Err(PartsError::Missing(0))));
}

#[test]
fn a_table_of_a_newer_version_is_refused_by_its_version() {
    let mut future = snapshot(7, 3);
    future.version = 2;
    let error = join(&split(future, 0).unwrap()).unwrap_err();
    assert!(
        matches!(error, PartsError::Snapshot(DecodeError::Version(2))),
        "{error}"
    );
}

proptest! {
    #[test]
    fn what_was_cut_or_changed_is_never_taken_for_another_table(
        keys in 0usize..40, at in any::<prop::sample::Index>(), change in 1u8..=255, cut in any::<bool>()
    ) {
        let whole = split(snapshot(7, keys), 1_000).unwrap();
        let mut part = whole[0].clone();
        let at = at.index(part.len());
        if cut {
            part.truncate(at);
        } else {
            part[at] ^= change;
        }
        // The time of writing is not checked.
        if let Ok(stored) = join(&[part]) {
            prop_assert_eq!(stored.snapshot, snapshot(7, keys));
        }
    }
}
