//! Compile refuses what the API server refuses by CEL: a folder of files has no API server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crds::{ConditionType, Reason};
use operator_compile::{Compiled, Severity};
use tests_golden::compile_yaml;

/// Rules about fields that this version lacks, or that do not affect admission.
const NOT_REPEATED: [&str; 4] = [
    "aibackend-type-is-immutable",
    "aiquota-target-refs-are-unique",
    "aiquota-time-zone-on-calendar-windows",
    "airoute-parent-refs-are-unique",
];

fn rules() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds/rules");
    let entries = fs::read_dir(folder).expect("the folder of rules can be listed");
    let mut rules: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    rules.sort();
    rules
}

fn is_invalid(compiled: &Compiled) -> bool {
    let diagnostics = compiled.verdicts.values().flat_map(|v| &v.diagnostics);
    diagnostics.clone().any(|d| {
        d.severity == Severity::Error
            && d.condition == ConditionType::Accepted
            && d.reason == Reason::Invalid
    })
}

#[test]
fn compile_refuses_what_a_cel_rule_refuses() {
    let mut let_through = BTreeSet::new();
    for rule in rules() {
        let name = rule
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let read = |file: &str| fs::read_to_string(rule.join(file)).expect("a rule has both");
        assert!(
            !is_invalid(&compile_yaml(&read("good.yaml"))),
            "{name}: good.yaml is refused"
        );
        if !is_invalid(&compile_yaml(&read("bad.yaml"))) {
            let_through.insert(name);
        }
    }
    let expected: BTreeSet<String> = NOT_REPEATED.map(str::to_owned).into();
    assert_eq!(let_through, expected);
}
