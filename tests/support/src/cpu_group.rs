//! A group of the kernel with a part of a CPU, as a container has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where both versions of the hierarchy are mounted.
const MOUNTS: [&str; 3] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup/cpu",
];
/// The kernel hands out CPU once in this time. Short: what is left of it is a pause for the group.
const PERIOD_MICROS: u32 = 10_000;

/// A group for the processes of one test, removed when dropped. Kill its processes before.
#[derive(Debug)]
pub struct CpuGroup {
    folder: PathBuf,
}

impl CpuGroup {
    /// A group with this many hundredths of a CPU; `None` if this machine lets us make none.
    #[must_use]
    pub fn new(name: &str, percent: u32) -> Option<Self> {
        let quota = PERIOD_MICROS / 100 * percent;
        MOUNTS.iter().find_map(|mount| {
            let folder = Path::new(mount).join(format!("tundish-{name}-{}", std::process::id()));
            fs::create_dir(&folder).ok()?;
            let group = Self { folder };
            group.limit(quota).then_some(group)
        })
    }

    /// Sets the limit. On a folder that is no group, or of one without a controller, the files are not there.
    fn limit(&self, quota: u32) -> bool {
        let set = |file: &str, value: String| {
            let file = self.folder.join(file);
            file.exists() && fs::write(file, value).is_ok()
        };
        set("cpu.max", format!("{quota} {PERIOD_MICROS}"))
            || set("cpu.cfs_period_us", PERIOD_MICROS.to_string())
                && set("cpu.cfs_quota_us", quota.to_string())
    }

    /// A command that runs another one in the group, from its first instruction on.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]);
        command.arg(&self.folder).arg(program);
        command
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.folder).ok();
    }
}
