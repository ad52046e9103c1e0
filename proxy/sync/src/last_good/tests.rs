use std::fs;

use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::{ObjectName, Secret};
use proxy_core::table::{BackendAuth, Contents};
use proxy_core::test_util::backend;
use proxy_wire::v1::Objects;

use super::*;

/// A table of these keys and of a backend with this credential.
fn table(keys: usize, credential: &str) -> Objects {
    let key = |number: usize| Key {
        secret: ObjectName::new("a", format!("key-{number:04}")),
        consumer: format!("consumer-{number}").into(),
        digest: KeyDigest::of(&number.to_string()),
        attributes: Vec::new(),
        expires_ms: None,
    };
    let mut one = backend("a/one");
    one.auth = BackendAuth::ApiKey(Secret::new(credential));
    v1::encode(&Contents {
        backends: [Arc::new(one)].into_iter().collect(),
        keys: (0..keys).map(|number| Arc::new(key(number))).collect(),
        ..Contents::default()
    })
}

fn version(revision: u64, objects: &Objects) -> Version {
    Version {
        revision,
        digest: v1::digest(objects).into(),
        objects: Arc::new(objects.clone()),
    }
}

/// The file after these tables, and its lines; each is read back right after it was written.
fn check(path: &Path, credentials: bool, tables: &[Objects]) -> usize {
    let mut keeper = Keeper::new(path.to_owned(), credentials);
    for (revision, objects) in (1..).zip(tables) {
        keeper
            .put(&version(revision, objects), revision + 1)
            .unwrap();
        let (read, replicas) = read(path).unwrap().unwrap();
        let expected = if credentials {
            objects.clone()
        } else {
            v1::without_credentials(objects)
        };
        assert_eq!(*read.objects, expected);
        assert_eq!((read.revision, replicas), (revision, revision + 1));
        assert_eq!(*read.digest, v1::digest(&expected));
    }
    lines(path)
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count()
}

#[test]
fn a_change_adds_a_line_and_many_make_a_new_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let whole = table(400, "s3cr3t");
    let growing = [398, 399, 400].map(|keys| table(keys, "s3cr3t"));
    for credentials in [true, false] {
        assert_eq!(check(&path, credentials, &growing), 3);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.contains("s3cr3t"), credentials);
        let added = text.lines().skip(1).map(str::len).sum::<usize>();
        assert!(added < 1_000, "{added} bytes for two keys");
    }
    let renumbered = vec![table(700, "s3cr3t"); CHANGES + 3];
    assert_eq!(check(&path, true, &renumbered), 2);
    // A change that is longer than the table.
    assert_eq!(check(&path, true, &[table(1, "s3cr3t"), whole]), 1);
}

#[test]
fn a_credential_that_changes_is_withheld_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let tables = ["s3cr3t-1", "s3cr3t-2"].map(|credential| table(100, credential));
    assert_eq!(check(&path, false, &tables), 2);
    assert!(!fs::read_to_string(&path).unwrap().contains("s3cr3t"));
    assert_eq!(check(&path, true, &tables), 2);
}

#[test]
fn a_file_that_is_gone_or_not_as_it_was_left_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let mut keeper = Keeper::new(path.clone(), true);
    keeper.put(&version(1, &table(100, "x")), 1).unwrap();
    fs::remove_file(&path).unwrap();
    keeper.put(&version(2, &table(101, "x")), 1).unwrap();
    assert_eq!(lines(&path), 1);
    fs::write(&path, "of someone else\n").unwrap();
    keeper.put(&version(3, &table(102, "x")), 1).unwrap();
    assert_eq!(lines(&path), 1);
    let (read, _) = read(&path).unwrap().unwrap();
    assert_eq!((read.revision, read.objects.len()), (3, 103));
}

#[test]
fn a_cut_change_is_left_out_and_a_damaged_one_refuses_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let tables = [100, 101, 102].map(|keys| table(keys, "x"));
    check(&path, true, &tables);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 9]).unwrap();
    let (cut, _) = read(&path).unwrap().unwrap();
    assert_eq!((cut.revision, &*cut.objects), (2, &tables[1]));

    let mut damaged: Vec<&str> = text.split_inclusive('\n').collect();
    damaged.remove(1);
    fs::write(&path, damaged.concat()).unwrap();
    assert!(matches!(
        read(&path),
        Err(LastGoodError::Decode(DecodeError::Base { .. }))
    ));
    damaged.insert(
        1,
        "{\"type\":\"heartbeat\",\"revision\":1,\"digest\":\"\",\"replicas\":1}\n",
    );
    fs::write(&path, damaged.concat()).unwrap();
    assert!(matches!(read(&path), Err(LastGoodError::NotAChange)));
}
