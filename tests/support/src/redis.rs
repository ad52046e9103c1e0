//! A real Redis server of the test's own, to be killed, paused and counted.
//!
//! Everything blocks: an answer comes within microseconds on loopback, and a server that is stopped
//! for the test's sake must not be asked.

mod resp;

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{Process, free_port};

/// A start takes 20 ms on idle cores, and much longer beside a build.
const START: Duration = Duration::from_secs(20);

/// Between two looks whether it answers.
const POLL: Duration = Duration::from_millis(5);

/// A paused server keeps connections open and answers nothing.
const ANSWER: Duration = Duration::from_secs(10);

/// A `redis-server` on a free port, killed when dropped. It keeps nothing on disk unless told to.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    port: u16,
    arguments: Vec<String>,
    /// Dropped last: the server's log and what it is told to keep are in it.
    folder: TempDir,
}

impl Redis {
    /// Starts a server that keeps nothing on disk, and waits until it answers.
    ///
    /// # Errors
    /// `redis-server` is not installed or does not come up; the error shows its log.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Like [`Redis::start`], with more arguments of `redis-server`, which win over the defaults.
    ///
    /// # Errors
    /// `redis-server` is not installed or does not come up; the error shows its log.
    pub fn start_with(arguments: &[&str]) -> Result<Self> {
        let mut redis = Self {
            process: None,
            port: free_port()?,
            arguments: arguments.iter().copied().map(str::to_owned).collect(),
            folder: TempDir::with_prefix("tundish-redis-").context("make a folder")?,
        };
        redis.run()?;
        Ok(redis)
    }

    /// `redis://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1, the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Kills it (SIGKILL) and waits until it is gone; its port refuses connections then.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port, killed before if it runs. It is empty, unless it was told to
    /// keep something on disk.
    ///
    /// # Errors
    /// It does not come up; the error shows its log.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.run()
    }

    /// Stops it in its tracks (SIGSTOP): connections stay open and nothing is answered.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.running()?.pause()
    }

    /// Lets it go on after [`Redis::pause`].
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&mut self) -> Result<()> {
        self.running()?.resume()
    }

    /// Runs one command and gives its answer as `redis-cli` prints it to a pipe: elements of arrays on
    /// lines of their own, nothing for nil.
    ///
    /// # Errors
    /// It does not answer, or with an error.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        self.ask(words)
            .with_context(|| format!("ask redis for {}", words.join(" ")))
    }

    /// How many commands it has processed since it started. Each call is one too, for the next.
    ///
    /// # Errors
    /// It does not answer.
    pub fn commands(&self) -> Result<u64> {
        let stats = self.command(&["INFO", "stats"])?;
        let count = stats
            .lines()
            .find_map(|line| line.strip_prefix("total_commands_processed:"))
            .context("find total_commands_processed")?;
        count.trim().parse().context("read a count")
    }

    fn run(&mut self) -> Result<()> {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(self.folder.path());
        command.args(&self.arguments);
        let process = Process::spawn("redis-server", &mut command, self.folder.path())
            .context("`make packages` installs redis-server")?;
        let process = self.process.insert(process);
        let mut waited = Duration::ZERO;
        loop {
            if let Some(status) = process.ended()? {
                bail!("redis-server ended ({status})\n{}", process.log());
            }
            match ask(self.port, &["PING"]) {
                Ok(_) => return Ok(()),
                // A server with a password is up when it asks for it.
                Err(error) if error.to_string().starts_with("NOAUTH") => return Ok(()),
                Err(error) if waited >= START => {
                    return Err(
                        error.context(format!("redis-server does not answer\n{}", process.log()))
                    );
                }
                Err(_) => {
                    std::thread::sleep(POLL);
                    waited += POLL;
                }
            }
        }
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("redis-server does not run")
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        ensure!(self.process.is_some(), "redis-server does not run");
        ask(self.port, words)
    }
}

/// One command on a connection of its own.
fn ask(port: u16, words: &[&str]) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("connect to redis")?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(&resp::request(words))?;
    resp::answer(&mut BufReader::new(stream))
}
