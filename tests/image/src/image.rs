//! What goes into the image besides files of the system.

use std::path::{Path, PathBuf};

/// Who the processes are. The chart sets the same ids.
pub const USER: &str = "65532:65532";

/// Settings of every process.
///
/// glibc keeps up to 64 MiB for each thread of what large bodies held; mapped apart, it goes back at once.
pub const ENVIRONMENT: [(&str, &str); 2] = [
    ("PATH", "/usr/local/bin"),
    ("MALLOC_MMAP_THRESHOLD_", "1048576"),
];

/// What the image is made of.
#[derive(Debug)]
pub struct Image<'a> {
    /// The programs, for /usr/local/bin. The first one is the entry point.
    pub programs: Vec<PathBuf>,
    /// The licence of the programs.
    pub license: &'a Path,
    /// The licences of all that is linked into them.
    pub licenses: &'a str,
    /// The version, which is the image's tag as well.
    pub version: &'a str,
    /// Where its source is.
    pub source: &'a str,
    /// The commit; empty where it is not known.
    pub revision: &'a str,
}
