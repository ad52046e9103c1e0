use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::limit::default_budget_below;
use super::*;

/// A root with these files, and a machine of 4 GiB.
fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let machine = (
        "proc/meminfo",
        "MemTotal:        4194304 kB\nMemFree: 1 kB\n",
    );
    for (path, text) in files.iter().chain([&machine]) {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn default_of(files: &[(&str, &str)]) -> usize {
    default_budget_below(root(files).path())
}

const MIB: usize = 1 << 20;

#[test]
fn a_budget_is_60_percent_of_the_least_limit_of_its_groups() {
    let half_gib = "536870912\n";
    let own = [
        ("proc/self/cgroup", "0::/\n"),
        ("sys/fs/cgroup/memory.max", half_gib),
    ];
    assert_eq!(default_of(&own), 536_870_912 / 10 * 6);
    // The limit of a pod stands above that of its container.
    let nested = [
        ("proc/self/cgroup", "0::/pod/box\n"),
        ("sys/fs/cgroup/pod/box/memory.max", "max\n"),
        ("sys/fs/cgroup/pod/memory.max", half_gib),
        ("sys/fs/cgroup/memory.max", "1073741824\n"),
    ];
    assert_eq!(default_of(&nested), 536_870_912 / 10 * 6);
    // The path of the host, in a container without a namespace for its groups.
    let foreign = [
        ("proc/self/cgroup", "0::/kubepods/pod1/abc\n"),
        ("sys/fs/cgroup/memory.max", half_gib),
    ];
    assert_eq!(default_of(&foreign), 536_870_912 / 10 * 6);
    let version_1 = [
        ("proc/self/cgroup", "5:devices:/\n4:cpu,memory:/a/b\n0::/\n"),
        ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", half_gib),
        (
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        ),
    ];
    assert_eq!(default_of(&version_1), 536_870_912 / 10 * 6);
}

#[test]
fn without_a_limit_a_budget_is_a_part_of_the_machine() {
    let none = [("proc/self/cgroup", "0::/\n")];
    assert_eq!(default_of(&none), 1024 * MIB);
    let huge = [
        ("proc/self/cgroup", "4:memory:/\n"),
        (
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        ),
    ];
    assert_eq!(default_of(&huge), 1024 * MIB);
    let small = root(&none);
    fs::write(small.path().join("proc/meminfo"), "MemTotal: 1048576 kB\n").unwrap();
    assert_eq!(default_budget_below(small.path()), 256 * MIB);
    assert_eq!(default_budget_below(Path::new("/nowhere")), 1024 * MIB);
}

#[test]
fn sizes_are_read_as_people_write_them() {
    for (text, bytes) in [
        ("0", 0),
        ("1024", 1024),
        ("300Mi", 300 * MIB),
        ("300 MiB", 300 * MIB),
        ("1Gi", 1024 * MIB),
        ("2k", 2_000),
        ("5MB", 5_000_000),
    ] {
        assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
    }
    for text in ["", "Mi", "-1", "1.5Gi", "10 parsecs", "99999999999Gi"] {
        assert_eq!(text.parse::<Size>(), Err(SizeError), "{text}");
    }
}

#[test]
fn a_budget_keeps_room_for_the_small_and_for_requests() {
    let budget = Budget::new(800);
    let connections: Vec<_> = (0..5)
        .map_while(|_| budget.hold(Purpose::Connection, 100))
        .collect();
    assert_eq!(connections.len(), 4, "half is for connections");
    assert!(budget.hold(Purpose::Head, 100).is_none());
    let bodies: Vec<_> = (0..9)
        .map_while(|_| budget.hold(Purpose::Body, 100))
        .collect();
    assert_eq!(bodies.len(), 3);
    let request = budget.hold(Purpose::Request, 100);
    assert!(request.is_some(), "an eighth is for small requests");
    assert!(budget.hold(Purpose::Request, 1).is_none());
    assert!(budget.is_tight() && budget.is_crowded());
    drop((connections, bodies, request));
    assert_eq!(budget.held(), 0);
    assert!(!budget.is_tight() && !budget.is_crowded());
}

#[test]
fn a_head_yields_to_connections() {
    let budget = Budget::new(800);
    let heads: Vec<_> = (0..9)
        .map_while(|_| budget.hold(Purpose::Head, 100))
        .collect();
    assert_eq!(heads.len(), 3);
    assert!(budget.is_crowded() && !budget.is_tight());
    assert!(budget.hold(Purpose::Connection, 100).is_some());
}

fn purposes() -> impl Strategy<Value = Purpose> {
    prop_oneof![
        Just(Purpose::Connection),
        Just(Purpose::Head),
        Just(Purpose::Request),
        Just(Purpose::Body),
    ]
}

proptest! {
    #[test]
    fn what_is_held_is_the_sum_of_what_was_given_out(
        limit in 0usize..10_000,
        steps in prop::collection::vec((purposes(), 0usize..4_000, 0usize..8, any::<bool>()), 1..60),
    ) {
        let budget = Budget::new(limit);
        let mut held: Vec<Held> = Vec::new();
        for (purpose, bytes, index, resizes) in steps {
            if resizes && !held.is_empty() {
                let index = index % held.len();
                let before = held[index].bytes();
                let fits = held[index].resize(bytes);
                prop_assert!(fits || bytes > before);
                prop_assert_eq!(held[index].bytes(), if fits { bytes } else { before });
            } else if index == 0 {
                held.pop();
            } else if let Some(more) = budget.hold(purpose, bytes) {
                held.push(more);
            }
            let sum: usize = held.iter().map(Held::bytes).sum();
            prop_assert_eq!(budget.held(), sum);
            prop_assert!(sum <= limit);
        }
        drop(held);
        prop_assert_eq!(budget.held(), 0);
        prop_assert_eq!(budget.for_connections.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_size_reads_as_it_is_written(bytes in any::<usize>()) {
        prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
    }
}
