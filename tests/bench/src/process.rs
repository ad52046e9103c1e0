//! CPU and memory of a process, from `/proc`, and the runtime of this one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proxy_admin::clock;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How long a process is watched to see whether it rests: long enough for several of the kernel's steps of
/// 10 ms, and for what a gateway does every second anyway.
const LOOK: Duration = Duration::from_millis(800);

/// How long it may take to rest, also below valgrind.
const REST: Duration = Duration::from_secs(60);

/// CPU time of all threads of a process, user and system.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // Fields after the command name, which may hold anything (proc_pid_stat(5)).
    let fields: Vec<&str> = text
        .rsplit_once(')')
        .context("no stat")?
        .1
        .split_ascii_whitespace()
        .collect();
    let ticks =
        |index: usize| -> Result<u64> { Ok(fields.get(index).context("too short")?.parse()?) };
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_micros(
        (ticks(11)? + ticks(12)?) * 1_000_000 / per_second,
    ))
}

/// Waits until a process has nothing left to do: what the first requests start in the background is done.
pub(crate) async fn rest(pid: u32) -> Result<()> {
    let start = clock::instant();
    let mut before = cpu(pid)?;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = cpu(pid)?;
        if now.saturating_sub(before) <= LOOK / 20 {
            return Ok(());
        }
        before = now;
        let waited = clock::instant().saturating_duration_since(start);
        ensure!(waited < REST, "the process has been busy for {waited:?}");
    }
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    size(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Memory of a process in bytes, pages that it shares counted in part.
pub(crate) fn proportional(pid: u32) -> Result<u64> {
    size(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn size(file: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .with_context(|| format!("find {name} in {file}"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

/// A runtime on the calling thread and `threads` more.
pub(crate) fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?)
}

/// Allows this process and its children the connections that they need.
pub(crate) fn open_files(count: u64) -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    ensure!(
        maximum.is_none_or(|maximum| maximum >= count),
        "{count} open files are needed, and the limit is {maximum:?}: raise it with ulimit -Hn"
    );
    let more = Rlimit {
        current: Some(count),
        maximum,
    };
    setrlimit(Resource::Nofile, more).context("raise the limit of open files")
}
