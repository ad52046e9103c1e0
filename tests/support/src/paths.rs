//! Paths of the workspace, its binaries and the tools that `make tools` builds, and free ports.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// The programs in the folder `KUBEBUILDER_ASSETS`; the name and the set are those of Kubernetes' envtest.
const ASSETS: [&str; 3] = ["kube-apiserver", "etcd", "kubectl"];

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// A binary of the workspace, as the last `cargo build` left it.
///
/// `TUNDISH_TEST_PROFILE=release` prefers the release build; otherwise the debug build is taken.
///
/// # Errors
/// It has not been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let target =
        setting("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let release = setting("TUNDISH_TEST_PROFILE").is_some_and(|profile| profile == "release");
    let profile = if release { "release" } else { "debug" };
    let path = workspace().join(target).join(profile).join(name);
    let path = path.canonicalize().with_context(|| {
        let flag = if release { " --release" } else { "" };
        format!(
            "find {}: `cargo build --workspace --bins{flag}` makes it",
            path.display()
        )
    })?;
    warn_if_stale(&path);
    Ok(path)
}

/// A program that tests run against: `kube-apiserver`, `etcd`, `kubectl`, `kube-controller-manager`,
/// `kube-scheduler`, `kwok`, `helm`, `helm3`, or the folder `kwok-stages`.
///
/// Searched in `KUBEBUILDER_ASSETS` (which holds three of them), then in the cache of `make tools`.
///
/// # Errors
/// It is in neither; the error says how to get it.
pub fn tool(name: &str) -> Result<PathBuf> {
    if ASSETS.contains(&name)
        && let Some(folder) = setting("KUBEBUILDER_ASSETS")
    {
        let path = Path::new(&folder).join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    let path = tools_folder()?.join(name);
    if !path.exists() {
        bail!(
            "{name} is missing ({}): `make tools` builds it",
            path.display()
        );
    }
    Ok(path)
}

/// The folder with the official client packages: `venv/bin/python` and `node_modules`.
///
/// # Errors
/// They are not installed; the error says how to do that.
pub fn clients() -> Result<PathBuf> {
    let tools = workspace().join("tests/tools");
    let files = [
        "clients/package-lock.json",
        "clients/requirements.lock",
        "clients.sh",
    ];
    let folder = cached("clients", files.map(|file| tools.join(file)))?;
    if !folder.join("ready").exists() {
        bail!(
            "the client packages are missing ({}): `make clients` installs them",
            folder.display()
        );
    }
    Ok(folder)
}

/// The folder with the programs of coding agents: `claude`, `codex`, `copilot`.
///
/// # Errors
/// They are not installed; the error says how to do that.
pub fn agents() -> Result<PathBuf> {
    let tools = workspace().join("tests/tools");
    let files = ["agents/package-lock.json", "agents.sh"];
    let folder = cached("agents", files.map(|file| tools.join(file)))?;
    if !folder.join("ready").exists() {
        bail!(
            "the coding agents are missing ({}): `make agents` installs them",
            folder.display()
        );
    }
    Ok(folder.join("node_modules/.bin"))
}

/// The folder with the gateways to compare with: `venv/bin/litellm`.
///
/// # Errors
/// They are not installed; the error says how to do that.
pub fn peers() -> Result<PathBuf> {
    let tools = workspace().join("tests/tools");
    let files = ["peers/requirements.lock", "peers.sh"];
    let folder = cached("peers", files.map(|file| tools.join(file)))?;
    if !folder.join("ready").exists() {
        bail!(
            "the peers are missing ({}): `make peers` installs them",
            folder.display()
        );
    }
    Ok(folder)
}

/// A free TCP port of 127.0.0.1, never returned twice in this process.
///
/// It is below the range from which the kernel takes the ports of outgoing connections, so that only
/// another listener could take it meanwhile.
///
/// # Errors
/// Every port of the range is taken.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 16_384;
    const COUNT: u16 = 16_384;
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run at the same time start at different ports.
    let start = u16::try_from(std::process::id().wrapping_mul(389) % u32::from(COUNT))
        .context("read the process id")?;
    for _ in 0..COUNT {
        let offset = start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", FIRST + offset)).is_ok() {
            return Ok(FIRST + offset);
        }
    }
    bail!(
        "no port of 127.0.0.1 is free from {FIRST} to {}",
        FIRST + COUNT - 1
    )
}

/// The same key as in tests/tools/build.sh: all go.sum files in the order of their paths, then the script.
fn tools_folder() -> Result<PathBuf> {
    if let Some(folder) = setting("TUNDISH_TOOLS") {
        return Ok(PathBuf::from(folder));
    }
    let tools = workspace().join("tests/tools");
    let entries = std::fs::read_dir(&tools).with_context(|| format!("list {}", tools.display()))?;
    let mut sums = BTreeMap::new();
    for entry in entries {
        let path = entry.context("list the tools")?.path().join("go.sum");
        if path.exists() {
            sums.insert(path.to_string_lossy().into_owned(), path);
        }
    }
    cached("tools", sums.into_values().chain([tools.join("build.sh")]))
}

/// The cache folder of the versions that these files pin.
fn cached(kind: &str, files: impl IntoIterator<Item = PathBuf>) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(std::fs::read(&file).with_context(|| format!("read {}", file.display()))?);
    }
    let mut key = hex::encode(hash.finalize());
    key.truncate(16);
    Ok(cache()?.join(kind).join(key))
}

fn cache() -> Result<PathBuf> {
    if let Some(folder) = setting("TUNDISH_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    let base = match (setting("XDG_CACHE_HOME"), setting("HOME")) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(home)) => Path::new(&home).join(".cache"),
        (None, None) => bail!("no place for a cache: set TUNDISH_CACHE"),
    };
    Ok(base.join("tundish"))
}

/// How many requests a test of load sends at least: `TUNDISH_TEST_REQUESTS`, else `usually`.
pub fn requests(usually: usize) -> usize {
    number("TUNDISH_TEST_REQUESTS").unwrap_or(usually)
}

/// How long an outage lasts at least in a test: `TUNDISH_TEST_OUTAGE_SECONDS`, else only as long as it takes to see
/// what it does.
pub fn outage() -> Duration {
    Duration::from_secs(number("TUNDISH_TEST_OUTAGE_SECONDS").unwrap_or(0))
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    setting(name)?.to_str()?.parse().ok()
}

/// An empty variable counts as unset, as in a shell's `${NAME:-}`.
fn setting(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Cargo writes the sources of a binary beside it. A change that was not built explains many surprising
/// failures, and the harness shows this line below a failed test.
#[expect(
    clippy::print_stderr,
    reason = "the harness shows it below the failed test"
)]
fn warn_if_stale(binary: &Path) {
    if let Some(source) = newer_source(binary) {
        eprintln!("warning: {} is older than {source}", binary.display());
    }
}

fn newer_source(binary: &Path) -> Option<String> {
    let modified = |path: &Path| -> Option<SystemTime> { path.metadata().ok()?.modified().ok() };
    let built = modified(binary)?;
    let rule = std::fs::read_to_string(binary.with_extension("d")).ok()?;
    let (_, sources) = rule.split_once(": ")?;
    let mut sources = sources.split_whitespace();
    sources
        .find(|source| modified(Path::new(source)) > Some(built))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests;
