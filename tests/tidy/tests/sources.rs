//! Every source file is compiled, bounded in size, and in a package that follows the conventions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tests_tidy::{Package, files, holds_tests, is, packages, root, shown, text};

/// Aim for shorter files than this; `--nocapture` prints the longer ones.
const LONG: usize = 400;
const TOO_LONG: usize = 600;

/// The package's own files, without those of packages below it.
fn own(package: &Package, all: &[Package]) -> Vec<PathBuf> {
    let inner: Vec<PathBuf> = all
        .iter()
        .filter(|other| other.folder != package.folder && other.folder.starts_with(&package.folder))
        .map(Package::path)
        .collect();
    let mut found = files(&package.path());
    found.retain(|file| is(file, "rs") && !inner.iter().any(|folder| file.starts_with(folder)));
    found
}

/// The files that cargo compiles as targets: by their place, or named by the manifest.
fn targets(package: &Package, sources: &[PathBuf]) -> Vec<PathBuf> {
    let folder = package.path();
    let mut found: Vec<PathBuf> = ["src/lib.rs", "src/main.rs", "build.rs"]
        .map(|file| folder.join(file))
        .to_vec();
    for file in sources {
        let place = file
            .parent()
            .and_then(|place| place.strip_prefix(&folder).ok());
        let places = ["src/bin", "tests", "benches", "examples"].map(Path::new);
        // A target may be a folder with a `main.rs`.
        let is_main = file.file_name().is_some_and(|name| name == "main.rs");
        let place = if is_main {
            place.and_then(Path::parent)
        } else {
            place
        };
        if place.is_some_and(|place| places.contains(&place)) {
            found.push(file.clone());
        }
    }
    for line in package.manifest.lines() {
        if let Some(path) = line.trim().strip_prefix("path = ") {
            found.push(folder.join(path.trim_matches('"')));
        }
    }
    found.retain(|file| is(file, "rs") && file.exists());
    found
}

/// The file of `mod name;` in `file`.
fn module(file: &Path, is_root: bool, name: &str) -> PathBuf {
    let folder = file.parent().unwrap_or(file);
    let stem = file.file_stem().unwrap_or_default();
    let own = if is_root {
        folder.to_owned()
    } else {
        folder.join(stem)
    };
    own.join(format!("{name}.rs"))
}

/// The names declared as `mod name;`, with any visibility.
fn declared(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in code.lines().map(str::trim) {
        let line = line.split_once("mod ").filter(|(before, _)| {
            before.is_empty() || before.starts_with("pub") || before.ends_with("] ")
        });
        if let Some((name, _)) = line.and_then(|(_, rest)| rest.split_once(';')) {
            names.push(name.trim().to_owned());
        }
    }
    names
}

fn undeclared(package: &Package, all: &[Package]) -> Vec<String> {
    let sources = own(package, all);
    let roots = targets(package, &sources);
    let mut compiled: BTreeSet<PathBuf> = BTreeSet::new();
    let mut open: Vec<(PathBuf, bool)> = roots.into_iter().map(|file| (file, true)).collect();
    while let Some((file, is_root)) = open.pop() {
        for name in declared(&text(&file)) {
            let child = module(&file, is_root, &name);
            if child.exists() && !compiled.contains(&child) {
                open.push((child, false));
            }
        }
        compiled.insert(file);
    }
    sources
        .iter()
        .filter(|file| !compiled.contains(*file))
        .map(|file| shown(file))
        .collect()
}

#[test]
fn every_rust_file_is_declared_by_a_module_or_a_target() {
    let all = packages();
    let mut missing: Vec<String> = all
        .iter()
        .flat_map(|package| undeclared(package, &all))
        .collect();
    for file in files(root()).iter().filter(|file| is(file, "rs")) {
        if !all.iter().any(|package| file.starts_with(package.path())) {
            missing.push(shown(file));
        }
    }
    assert!(missing.is_empty(), "not compiled:\n{}", missing.join("\n"));
}

#[test]
fn an_undeclared_file_is_found() {
    assert_eq!(
        declared("pub mod a;\n#[cfg(test)]\nmod tests;\nmod inline { }\n// mod c;"),
        ["a", "tests"]
    );
    assert_eq!(
        declared("pub(crate) mod b;\n#[cfg(test)] mod tests;"),
        ["b", "tests"]
    );
    assert_eq!(
        module(Path::new("src/lib.rs"), true, "a"),
        Path::new("src/a.rs")
    );
    assert_eq!(
        module(Path::new("src/a.rs"), false, "b"),
        Path::new("src/a/b.rs")
    );
}

#[test]
fn every_package_takes_the_lints_and_the_edition_of_the_workspace() {
    for package in packages() {
        let name = package.name();
        assert_eq!(
            package.value("[lints]", "workspace").as_deref(),
            Some("true"),
            "[lints] of {name}"
        );
        for key in [
            "edition.workspace",
            "version.workspace",
            "license.workspace",
        ] {
            assert_eq!(
                package.value("[package]", key).as_deref(),
                Some("true"),
                "{key} of {name}"
            );
        }
    }
}

#[test]
fn every_package_is_named_by_its_path() {
    for package in packages() {
        let expected = package.folder.display().to_string().replace('/', "-");
        assert_eq!(
            package.name(),
            expected,
            "the package in {}",
            package.folder.display()
        );
    }
}

/// The lines before the tests at the end of the file.
fn length(code: &str) -> usize {
    code.split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default()
        .lines()
        .count()
}

#[test]
fn no_source_file_is_too_long() {
    let mut too_long = Vec::new();
    for file in files(root())
        .iter()
        .filter(|file| is(file, "rs") && !holds_tests(file))
    {
        let lines = length(&text(file));
        if lines > TOO_LONG {
            too_long.push(format!("{}: {lines}", shown(file)));
        } else if lines > LONG {
            println!(
                "warning: {} has {lines} lines; {LONG} is the aim",
                shown(file)
            );
        }
    }
    assert!(
        too_long.is_empty(),
        "longer than {TOO_LONG} lines:\n{}",
        too_long.join("\n")
    );
}

#[test]
fn there_is_no_mod_rs() {
    for file in files(root()) {
        assert!(
            file.file_name().is_none_or(|name| name != "mod.rs"),
            "{}",
            shown(&file)
        );
    }
}
