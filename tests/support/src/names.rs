//! The names that a process can look up: a hosts file of its own, and no server of names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Binds both files over those of the machine, in a mount namespace that ends with the process.
const BIND: &str = r#"mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/resolv.conf" /etc/resolv.conf && exec "$@""#;

/// Names of 127.0.0.1 for the processes of a test.
#[derive(Debug)]
pub struct Names {
    folder: PathBuf,
}

impl Names {
    /// Keeps its files in this folder. No name is known.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn new(folder: &Path) -> Result<Self> {
        let names = Self {
            folder: folder.to_owned(),
        };
        // Nothing listens there, so a name that is not in the file is not found, and soon.
        fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\n").context("write a file")?;
        names.know(&[])?;
        Ok(names)
    }

    /// From now on these names are known, and no others.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn know(&self, names: &[&str]) -> Result<()> {
        let lines = names.iter().map(|name| format!("127.0.0.1 {name}\n"));
        // In place: what is bound is this file, and not its name.
        fs::write(self.folder.join("hosts"), lines.collect::<String>()).context("write the names")
    }

    /// A command that runs another one with these names.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", BIND]);
        command.arg(&self.folder).arg(program);
        command
    }
}
