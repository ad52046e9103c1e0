//! The import table of the house: a crate boundary is a ban on a dependency.

use std::collections::BTreeSet;
use std::process::Command;

use tests_tidy::{files, holds_tests, is, packages, root, shown, text};

/// What one crate may import.
struct Row {
    package: &'static str,
    /// Our packages that its manifest may name.
    ours: &'static [&'static str],
    /// Packages that it may not depend on, not through others either.
    unreachable: &'static [&'static str],
    /// Packages that its manifest may not name; those that it may name can bring them.
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
        package: "proxy-api",
        ours: &["proxy-core"],
        unreachable: &[
            "tokio",
            "hyper",
            "redis",
            "kube",
            "kube-core",
            "tracing",
            "prometheus-client",
        ],
        unnamed: &[],
    },
    Row {
        package: "proxy-ledger",
        ours: &["proxy-core", "proxy-admin"],
        unreachable: &["kube", "kube-core", "k8s-openapi"],
        // proxy-admin serves its port with them.
        unnamed: &["hyper", "hyper-util"],
    },
    Row {
        package: "proxy-identity",
        ours: &["proxy-core", "proxy-admin"],
        unreachable: &["kube", "kube-core", "k8s-openapi", "redis"],
        unnamed: &[],
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
        ours: &[
            "proxy-core",
            "proxy-api",
            "proxy-ledger",
            "proxy-identity",
            "proxy-admin",
        ],
        unreachable: &["kube", "kube-core", "k8s-openapi"],
        unnamed: &["redis", "jsonwebtoken"],
    },
    Row {
        package: "operator-compile",
        ours: &["crds", "proxy-core"],
        unreachable: &["tokio", "hyper", "kube-client", "kube-runtime"],
        unnamed: &[],
    },
    Row {
        package: "operator-controller",
        ours: &[
            "crds",
            "operator-compile",
            "operator-publish",
            "proxy-core",
            "proxy-admin",
        ],
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
            "proxy-api",
            "proxy-ledger",
            "proxy-identity",
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
            "proxy-api",
            "proxy-ledger",
            "proxy-gateway",
            "proxy-admin",
        ],
        unreachable: &[],
        unnamed: &[],
    },
];

/// The only crate that speaks to the API server, and the binary made of it.
const KUBE_CLIENT: [&str; 2] = ["operator-controller", "operator"];

/// The only crate that speaks to the store of counters, and what is made of it.
const REDIS: [&str; 4] = ["proxy-ledger", "proxy-gateway", "proxy", "cli"];

/// The modules of proxy-core between `names` and `table`: they do not import each other.
const SIBLINGS: [&str; 5] = ["route", "auth", "tokens", "quota", "balance"];

/// The packages that this one depends on; with `depth` 1 those that its own manifest names.
fn below(package: &str, depth: Option<u32>) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(root())
        .args(["tree", "--offline", "-e", "normal", "--prefix", "none"]);
    cargo.args(["--format", "{p}", "-p", package]);
    if let Some(depth) = depth {
        cargo.args(["--depth", &depth.to_string()]);
    }
    let output = cargo.output().expect("cargo runs this test");
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

/// What a package names and reaches against its row.
fn breaches(
    row: &Row,
    ours: &BTreeSet<String>,
    named: &BTreeSet<String>,
    reached: &BTreeSet<String>,
) -> Vec<String> {
    let package = row.package;
    let mut found = Vec::new();
    for other in named.intersection(ours) {
        if !row.ours.contains(&other.as_str()) {
            found.push(format!("{package} may not import {other}"));
        }
    }
    for ban in row.unreachable.iter().filter(|ban| reached.contains(**ban)) {
        found.push(format!(
            "{package} may not reach {ban}: see `cargo tree -p {package} -i {ban}`"
        ));
    }
    for ban in row.unnamed.iter().filter(|ban| named.contains(**ban)) {
        found.push(format!("{package} may not name {ban}"));
    }
    if named.contains("kube-client") || named.contains("kube-runtime") {
        found.push(format!("{package} names a part of kube instead of kube"));
    }
    if reached.contains("kube-client") && !KUBE_CLIENT.contains(&package) {
        found.push(format!("{package} reaches the Kubernetes client"));
    }
    if reached.contains("redis") && !REDIS.contains(&package) {
        found.push(format!("{package} reaches redis"));
    }
    found
}

#[test]
fn every_crate_imports_only_what_the_table_allows() {
    let ours: BTreeSet<String> = packages().iter().map(tests_tidy::Package::name).collect();
    let mut found = Vec::new();
    for row in TABLE {
        if ours.contains(row.package) {
            let (named, reached) = (below(row.package, Some(1)), below(row.package, None));
            found.extend(breaches(row, &ours, &named, &reached));
        } else {
            found.push(format!("no crate for the row of {}", row.package));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_breach_of_the_table_is_found() {
    let row = Row {
        package: "proxy-gateway",
        ours: &["proxy-core"],
        unreachable: &["k8s-openapi"],
        unnamed: &["redis"],
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let ours = names(&["proxy-core", "proxy-wire"]);
    let check = |named: &[&str], reached: &[&str], expect: &[&str]| {
        assert_eq!(
            breaches(&row, &ours, &names(named), &names(reached)),
            expect
        );
    };
    check(
        &["proxy-core", "tokio"],
        &["proxy-core", "redis", "tokio"],
        &[],
    );
    check(
        &["proxy-wire"],
        &[],
        &["proxy-gateway may not import proxy-wire"],
    );
    check(
        &["redis"],
        &["redis"],
        &["proxy-gateway may not name redis"],
    );
    check(
        &["kube-client"],
        &[],
        &["proxy-gateway names a part of kube instead of kube"],
    );
    check(
        &[],
        &["kube-client"],
        &["proxy-gateway reaches the Kubernetes client"],
    );
    check(
        &[],
        &["k8s-openapi"],
        &[
            "proxy-gateway may not reach k8s-openapi: see `cargo tree -p proxy-gateway -i k8s-openapi`",
        ],
    );
    let pure = Row {
        package: "proxy-wire",
        unnamed: &[],
        ..row
    };
    let found = breaches(&pure, &ours, &names(&[]), &names(&["redis"]));
    assert_eq!(found, ["proxy-wire reaches redis"]);
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
        others.extend(["table", "admit", "whatif"]);
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
fn pure_crates_read_no_clock_no_environment_and_no_file() {
    let pure = ["proxy/core/src", "proxy/api/src"].map(|folder| root().join(folder));
    let mut breaches = Vec::new();
    for file in pure
        .iter()
        .filter(|folder| folder.is_dir())
        .flat_map(|folder| files(folder))
    {
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
