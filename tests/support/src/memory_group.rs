//! A group of the kernel with a limit of memory, as a container has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::Process;

/// The hierarchies of both versions: where they are mounted, the file of the limit, the file of the peak.
const HIERARCHIES: [(&str, &str, &str); 3] = [
    ("/sys/fs/cgroup", "memory.max", "memory.peak"),
    ("/sys/fs/cgroup/unified", "memory.max", "memory.peak"),
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.max_usage_in_bytes",
    ),
];

/// A group for the processes of one test, removed when dropped. Kill its processes before.
#[derive(Debug)]
pub struct MemoryGroup {
    folder: PathBuf,
    peak: PathBuf,
}

impl MemoryGroup {
    /// A group with this limit in bytes; `None` if this machine lets us make none.
    #[must_use]
    pub fn new(name: &str, limit: usize) -> Option<Self> {
        HIERARCHIES.iter().find_map(|(mount, limit_file, peak)| {
            let folder = Path::new(mount).join(format!("tundish-{name}-{}", std::process::id()));
            fs::create_dir(&folder).ok()?;
            let group = Self {
                peak: folder.join(peak),
                folder,
            };
            let limit_file = group.folder.join(limit_file);
            // On a folder that is no group, or of one without a controller, this file is not there.
            let is_limited =
                limit_file.exists() && fs::write(limit_file, limit.to_string()).is_ok();
            is_limited.then_some(group)
        })
    }

    /// A command that runs another one in the group, from its first instruction on.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]);
        command.arg(&self.folder).arg(program);
        command
    }

    /// The most that was used at any time, in bytes: of processes, and of files that they read.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn peak(&self) -> Result<usize> {
        let text = fs::read_to_string(&self.peak).context("read the peak")?;
        text.trim().parse().context("the peak is a number")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // A folder that is no group has no files of the kernel in it, and goes as well.
        fs::remove_dir(&self.folder).ok();
    }
}

/// The most memory that a process had resident at any time, in bytes.
///
/// # Errors
/// It is gone.
pub fn peak_of(process: &Process) -> Result<usize> {
    status_of(process, "VmHWM:")
}

/// The memory that a process has resident now, in bytes.
///
/// # Errors
/// It is gone.
pub fn resident_of(process: &Process) -> Result<usize> {
    status_of(process, "VmRSS:")
}

fn status_of(process: &Process, name: &str) -> Result<usize> {
    let path = format!("/proc/{}/status", process.id());
    let text = fs::read_to_string(path).context("read the status of the process")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kilobytes: usize = kilobytes.context("a size")?.trim().parse()?;
    Ok(kilobytes * 1024)
}
