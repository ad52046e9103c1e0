mod fields;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{AiBackend, AiQuota, AiRoute, definitions, manifests};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Kind to OpenAPI schema, as JSON.
fn schemas() -> BTreeMap<String, Value> {
    definitions()
        .into_iter()
        .map(|definition| {
            let schema = definition.spec.versions[0].schema.clone().unwrap();
            let schema = serde_json::to_value(schema.open_api_v3_schema.unwrap()).unwrap();
            (definition.spec.names.kind, schema)
        })
        .collect()
}

/// Calls `visit(path, schema, inside a list)` for a schema and everything below it.
fn walk(path: &str, schema: &Value, in_list: bool, visit: &mut impl FnMut(&str, &Value, bool)) {
    visit(path, schema, in_list);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, in_list, visit);
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], true, visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(
            &format!("{path}.*"),
            &schema["additionalProperties"],
            in_list,
            visit,
        );
    }
}

/// Every (path, schema, inside a list) of the three kinds below `spec` and `status`.
fn every_schema() -> Vec<(String, Value, bool)> {
    let mut found = Vec::new();
    for (kind, schema) in schemas() {
        for part in ["spec", "status"] {
            let path = format!("{kind}.{part}");
            walk(
                &path,
                &schema["properties"][part],
                false,
                &mut |path, schema, in_list| {
                    found.push((path.to_owned(), schema.clone(), in_list));
                },
            );
        }
    }
    assert!(
        found.len() > 100,
        "only {} schemas: the walk is broken",
        found.len()
    );
    found
}

// === the committed YAML ===

#[test]
fn the_committed_yaml_matches_the_types() {
    let manifests = manifests().unwrap();
    let committed: BTreeSet<String> = fs::read_dir(here("yaml"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        committed,
        manifests.keys().cloned().collect::<BTreeSet<_>>()
    );
    for (file, yaml) in &manifests {
        assert!(
            *yaml == read(&here("yaml").join(file)),
            "crds/yaml/{file} is stale: run `cargo run -p crds --bin crdgen -- --out crds/yaml`"
        );
    }
}

#[test]
fn the_yaml_reads_back_as_the_definitions() {
    for (definition, yaml) in definitions().iter().zip(manifests().unwrap().values()) {
        let read: Value = serde_saphyr::from_str(yaml).unwrap();
        let mut meant = serde_json::to_value(definition).unwrap();
        let mut read = read;
        for value in [&mut meant, &mut read] {
            numbers_as_integers(value);
        }
        assert_eq!(read, meant);
    }
}

/// Bounds are written as floats (`1.0`); what counts is the number.
fn numbers_as_integers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let text = number.as_f64().unwrap().to_string();
            *value = serde_json::from_str(&text).unwrap();
        }
        Value::Array(items) => items.iter_mut().for_each(numbers_as_integers),
        Value::Object(members) => members.values_mut().for_each(numbers_as_integers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[test]
fn names_short_names_and_category_are_the_published_ones() {
    let names: Vec<_> = definitions()
        .into_iter()
        .map(|definition| {
            assert_eq!(definition.spec.group, crate::GROUP);
            assert_eq!(definition.spec.versions.len(), 1);
            assert_eq!(definition.spec.versions[0].name, crate::VERSION);
            assert_eq!(definition.spec.scope, "Namespaced");
            let names = definition.spec.names;
            assert_eq!(names.categories.unwrap(), ["tundish"]);
            (
                names.kind,
                names.plural,
                names.short_names.unwrap().concat(),
            )
        })
        .collect();
    let expected = [
        ("AIBackend", "aibackends", "aib"),
        ("AIQuota", "aiquotas", "aiq"),
        ("AIRoute", "airoutes", "air"),
    ];
    let expected = expected.map(|(k, p, s)| (k.to_owned(), p.to_owned(), s.to_owned()));
    assert_eq!(names, expected);
}

#[test]
fn a_quota_is_labelled_as_an_inherited_policy() {
    let [_, quota, _] = definitions();
    assert_eq!(
        quota.labels()["gateway.networking.k8s.io/policy"],
        "Inherited"
    );
    assert!(
        schemas()["AIQuota"]["description"]
            .as_str()
            .unwrap()
            .contains("every AIQuota")
    );
}

#[test]
fn columns_are_the_published_ones() {
    let columns: Vec<String> = definitions()
        .into_iter()
        .map(|definition| {
            let columns = definition.spec.versions[0]
                .additional_printer_columns
                .clone()
                .unwrap();
            let names = columns
                .into_iter()
                .map(|column| match column.priority.unwrap_or(0) {
                    0 => column.name,
                    priority => format!("{}({priority})", column.name),
                });
            names.collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(
        columns,
        [
            "Type Ready Serving Reason Endpoint(1) Message(1) Age",
            "Mode Ready Programmed Reason Target(1) Message(1) Age",
            "Hostnames Ready Programmed Reason Message(1) Age",
        ]
    );
}

// === bounds ===

#[test]
fn every_value_is_bounded() {
    for (path, schema, _) in every_schema() {
        let bounded = |keyword: &str| schema[keyword].is_number();
        match schema["type"].as_str().unwrap() {
            "string" => assert!(
                bounded("maxLength")
                    || schema["enum"].is_array()
                    || schema["format"] == "date-time",
                "{path} has no maxLength"
            ),
            "array" => assert!(bounded("maxItems"), "{path} has no maxItems"),
            "integer" => {
                assert!(bounded("minimum"), "{path} has no minimum");
                let generation = path.ends_with("observedGeneration");
                assert!(generation || bounded("maximum"), "{path} has no maximum");
            }
            "object" => assert!(
                schema["additionalProperties"].is_null() || bounded("maxProperties"),
                "{path} has no maxProperties"
            ),
            "boolean" => {}
            other => panic!("{path} is of type {other}"),
        }
    }
}

#[test]
fn every_list_has_a_merge_strategy() {
    for (path, schema, _) in every_schema() {
        if schema["type"] == "array" {
            assert!(schema["x-kubernetes-list-type"].is_string(), "{path}");
        }
    }
}

#[test]
fn no_value_may_be_null() {
    for (path, schema, _) in every_schema() {
        assert!(schema["nullable"].is_null(), "{path} is nullable");
        let values = schema["enum"].as_array();
        assert!(
            values.is_none_or(|values| values.iter().all(Value::is_string)),
            "{path}"
        );
    }
}

#[test]
fn the_schema_writes_no_default_into_list_items() {
    for (path, schema, in_list) in every_schema() {
        assert!(
            !in_list || schema["default"].is_null(),
            "{path} has a default, which GitOps sees"
        );
    }
}

#[test]
fn the_docs_of_every_field_mention_no_rust() {
    for (path, schema, _) in every_schema() {
        if path.ends_with("[]") || path.ends_with(".*") {
            continue;
        }
        let text = schema["description"].as_str().unwrap_or_default();
        assert!(text.ends_with('.'), "{path}: {text:?}");
        assert!(
            !text.contains("[`") && !text.contains("Option<"),
            "{path}: {text:?}"
        );
        assert!(
            !text.contains(char::is_control),
            "{path} has line breaks: {text:?}"
        );
    }
}

// === rules ===

struct RuleCase {
    directory: String,
    kind: String,
    message: String,
    good: String,
    bad: String,
}

fn rule_cases() -> Vec<RuleCase> {
    let mut directories: Vec<PathBuf> = fs::read_dir(here("rules"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    directories.sort();
    directories
        .into_iter()
        .map(|path| {
            let good = read(&path.join("good.yaml"));
            let object: Value = serde_saphyr::from_str(&good).unwrap();
            RuleCase {
                directory: path.file_name().unwrap().to_str().unwrap().to_owned(),
                kind: object["kind"].as_str().unwrap().to_owned(),
                message: read(&path.join("message.txt")).trim_end().to_owned(),
                bad: read(&path.join("bad.yaml")),
                good,
            }
        })
        .collect()
}

#[test]
fn every_cel_rule_has_a_case_and_every_case_a_rule() {
    let mut rules = BTreeSet::new();
    for (path, schema, _) in every_schema() {
        for rule in schema["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let kind = path.split('.').next().unwrap().to_owned();
            let message = rule["message"]
                .as_str()
                .unwrap_or_else(|| panic!("{path}: no message"));
            assert!(
                !message.contains('\n') && !message.contains("  "),
                "{path}: {message:?}"
            );
            rules.insert((kind, message.to_owned()));
        }
    }
    let cases: Vec<_> = rule_cases()
        .into_iter()
        .map(|case| (case.kind, case.message))
        .collect();
    let distinct: BTreeSet<_> = cases.iter().cloned().collect();
    assert_eq!(cases.len(), distinct.len(), "two cases for one rule");
    assert_eq!(rules, distinct);
}

#[test]
fn the_objects_of_a_case_differ_only_in_the_fields_of_the_rule() {
    for case in rule_cases() {
        let RuleCase {
            directory,
            kind,
            good,
            bad,
            ..
        } = &case;
        assert!(
            directory.starts_with(&format!("{}-", kind.to_lowercase())),
            "{directory}"
        );
        assert_ne!(good, bad, "{directory}");
        let [good, bad]: [Value; 2] = [good, bad].map(|yaml| serde_saphyr::from_str(yaml).unwrap());
        assert_eq!(good["apiVersion"], "tundish.dev/v1alpha1", "{directory}");
        assert_eq!(good["kind"], bad["kind"], "{directory}");
        // A transition rule judges an update, every other rule a new object.
        let update = good["metadata"]["name"] == bad["metadata"]["name"];
        assert_eq!(update, directory.ends_with("-immutable"), "{directory}");
    }
}

/// Cases whose bad object can't even be read, since the type rules it out.
const UNREADABLE: [&str; 2] = ["aibackend-duration-range", "airoute-duration-range"];

#[test]
fn objects_of_cases_can_be_read_if_the_types_can_hold_them() {
    fn check<K: DeserializeOwned>(case: &RuleCase) {
        let good: Result<K, _> = serde_saphyr::from_str(&case.good);
        assert!(good.is_ok(), "{}: {}", case.directory, good.err().unwrap());
        let bad: Result<K, _> = serde_saphyr::from_str(&case.bad);
        let expected = !UNREADABLE.contains(&case.directory.as_str());
        assert_eq!(bad.is_ok(), expected, "{}", case.directory);
    }
    for case in rule_cases() {
        match case.kind.as_str() {
            "AIBackend" => check::<AiBackend>(&case),
            "AIRoute" => check::<AiRoute>(&case),
            "AIQuota" => check::<AiQuota>(&case),
            other => panic!("{}: kind {other}", case.directory),
        }
    }
}

// === reading and writing ===
