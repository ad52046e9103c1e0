//! How much memory the system lets this process have.

use std::fs;
use std::path::Path;

/// Without a limit of a cgroup a process takes a quarter of the machine, and not more than this.
const MOST_WITHOUT_LIMIT: usize = 1 << 30;

/// Where the hierarchies of cgroups are: of version 2 alone, of version 2 beside version 1, and that of
/// version 1 for memory.
const UNIFIED: [&str; 2] = ["sys/fs/cgroup", "sys/fs/cgroup/unified"];
const VERSION_1: &str = "sys/fs/cgroup/memory";

/// The budget for what the process holds for its peers: 60 % of its cgroup's limit, which leaves the rest to
/// its tables, the kernel's buffers and the allocator's waste; without a limit a quarter of the machine,
/// 1 GiB at most.
#[must_use]
pub fn default_budget() -> usize {
    default_budget_below(Path::new("/"))
}

/// The smallest limit of the process's own cgroup and those above it, of both versions.
#[must_use]
pub fn limit() -> Option<usize> {
    limit_below(Path::new("/"))
}

pub(super) fn default_budget_below(root: &Path) -> usize {
    let machine = machine_below(root);
    // A limit beyond the machine is none.
    match limit_below(root).filter(|limit| machine.is_none_or(|machine| *limit < machine)) {
        Some(limit) => limit / 10 * 6,
        None => machine.map_or(MOST_WITHOUT_LIMIT, |machine| {
            MOST_WITHOUT_LIMIT.min(machine / 4)
        }),
    }
}

fn limit_below(root: &Path) -> Option<usize> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = groups.lines().filter_map(|line| {
        // number:controllers:path
        let (_number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        if controllers.is_empty() {
            let of_mount = |mount: &&str| least(&root.join(mount), path, "memory.max");
            UNIFIED.iter().filter_map(of_mount).min()
        } else if controllers.split(',').any(|one| one == "memory") {
            least(&root.join(VERSION_1), path, "memory.limit_in_bytes")
        } else {
            None
        }
    });
    limits.min()
}

/// The least limit of a group and of those above it. In a container without a namespace of its own the path
/// is the host's, while its group is at the root of the mount: what is not there sets no limit.
fn least(mount: &Path, path: &str, file: &str) -> Option<usize> {
    let path = Path::new(path.trim_start_matches('/'));
    let limits = path.ancestors().filter_map(|group| {
        let text = fs::read_to_string(mount.join(group).join(file)).ok()?;
        // `max` is no limit; version 1 writes a number that is larger than any machine.
        text.trim().parse().ok()
    });
    limits.min()
}

fn machine_below(root: &Path) -> Option<usize> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes: usize = total?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}
