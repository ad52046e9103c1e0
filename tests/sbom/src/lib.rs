//! The software bill of materials of the image: `CycloneDX` 1.6 in JSON, of what `cargo metadata` and `Cargo.lock`
//! say. <https://cyclonedx.org/docs/1.6/json/>
//!
//! It lists what is linked into the three binaries on Linux: no tests, no build scripts and their dependencies. Equal
//! lock files give equal bills: there is no time in it, and its serial number is made of its content.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The packages of the binaries in the image.
pub const BINARIES: [&str; 3] = ["cli", "operator", "proxy"];

/// What the image is built for. The other architecture has the same crates.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
    source: Option<String>,
    repository: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `None` is a dependency of the code itself; the others are `dev` and `build`.
    kind: Option<String>,
}

/// The bill of materials.
///
/// # Errors
/// cargo does not run, or the lock file does not fit.
pub fn bill() -> Result<Value> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).context("read the lock file")?;
    of(&metadata()?, &checksums(&lock))
}

/// The licences of everything that is linked into the binaries and is not ours, each text once, below the names of
/// the crates that have it.
///
/// # Errors
/// cargo does not run, or the sources of a crate cannot be read.
pub fn licenses() -> Result<String> {
    let metadata = metadata()?;
    let linked = linked(&metadata);
    let mut crates: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let others = metadata.packages.iter().filter(|one| one.source.is_some());
    for package in others.filter(|one| linked.contains_key(one.id.as_str())) {
        let license = package.license.as_deref().unwrap_or("see its files");
        let name = format!("{} {} ({license})", package.name, package.version);
        for text in license_texts(package)? {
            crates.entry(text).or_default().insert(name.clone());
        }
    }
    let mut whole = String::new();
    for (text, names) in crates {
        let names: Vec<String> = names.into_iter().collect();
        let rule = "-".repeat(72);
        whole.push_str(&format!(
            "{rule}\n{}\n{rule}\n\n{}\n\n",
            names.join("\n"),
            text.trim()
        ));
    }
    Ok(whole)
}

/// The files beside the crate's manifest that hold its terms; its licence's name alone where it ships none.
fn license_texts(package: &Package) -> Result<Vec<String>> {
    let folder = package
        .manifest_path
        .parent()
        .context("a crate has a folder")?;
    let mut files = Vec::new();
    for file in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = file?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_uppercase();
        let starts = [
            "LICENSE",
            "LICENCE",
            "COPYING",
            "COPYRIGHT",
            "NOTICE",
            "UNLICENSE",
        ];
        if path.is_file() && starts.iter().any(|start| name.starts_with(start)) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        let license = package.license.as_deref().unwrap_or("none named");
        return Ok(vec![format!("No file of its own. Licence: {license}")]);
    }
    let read =
        |file: &PathBuf| std::fs::read(file).with_context(|| format!("read {}", file.display()));
    let texts: Result<Vec<Vec<u8>>> = files.iter().map(read).collect();
    Ok(texts?
        .iter()
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn metadata() -> Result<Metadata> {
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["metadata", "--locked", "--format-version", "1"]);
    cargo
        .args(["--filter-platform", PLATFORM])
        .current_dir(root());
    let output = cargo.output().context("run cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {said}");
    serde_json::from_slice(&output.stdout).context("read the metadata")
}

fn of(metadata: &Metadata, checksums: &BTreeMap<(String, String), String>) -> Result<Value> {
    let packages: BTreeMap<&str, &Package> = metadata
        .packages
        .iter()
        .map(|one| (one.id.as_str(), one))
        .collect();
    let linked = linked(metadata);
    let mut components = BTreeMap::new();
    let mut dependencies = BTreeMap::new();
    for (id, below) in &linked {
        let package = packages
            .get(id)
            .with_context(|| format!("no package {id}"))?;
        let reference = purl(package);
        let below = below
            .iter()
            .filter_map(|id| packages.get(id).map(|one| purl(one)));
        let below: BTreeSet<String> = below.collect();
        dependencies.insert(
            reference.clone(),
            json!({"ref": reference, "dependsOn": below}),
        );
        let key = (package.name.clone(), package.version.clone());
        components.insert(reference, component(package, checksums.get(&key)));
    }
    let components: Vec<Value> = components.into_values().collect();
    let dependencies: Vec<Value> = dependencies.into_values().collect();
    let version = packages
        .values()
        .find(|one| one.name == "proxy")
        .context("no proxy")?;
    let mut bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {
            "type": "application", "bom-ref": "tundish", "name": "tundish",
            "version": version.version, "licenses": [{"expression": "Apache-2.0"}],
        }},
        "components": components,
        "dependencies": dependencies,
    });
    let serial = serial(&bill.to_string());
    if let Some(members) = bill.as_object_mut() {
        members.insert("serialNumber".to_owned(), json!(serial));
    }
    Ok(bill)
}

/// What the binaries are linked of, each with what it needs itself.
fn linked(metadata: &Metadata) -> BTreeMap<&str, Vec<&str>> {
    let nodes = metadata.resolve.nodes.iter();
    let nodes: BTreeMap<&str, &Node> = nodes.map(|node| (node.id.as_str(), node)).collect();
    let roots = metadata
        .packages
        .iter()
        .filter(|one| one.source.is_none() && BINARIES.contains(&one.name.as_str()));
    let mut open: Vec<&str> = roots.map(|one| one.id.as_str()).collect();
    let mut linked = BTreeMap::new();
    while let Some(id) = open.pop() {
        if linked.contains_key(id) {
            continue;
        }
        let dependencies = nodes.get(id).into_iter().flat_map(|node| &node.deps);
        let is_linked = |one: &&Dependency| one.dep_kinds.iter().any(|kind| kind.kind.is_none());
        let below = dependencies.filter(is_linked).map(|one| one.pkg.as_str());
        let below: Vec<&str> = below.collect();
        open.extend(&below);
        linked.insert(id, below);
    }
    linked
}

fn component(package: &Package, checksum: Option<&String>) -> Value {
    let reference = purl(package);
    let mut component = json!({
        "type": "library", "bom-ref": reference, "name": package.name,
        "version": package.version, "purl": reference,
    });
    let Some(members) = component.as_object_mut() else {
        return component;
    };
    if let Some(license) = &package.license {
        // The old way to write OR.
        let expression = license.replace('/', " OR ");
        members.insert("licenses".to_owned(), json!([{"expression": expression}]));
    }
    if let Some(checksum) = checksum {
        let hash = json!([{"alg": "SHA-256", "content": checksum}]);
        members.insert("hashes".to_owned(), hash);
    }
    if let Some(url) = &package.repository {
        let reference = json!([{"type": "vcs", "url": url}]);
        members.insert("externalReferences".to_owned(), reference);
    }
    component
}

/// <https://github.com/package-url/purl-spec/blob/main/types-doc/cargo-definition.md>
fn purl(package: &Package) -> String {
    let version = package.version.replace('+', "%2B");
    format!("pkg:cargo/{}@{version}", package.name)
}

/// The SHA-256 of each crate, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for entry in lock.split("[[package]]") {
        let value = |key: &str| {
            let start = format!("{key} = \"");
            let line = entry.lines().find_map(|line| line.strip_prefix(&start));
            line.and_then(|line| line.strip_suffix('"'))
                .map(str::to_owned)
        };
        if let (Some(name), Some(version), Some(sum)) =
            (value("name"), value("version"), value("checksum"))
        {
            found.insert((name, version), sum);
        }
    }
    found
}

/// A UUID of the content, of version 8 (RFC 9562, 5.8).
fn serial(content: &str) -> String {
    let hash = Sha256::digest(content.as_bytes());
    let mut hex: Vec<char> = hash
        .iter()
        .flat_map(|byte| format!("{byte:02x}").chars().collect::<Vec<_>>())
        .take(32)
        .collect();
    for (place, digit) in [(12, '8'), (16, 'a')] {
        if let Some(character) = hex.get_mut(place) {
            *character = digit;
        }
    }
    let mut text = String::from("urn:uuid:");
    for (place, character) in hex.into_iter().enumerate() {
        if [8, 12, 16, 20].contains(&place) {
            text.push('-');
        }
        text.push(character);
    }
    text
}
