//! Finds secrets in what programs put out. Those of all manifests that tests of this process apply are looked for in
//! the output of each of our programs when it ends.
//!
//! A secret counts as leaked if a run of 16 of its characters (of a shorter one all) stands anywhere, as it
//! is, in hex, or within base64 or percent-encoding, wherever the encoded text begins.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use parking_lot::Mutex;
use serde_json::Value;

#[cfg(test)]
mod tests;

/// Bytes of a secret that are enough to call it leaked. Fewer occur by chance, or in names.
const RUN: usize = 16;

/// Bytes of an encoded run by which it is looked up; the shortest secret has as many.
const HEAD: usize = 7;

/// Secrets of the manifests that this process applied.
static APPLIED: Mutex<Option<Secrets>> = Mutex::new(None);

/// Secrets in use, each with a name.
#[derive(Debug, Default)]
pub struct Secrets {
    /// The first bytes of each encoded run, with what is to follow and whose run it is.
    runs: HashMap<[u8; HEAD], Vec<(Vec<u8>, usize)>>,
    names: Vec<String>,
}

/// Takes note of the values of the Secrets in these manifests. Shorter ones than can be looked for are left out, and
/// so is what is not YAML: it is applied to see it refused.
pub(crate) fn applied(manifests: &str) {
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifests).unwrap_or_default();
    let is_secret = |one: &&Value| one.get("kind").is_some_and(|kind| kind == "Secret");
    let mut known = APPLIED.lock();
    let known = known.get_or_insert_default();
    for secret in objects.iter().filter(is_secret) {
        let values = secret.get("stringData").and_then(Value::as_object);
        for (_, value) in values.into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            if value.len() >= HEAD && !known.names.iter().any(|name| name == value) {
                // The whole: the names of tests stand in many of them.
                known.add_runs(value, value, value.len());
            }
        }
    }
}

/// The same for the files of a folder.
pub(crate) fn applied_folder(folder: &Path) -> Result<()> {
    for file in std::fs::read_dir(folder).context("list the manifests")? {
        let file = file?.path();
        if file.extension().is_some_and(|kind| kind == "yaml") {
            applied(&std::fs::read_to_string(file)?);
        }
    }
    Ok(())
}

/// The secrets of manifests that stand in `output`, with the text around them.
pub(crate) fn of_applied(output: &[u8]) -> Vec<String> {
    let known = APPLIED.lock();
    known
        .as_ref()
        .map_or_else(Vec::new, |known| known.found_in(output))
}

// === impl Secrets ===

impl Secrets {
    /// Adds a secret, of seven bytes or more. `name` is what a finding says.
    pub fn add(&mut self, name: &str, secret: &str) {
        self.add_runs(name, secret, secret.len().min(RUN));
    }

    /// Adds a secret of which each run of this length is looked for.
    fn add_runs(&mut self, name: &str, secret: &str, run: usize) {
        assert!(run >= HEAD, "{name} is too short to be looked for");
        let index = self.names.len();
        self.names.push(name.to_owned());
        for part in secret.as_bytes().windows(run) {
            for form in forms(part) {
                let Some(head) = form.first_chunk::<HEAD>() else {
                    continue;
                };
                self.runs.entry(*head).or_default().push((form, index));
            }
        }
    }

    /// The secrets that stand in `output`, each once, with the text around the first place.
    #[must_use]
    pub fn found_in(&self, output: &[u8]) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (at, head) in output.array_windows::<HEAD>().enumerate() {
            let Some(runs) = self.runs.get(head) else {
                continue;
            };
            let rest = output.get(at..).unwrap_or_default();
            for (run, index) in runs {
                if rest.starts_with(run) && seen.insert(*index) {
                    let name = self.names.get(*index).map_or("", String::as_str);
                    let around = output.get(at.saturating_sub(120)..(at + 80).min(output.len()));
                    let around = String::from_utf8_lossy(around.unwrap_or_default());
                    found.push(format!("{name}: ...{around}..."));
                }
            }
        }
        found
    }

    /// Those that do not stand in `output`.
    #[must_use]
    pub fn missing_in(&self, output: &[u8]) -> Vec<&str> {
        let found = self.found_in(output);
        let is_found = |name: &str| {
            found
                .iter()
                .any(|one| one.starts_with(&format!("{name}: ")))
        };
        let names = self.names.iter().map(String::as_str);
        names.filter(|name| !is_found(name)).collect()
    }
}

/// A run of a secret as itself, in hex, percent-encoded, and as base64 that begins up to two bytes before it.
fn forms(part: &[u8]) -> BTreeSet<Vec<u8>> {
    let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = part
        .iter()
        .map(|&byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    let mut forms: BTreeSet<Vec<u8>> = [
        part.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        percent.into_bytes(),
    ]
    .into();
    for engine in [STANDARD, URL_SAFE] {
        // Characters that share bits with what stands around are not known.
        for (before, from) in [(&b""[..], 0), (b"_", 2), (b"__", 3)] {
            let text = engine.encode([before, part].concat());
            let whole = (before.len() + part.len()) / 3 * 4;
            forms.extend(text.get(from..whole).map(|text| text.as_bytes().to_vec()));
        }
    }
    forms
}
