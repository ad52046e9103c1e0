//! The import table of the design: a crate boundary is a ban on a dependency.

use std::collections::BTreeSet;
use std::process::Command;

use tests_tidy::{files, holds_tests, is, packages, root, shown, text};

/// What one crate may import.
struct Row {
    package: &'static str,
    /// The packages of ours it may name in its manifest.
    ours: &'static [&'static str],
    /// Packages that may not even be reached through others.
    unreachable: &'static [&'static str],
    /// Packages it may not name itself; those that it may name can bring them.
    unnamed: &'static [&'static str],
}

const TABLE: &[Row] = &[
    Row {
        package: "crds",
        ours: &[],
        unreachable: &["tokio", "hyper", "kube-client", "kube-runtime"],
        unnamed: &[],
    },
    Row {
        package: "proxy-core",
        ours: &[],
        unreachable: &[
            "tokio",
            "hyper",
            "kube",
            "kube-core",
            "tracing",
            "prometheus-client",
        ],
        unnamed: &["serde", "serde_json"],
    },
    Row {
        package: "proxy-wire",
        ours: &["proxy-core"],
        unreachable: &["tokio", "hyper", "kube", "kube-core"],
        unnamed: &[],
    },
    Row {
        package: "proxy-admin",
        ours: &["proxy-core"],
        unreachable: &["kube", "kube-core"],
        unnamed: &[],
    },
    Row {
        package: "proxy-sync",
        ours: &["proxy-core", "proxy-wire", "proxy-admin"],
        unreachable: &["kube", "kube-core", "k8s-openapi"],
        unnamed: &[],
    },
    Row {
        package: "proxy-gateway",
        ours: &["proxy-core", "proxy-admin"],
        unreachable: &["kube", "kube-core", "k8s-openapi"],
        unnamed: &[],
    },
    Row {
        package: "operator-compile",
        ours: &["crds", "proxy-core"],
        unreachable: &["tokio", "hyper", "kube-client", "kube-runtime"],
        unnamed: &[],
    },
    Row {
        package: "operator-controller",
        ours: &["crds", "operator-compile", "operator-publish", "proxy-core", "proxy-admin"],
        unreachable: &[],
        unnamed: &["hyper", "hyper-util"],
    },
    Row {
        package: "operator-publish",
        ours: &["proxy-core", "proxy-wire", "proxy-admin"],
        unreachable: &["kube", "kube-core", "k8s-openapi"],
        unnamed: &[],
    },
    Row {
        package: "operator",
        ours: &[
            "crds",
            "operator-compile",
            "operator-controller",
            "operator-publish",
            "proxy-core",
            "proxy-wire",
            "proxy-admin",
        ],
        unreachable: &["proxy-gateway", "proxy-sync"],
        unnamed: &[],
    },
    Row {
        package: "proxy",
        ours: &[
            "proxy-core",
            "proxy-wire",
            "proxy-sync",
            "proxy-gateway",
            "proxy-admin",
        ],
        unreachable: &["kube", "kube-core", "k8s-openapi"],
        unnamed: &[],
    },
    Row {
        package: "cli",
        ours: &[
            "crds",
            "operator-compile",
            "proxy",
            "proxy-core",
            "proxy-gateway",
            "proxy-admin",
        ],
        unreachable: &[],
        unnamed: &[],
    },
];

/// The only crate that speaks to the API server.
const KUBE_CLIENT: &str = "operator-controller";

/// The modules of proxy-core between `names` and `admit`: they don't import each other.
const SIBLINGS: [&str; 5] = ["route", "auth", "tokens", "quota", "balance"];

/// The packages below this one, without itself; `depth` 1 gives what its own manifest names.
fn below(package: &str, depth: Option<u32>) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(root())
        .args(["tree", "--offline", "-e", "normal", "--prefix", "none"]);
    cargo.args(["--format", "{p}", "-p", package]);
    if let Some(depth) = depth {
        cargo.args(["--depth", &depth.to_string()]);
    }
    let output = cargo
        .output()
        .expect("cargo runs this test, so it can be run");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let listed = String::from_utf8(output.stdout).expect("names of packages are text");
    let names = listed.lines().filter_map(|line| line.split(' ').next());
    names
        .filter(|name| !name.is_empty() && *name != package)
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_crate_imports_only_what_the_table_gives_it() {
    let ours: BTreeSet<String> = packages().iter().map(tests_tidy::Package::name).collect();
    let mut breaches = Vec::new();
    for row in TABLE {
        let named = below(row.package, Some(1));
        let reached = below(row.package, None);
        let allowed: BTreeSet<&str> = row.ours.iter().copied().collect();
        for other in named.iter().filter(|name| ours.contains(*name)) {
            if !allowed.contains(other.as_str()) {
                breaches.push(format!("{} may not import {other}", row.package));
            }
        }
        for ban in row.unreachable.iter().filter(|ban| reached.contains(**ban)) {
            breaches.push(format!(
                "{} may not reach {ban}: see `cargo tree -p {} -i {ban}`",
                row.package, row.package
            ));
        }
        for ban in row.unnamed.iter().filter(|ban| named.contains(**ban)) {
            breaches.push(format!("{} may not name {ban}", row.package));
        }
        if named.contains("kube-client") || named.contains("kube-runtime") {
            breaches.push(format!(
                "{} names a part of kube instead of kube",
                row.package
            ));
        }
        let composes = row.package == "operator" || row.package == KUBE_CLIENT;
        if reached.contains("kube-client") && !composes {
            breaches.push(format!("{} reaches the Kubernetes client", row.package));
        }
    }
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn every_crate_outside_the_tests_has_a_row() {
    let rows: BTreeSet<&str> = TABLE.iter().map(|row| row.package).collect();
    for package in packages() {
        if !package.folder.starts_with("tests") {
            assert!(
                rows.contains(package.name().as_str()),
                "no row for {}",
                package.name()
            );
        }
    }
}

#[test]
fn the_middle_modules_of_the_domain_do_not_import_each_other() {
    let source = root().join("proxy/core/src");
    let mut breaches = Vec::new();
    for sibling in SIBLINGS {
        let mut others: Vec<&str> = SIBLINGS
            .into_iter()
            .filter(|other| *other != sibling)
            .collect();
        others.push("admit");
        let mut own = vec![source.join(format!("{sibling}.rs"))];
        own.retain(|file| file.exists());
        let folder = source.join(sibling);
        if folder.is_dir() {
            own.extend(files(&folder));
        }
        for file in own
            .iter()
            .filter(|file| is(file, "rs") && !holds_tests(file))
        {
            let source = text(file);
            let code = source
                .lines()
                .map(str::trim)
                .filter(|line| !line.starts_with("//"));
            let code = code.collect::<Vec<_>>().join("\n");
            for other in &others {
                if code.contains(&format!("crate::{other}")) {
                    breaches.push(format!("{} imports crate::{other}", shown(file)));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn the_domain_reads_no_clock_no_environment_and_no_file() {
    let mut breaches = Vec::new();
    for file in files(&root().join("proxy/core/src")) {
        if is(&file, "rs") && !holds_tests(&file) {
            let code = text(&file);
            for ban in [
                "Instant::now",
                "SystemTime",
                "Timestamp::now",
                "Zoned::now",
                "std::env",
                "std::fs",
                "std::net::Tcp",
            ] {
                if code.contains(ban) {
                    breaches.push(format!("{} uses {ban}", shown(&file)));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}
