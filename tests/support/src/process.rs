//! Processes that cannot outlive their test.
//!
//! Each runs in its own process group, with its output in a file. Dropping the guard kills the group. If
//! the test dies without a drop (abort, Ctrl-C, SIGKILL), a small shell at the other end of a pipe sees
//! it close and kills the group too. When one of our programs has ended, no secret may stand in its output.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};

use crate::{eventually_ok, http, leaks};

/// The part of a log that a failed test shows: its end has the reason.
const TAIL: u64 = 8 * 1024;

/// A running process, killed with its children when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    // The start of this run's output: a restarted process appends to the log of the previous one.
    from: u64,
    reaper: Child,
    /// Its output has no secret of any manifest.
    is_ours: bool,
}

impl Process {
    /// Starts a command with both outputs appended to `logs/NAME.log`, and nothing on its input.
    ///
    /// # Errors
    /// The log cannot be opened, or the command cannot be started.
    pub fn spawn(name: &str, command: &mut Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open {}", log.display()))?;
        let from = file
            .metadata()
            .with_context(|| format!("stat {}", log.display()))?
            .len();
        let mut words = command.get_args().skip_while(|word| *word != "--manifests");
        if let Some(folder) = words.nth(1) {
            leaks::applied_folder(Path::new(folder))?;
        }
        let program = Path::new(command.get_program()).file_name();
        let is_ours = program.is_some_and(|name| name.as_encoded_bytes().starts_with(b"tundish"));
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("share the log")?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name} ({})", command.get_program().display()))?;
        let reaper = match reaper(child.id()) {
            Ok(reaper) => reaper,
            Err(error) => {
                end(child);
                return Err(error);
            }
        };
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            from,
            reaper,
            is_ours,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its output so far, both streams in order.
    pub fn log(&self) -> String {
        self.log_from(self.from).unwrap_or_default()
    }

    /// The file that [`Process::log`] reads; runs of the same name share it.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Its exit status, if it has exited.
    ///
    /// # Errors
    /// The kernel does not know it.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("ask for the state of {}", self.name))
    }

    /// Waits for a line of the log that contains `text`, and returns it.
    ///
    /// # Errors
    /// The process ended or the time passed first; the error shows the end of its log.
    pub async fn wait_for_line(&mut self, text: &str, limit: Duration) -> Result<String> {
        let what = format!("a line of {} with {text:?}", self.name);
        self.watch(&what, limit, async |log| {
            let line = log.lines().find(|line| line.contains(text));
            line.map(str::to_owned).context("no such line")
        })
        .await
    }

    /// Waits until a GET of `url` answers 200.
    ///
    /// # Errors
    /// The process ended or the time passed first; the error shows the end of its log.
    pub async fn wait_for_http(&mut self, url: &str, limit: Duration) -> Result<()> {
        let what = format!("{} to answer 200 on {url}", self.name);
        self.watch(&what, limit, async |_| match http::get(url).await? {
            answer if answer.status == 200 => Ok(()),
            answer => bail!("status {}: {}", answer.status, answer.text()),
        })
        .await
    }

    /// Waits until it exits by itself.
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        let status = eventually_ok(&what, limit, async || {
            self.ended()?.context("it still runs")
        });
        let status = status.await;
        status.with_context(|| self.tail())
    }

    /// Asks it to stop, as the kubelet does (SIGTERM), and waits until it has.
    ///
    /// # Errors
    /// It still runs after `grace`; it is killed then.
    pub async fn terminate(mut self, grace: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(grace).await
    }

    /// Kills it and its children (SIGKILL) and waits until it is gone.
    pub fn kill(self) {
        drop(self);
    }

    /// Pauses it (SIGSTOP), as a long pause of the machine would.
    ///
    /// # Errors
    /// It is gone.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Resumes it after [`Process::pause`].
    ///
    /// # Errors
    /// It is gone.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sends SIGTERM without waiting, for tests of the time until it exits.
    ///
    /// # Errors
    /// It is gone.
    pub fn ask_to_stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!("{} has ended ({status})\n{}", self.name, self.tail());
        }
        // Not reaped yet, so the id cannot belong to another process.
        kill_process(pid(self.child.id())?, signal)
            .with_context(|| format!("send {signal:?} to {}", self.name))
    }

    async fn watch<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut probe: impl AsyncFnMut(&str) -> Result<T>,
    ) -> Result<T> {
        let outcome = eventually_ok(what, limit, async || {
            // The state first: if the process exits now, the next probe sees its last output.
            let ended = self.ended()?;
            match (probe(&self.log()).await, ended) {
                (Ok(value), _) => Ok(Ok(value)),
                (Err(error), None) => Err(error),
                (Err(_), Some(status)) => Ok(Err(status)),
            }
        });
        match outcome.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(status)) => {
                bail!(
                    "waited for {what}, but it ended ({status})\n{}",
                    self.tail()
                )
            }
            Err(error) => Err(error.context(self.tail())),
        }
    }

    fn tail(&self) -> String {
        let end = std::fs::metadata(&self.log).map_or(0, |data| data.len());
        let from = self.from.max(end.saturating_sub(TAIL));
        let text = self
            .log_from(from)
            .unwrap_or_else(|error| format!("{error:#}"));
        format!("--- the end of {} ---\n{text}\n---", self.log.display())
    }

    fn log_from(&self, from: u64) -> Result<String> {
        let mut file = File::open(&self.log).context("open the log")?;
        file.seek(SeekFrom::Start(from))
            .context("seek in the log")?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).context("read the log")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

// === impl Drop ===

impl Drop for Process {
    #[expect(
        clippy::print_stderr,
        reason = "the harness shows it below the failed test"
    )]
    fn drop(&mut self) {
        // The reaper first, while the group's id is still ours.
        if self.reaper.kill().is_ok() {
            drop(self.reaper.wait());
        }
        if let Ok(group) = pid(self.child.id()) {
            // Also after the leader exited by itself: a child of it may live. An empty group is fine.
            kill_process_group(group, Signal::KILL).ok();
        }
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        } else if self.is_ours {
            let leaks = leaks::of_applied(self.log().as_bytes());
            assert!(leaks.is_empty(), "{} puts out {leaks:#?}", self.name);
        }
    }
}

/// Kills the group of `id` once our end of its input is closed, whatever closes it.
fn reaper(id: u32) -> Result<Child> {
    Command::new("sh")
        .args([
            "-c",
            r#"read -r _; kill -KILL "-$1""#,
            "reaper",
            &id.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("start the reaper")
}

fn end(mut child: Child) {
    if child.kill().is_ok() {
        drop(child.wait());
    }
}

fn pid(id: u32) -> Result<Pid> {
    let raw = i32::try_from(id).context("read a process id")?;
    Pid::from_raw(raw).context("a process id is never 0")
}

#[cfg(test)]
mod tests;
