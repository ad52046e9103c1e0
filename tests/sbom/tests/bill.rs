//! The bill of materials follows `CycloneDX` 1.6, and has everything that is linked.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value
        .get(member)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn list<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value
        .get(member)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

#[test]
fn it_follows_the_schema() -> Result<()> {
    let bill = tests_sbom::bill()?;
    assert_eq!(text(&bill, "bomFormat"), "CycloneDX");
    assert_eq!(text(&bill, "specVersion"), "1.6");
    // ^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$
    let serial = text(&bill, "serialNumber")
        .strip_prefix("urn:uuid:")
        .context("a UUID")?;
    let parts: Vec<usize> = serial.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "{serial}");
    let known: BTreeSet<&str> = [
        "$schema",
        "bomFormat",
        "specVersion",
        "serialNumber",
        "version",
        "metadata",
        "components",
        "dependencies",
    ]
    .into();
    let members = bill
        .as_object()
        .context("an object")?
        .keys()
        .map(String::as_str);
    assert_eq!(members.collect::<BTreeSet<_>>(), known);

    let mut references = BTreeSet::new();
    for component in list(&bill, "components") {
        let reference = text(component, "bom-ref");
        assert!(references.insert(reference), "{reference} is there twice");
        assert_eq!(text(component, "type"), "library");
        let (name, version) = (text(component, "name"), text(component, "version"));
        assert!(!name.is_empty() && !version.is_empty(), "{component}");
        let purl = format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"));
        assert_eq!(text(component, "purl"), purl);
        let license = list(component, "licenses").first().context("a licence")?;
        let words = text(license, "expression").split([' ', '(', ')']);
        let is_known = |word: &str| {
            word.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
        };
        assert!(words.clone().all(is_known), "{license}");
        for hash in list(component, "hashes") {
            assert_eq!(text(hash, "alg"), "SHA-256");
            assert_eq!(text(hash, "content").len(), 64);
        }
    }
    let dependencies = list(&bill, "dependencies");
    assert_eq!(dependencies.len(), references.len());
    for dependency in dependencies {
        assert!(references.contains(text(dependency, "ref")));
        for below in list(dependency, "dependsOn") {
            assert!(
                references.contains(below.as_str().unwrap_or_default()),
                "{below}"
            );
        }
    }
    Ok(())
}

#[test]
fn it_has_what_cargo_links_and_no_more() -> Result<()> {
    let bill = tests_sbom::bill()?;
    let components = list(&bill, "components").iter();
    let listed: BTreeSet<String> = components
        .map(|one| format!("{} v{}", text(one, "name"), text(one, "version")))
        .collect();
    let mut tree = Command::new(env!("CARGO"));
    tree.args([
        "tree", "--locked", "-e", "normal", "--prefix", "none", "--format", "{p}",
    ]);
    tree.args(["--target", "x86_64-unknown-linux-gnu"]);
    for binary in tests_sbom::BINARIES {
        tree.args(["-p", binary]);
    }
    let output = tree
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let shown = String::from_utf8(output.stdout)?;
    let packages = shown.lines().filter(|line| !line.is_empty());
    let linked: BTreeSet<String> = packages
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    let missing: Vec<_> = linked.difference(&listed).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(
        listed.contains("rustls v0.23.46") || listed.iter().any(|one| one.starts_with("rustls v"))
    );
    // Of what only tests or builds need there is nothing.
    for other in ["proptest v", "tests-support v", "cc v"] {
        assert!(!listed.iter().any(|one| one.starts_with(other)), "{other}");
    }
    // Everything from the registry is pinned by its hash.
    let unpinned = list(&bill, "components")
        .iter()
        .filter(|one| list(one, "hashes").is_empty());
    let unpinned: BTreeSet<&str> = unpinned.map(|one| text(one, "name")).collect();
    assert!(unpinned.contains("proxy-core"));
    assert!(
        unpinned
            .iter()
            .all(|name| shown.contains(&format!("{name} v0.1.0 (/"))),
        "{unpinned:?}"
    );
    Ok(())
}

#[test]
fn equal_lock_files_give_equal_bills() -> Result<()> {
    assert_eq!(
        tests_sbom::bill()?.to_string(),
        tests_sbom::bill()?.to_string()
    );
    Ok(())
}
