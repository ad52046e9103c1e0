//! `tundish key`: new keys of consumers. The key goes to its owner, and its hash into a Secret.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use jiff::Timestamp;
use operator_compile::consumer_key::{ATTRIBUTE_PREFIX, BOUND, CONSUMER, EXPIRES};
use proxy_core::auth::{KeyDigest, form};
use zeroize::Zeroizing;

use crate::args::NewKeyArgs;
use crate::report;

#[cfg(test)]
mod tests;

/// Prints a Secret with the hash of a new key to stdout, and the key to stderr or into a file.
///
/// # Errors
/// The key could not be kept, or would be expired. No Secret is printed then.
pub fn new(args: &NewKeyArgs) -> Result<ExitCode> {
    let now = Timestamp::from_millisecond(proxy_admin::clock::now().unix_ms)?;
    let key = Zeroizing::new(form::make(&args.namespace, rand::random())?);
    let manifest = manifest(args, &KeyDigest::of(&key), now)?;
    match &args.key_file {
        Some(file) => keep(&key, file)?,
        None => report::note(&format!(
            "The key of {}/{}. It is stored nowhere and shown this once:\n{}",
            args.namespace,
            args.consumer(),
            *key
        )),
    }
    report::line(manifest.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// The Secret, as YAML.
fn manifest(args: &NewKeyArgs, digest: &KeyDigest, now: Timestamp) -> Result<String> {
    let labels = args.labels.iter();
    let labels = labels.map(|label| (label.name.clone(), label.value.clone()));
    let attributes = args.attributes.iter();
    let attributes = attributes.map(|label| {
        (
            format!("{ATTRIBUTE_PREFIX}{}", label.name),
            label.value.clone(),
        )
    });
    let labels: Vec<(String, String)> = labels.chain(attributes).collect();
    let mut annotations = Vec::new();
    if let Some(consumer) = &args.consumer {
        annotations.push((CONSUMER.to_owned(), consumer.clone()));
    }
    if let Some(lifetime) = args.expires {
        annotations.push((EXPIRES.to_owned(), lifetime.end(now)?.to_string()));
    }
    let mut text = String::from("apiVersion: v1\nkind: Secret\nmetadata:\n");
    writeln!(text, "  name: {}", quoted(&args.name)?)?;
    writeln!(text, "  namespace: {}", quoted(&args.namespace)?)?;
    for (member, pairs) in [("labels", &labels), ("annotations", &annotations)] {
        if !pairs.is_empty() {
            writeln!(text, "  {member}:")?;
        }
        for (name, value) in pairs {
            writeln!(text, "    {}: {}", quoted(name)?, quoted(value)?)?;
        }
    }
    let hex = hex::encode(digest.as_bytes());
    write!(
        text,
        "type: Opaque\nstringData:\n  {BOUND}: {}\n",
        quoted(&hex)?
    )?;
    Ok(text)
}

/// A string of JSON is one of YAML, too, whatever is in it.
fn quoted(text: &str) -> Result<String> {
    Ok(serde_json::to_string(text)?)
}

/// Writes the key into a new file that its owner alone may read.
fn keep(key: &str, file: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options
        .open(file)
        .and_then(|mut open| open.write_all(format!("{key}\n").as_bytes()));
    written.with_context(|| format!("cannot keep the key in {}", file.display()))
}
