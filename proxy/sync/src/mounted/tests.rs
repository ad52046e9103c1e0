use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use proxy_admin::{shutdown, task};
use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::ObjectName;
use proxy_core::table::Contents;
use proxy_wire::v1::Snapshot;
use tempfile::TempDir;
use tests_support::eventually;

use super::*;
use crate::current::Update;
use crate::metrics::Metrics;

const LIMIT: Duration = Duration::from_secs(10);

/// A snapshot with this number of keys, in parts.
fn parts(revision: u64, keys: usize) -> Vec<Vec<u8>> {
    let key = |n: usize| Key {
        secret: ObjectName::new("a", format!("k{n}")),
        consumer: "c".into(),
        digest: KeyDigest::of(&format!("{revision}/{n}")),
        attributes: Vec::new(),
        expires_ms: None,
    };
    let objects = v1::encode(&Contents {
        keys: (0..keys).map(|n| Arc::new(key(n))).collect(),
        ..Contents::default()
    });
    let snapshot = Snapshot {
        version: v1::VERSION,
        revision,
        digest: v1::digest(&objects),
        replicas: 3,
        objects,
    };
    v1::split(snapshot, 1_000).unwrap()
}

/// Enough that there are two parts.
const MANY: usize = 25_000;

struct Mount {
    folder: TempDir,
    snapshot: MountedSnapshot,
    current: Arc<Current>,
    updates: Arc<Mutex<Vec<Update>>>,
}

impl Mount {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let updates = Arc::<Mutex<Vec<Update>>>::default();
        let sink = {
            let updates = Arc::clone(&updates);
            move |update| updates.lock().push(update)
        };
        let metrics = Metrics::register(&mut Registry::default());
        Self {
            snapshot: MountedSnapshot::new(folder.path().to_owned()),
            folder,
            current: Arc::new(Current::new(Box::new(sink), metrics)),
            updates,
        }
    }

    fn write(&self, number: usize, part: &[u8]) {
        let file = self.folder.path().join(format!("part-{number}"));
        fs::write(file, part).unwrap();
    }

    fn read(&mut self) -> Result<bool, String> {
        let read = self.snapshot.read(&self.current);
        read.map_err(|error| format!("{error}; {}", fix(&error)))
    }

    fn revision(&self) -> Option<u64> {
        self.current.version().map(|version| version.revision)
    }
}

#[test]
fn a_whole_snapshot_is_served_and_the_next_one_too() {
    let mut mount = Mount::new();
    assert_eq!(mount.read(), Ok(false), "there are no files");
    mount.write(0, b"");
    assert_eq!(
        mount.read(),
        Ok(false),
        "the Secrets of the chart are empty"
    );
    mount.write(0, &parts(7, 1)[0]);
    assert_eq!(mount.read(), Ok(true));
    assert_eq!(mount.revision(), Some(7));
    assert_eq!(mount.read(), Ok(true));
    assert_eq!(mount.updates.lock().len(), 2, "the same files once");
    let origin = Origin::Snapshot { written_ms: 1_000 };
    let first = mount.updates.lock()[0].clone();
    assert!(matches!(first, Update::Table { origin: found, .. } if found == origin));
    mount.write(0, &parts(6, 1)[0]);
    assert_eq!(mount.read(), Ok(true));
    assert_eq!(mount.revision(), Some(7), "the newest wins");
    mount.write(0, &parts(8, 1)[0]);
    assert_eq!(mount.read(), Ok(true));
    assert_eq!(mount.revision(), Some(8));
}

#[test]
fn a_snapshot_that_is_half_replaced_is_refused_until_it_is_whole() {
    let mut mount = Mount::new();
    let (old, new) = (parts(7, MANY), parts(8, MANY));
    assert_eq!((old.len(), new.len()), (2, 2));
    mount.write(0, &old[0]);
    let again = "start an operator, which writes it again";
    assert_eq!(mount.read(), Err(format!("part 1 is missing; {again}")));
    mount.write(1, &new[1]);
    let mixed = format!("part 1 is of another table than part 0; {again}");
    assert_eq!(mount.read(), Err(mixed));
    assert_eq!(mount.revision(), None);
    mount.write(0, &new[0]);
    assert_eq!(mount.read(), Ok(true));
    assert_eq!(mount.revision(), Some(8));
}

#[test]
fn a_damaged_a_foreign_and_a_newer_one_say_what_to_do_and_leave_no_table() {
    let whole = parts(7, 1).remove(0);
    let end = whole.iter().position(|byte| *byte == b'\n').unwrap();
    let mut flipped = whole.clone();
    flipped[end + 20] ^= 1;
    let head = std::str::from_utf8(&whole[..end]).unwrap();
    let newer = head.replace("\"format\":1", "\"format\":2") + "\n";
    let again = "start an operator, which writes it again";
    let version = "start an operator, or a proxy of the version of the operator that wrote it";
    for (part, expected) in [
        (
            &whole[..whole.len() - 1],
            format!("the parts are damaged or cut; {again}"),
        ),
        (
            &flipped[..],
            format!("the parts are damaged or cut; {again}"),
        ),
        (
            &whole[..end],
            format!("part 0 is no part of a snapshot; {again}"),
        ),
        (
            b"apiVersion: v1\n",
            format!("part 0 is no part of a snapshot; {again}"),
        ),
        (
            newer.as_bytes(),
            format!("part 0 has format 2, and only format 1 is known; {version}"),
        ),
    ] {
        let mut mount = Mount::new();
        mount.write(0, part);
        assert_eq!(mount.read(), Err(expected));
        assert_eq!(mount.revision(), None);
    }
}

#[test]
fn a_problem_is_news_once() {
    let mut mount = Mount::new();
    assert!(mount.snapshot.is_news("damaged"));
    assert!(!mount.snapshot.is_news("damaged"));
    assert!(mount.snapshot.is_news("none"));
}

#[tokio::test(start_paused = true)]
async fn operators_have_a_head_start_and_end_the_watch() {
    let mount = Mount::new();
    mount.write(0, &parts(7, 1)[0]);
    let (_stop, shutdown) = shutdown::channel();
    let watching = mount.snapshot.follow(Arc::clone(&mount.current), shutdown);
    let watching = task::spawn("mounted snapshot", watching);
    sleep(Duration::from_millis(400)).await;
    assert!(mount.current.version().is_none());
    eventually("the snapshot", LIMIT, async || mount.current.version())
        .await
        .unwrap();
    let version = mount.current.version().unwrap();
    mount.current.confirm(version.revision, &version.digest);
    watching.await.unwrap();
}
