//! A real Redis server of one test, which can kill it, pause it and count its commands.
//!
//! Every call blocks: an answer takes microseconds on loopback. Do not call a paused server.

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

/// Interval of probes until it answers.
const POLL: Duration = Duration::from_millis(5);

/// A paused server keeps connections open and answers nothing.
const ANSWER: Duration = Duration::from_secs(10);

/// A `redis-server` on a free port, killed when dropped. It keeps nothing on disk unless its arguments say so.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    port: u16,
    arguments: Vec<String>,
    /// Dropped last: it holds the server's log and files.
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

    /// Restarts it on the same port; kills it first if it runs. It is empty unless its arguments keep data on
    /// disk.
    ///
    /// # Errors
    /// It does not come up; the error shows its log.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.run()
    }

    /// Pauses it (SIGSTOP): connections stay open without answers.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.running()?.pause()
    }

    /// Resumes it after [`Redis::pause`].
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&mut self) -> Result<()> {
        self.running()?.resume()
    }

    /// Runs one command and returns its answer as `redis-cli` prints it to a pipe: one line per element of
    /// an array, an empty one for nil.
    ///
    /// # Errors
    /// It does not answer, or with an error.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        self.ask(words)
            .with_context(|| format!("ask redis for {}", words.join(" ")))
    }

    /// The number of commands since its start. Each call of this function adds one.
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
                // A server with a password is up once it asks for it.
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

/// One command on a new connection.
fn ask(port: u16, words: &[&str]) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("connect to redis")?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(&resp::request(words))?;
    resp::answer(&mut BufReader::new(stream))
}
