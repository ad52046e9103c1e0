//! Runs the checks of the fuzz targets on their seeds, without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use tests_it::fuzzing::CHECKS;
use tests_support::workspace;

/// A seed is cut after each of its first bytes, up to this number. Longer seeds are lists of objects, and
/// half an object is not an object.
const CUTS: usize = 512;

fn seeds(target: &str) -> Vec<PathBuf> {
    let folder = workspace().join("tests/fuzz/corpus-seeds").join(target);
    fs::read_dir(folder)
        .expect("every target has a folder of seeds")
        .map(|entry| entry.expect("it can be listed").path())
        .collect()
}

#[test]
fn every_check_holds_for_its_seeds_and_their_prefixes() {
    for (target, check) in CHECKS {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        for seed in seeds {
            let bytes = fs::read(&seed).expect("a seed can be read");
            println!("{}", seed.display());
            check(&bytes);
            for end in 0..bytes.len().min(CUTS) {
                check(&bytes[..end]);
                check(&[&bytes[..end], &bytes[end + 1..]].concat());
            }
        }
    }
}

#[test]
fn every_target_has_a_check() {
    let folder = workspace().join("tests/fuzz/fuzz_targets");
    let targets: BTreeSet<String> = fs::read_dir(&folder)
        .expect("the targets can be listed")
        .map(|entry| entry.expect("it can be listed").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    let checks = CHECKS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets, checks);
}
