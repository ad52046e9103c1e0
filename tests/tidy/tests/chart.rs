//! The chart's values: each has a row in its README, which is generated, and a template that uses it; and what it
//! says of metrics is true.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use tests_tidy::{files, is, root, text};

const BEGIN: &str = "<!-- Generated from values.yaml by `make gen`. -->\n";

/// A value, or a group of them, as values.yaml has it.
#[derive(Debug, PartialEq)]
struct Value {
    path: Vec<String>,
    /// Empty for a group.
    default: String,
    about: String,
}

fn chart() -> PathBuf {
    root().join("charts/tundish")
}

/// Reads values.yaml as it is written: two spaces for each level, a comment above what it is about.
fn values(yaml: &str) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut about: Vec<&str> = Vec::new();
    for line in yaml.lines() {
        let word = line.trim();
        let level = (line.len() - line.trim_start().len()) / 2;
        if word.is_empty() {
            about.clear();
        } else if let Some(comment) = word.strip_prefix("# ") {
            about.push(comment);
        } else if word.starts_with("- ") || level > path.len() {
            // A list in lines of its own.
            if let Some(list) = values.last_mut() {
                list.default = "[...]".to_owned();
            }
        } else if let Some((key, default)) = word.split_once(':') {
            path.truncate(level);
            path.push(key.to_owned());
            values.push(Value {
                path: path.clone(),
                default: default.trim().to_owned(),
                about: sentence(&about),
            });
            about.clear();
        }
    }
    values
}

/// A comment as one line, without its examples in lines of their own.
fn sentence(lines: &[&str]) -> String {
    let told = lines.iter().filter(|line| !line.starts_with("- "));
    let told: Vec<&str> = told.copied().collect();
    told.join(" ").replace('|', "\\|")
}

fn table(values: &[Value]) -> String {
    let mut table = "| value | default | meaning |\n|---|---|---|\n".to_owned();
    for value in values {
        let name = value.path.join(".");
        if value.default.is_empty() && value.about.is_empty() {
            continue;
        }
        let default = match value.default.as_str() {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        writeln!(table, "| `{name}` | {default} | {} |", value.about).expect("memory is there");
    }
    table
}

#[test]
fn is_current() {
    let file = chart().join("README.md");
    let readme = text(&file);
    let (before, _) = readme
        .split_once(BEGIN)
        .expect("the README has a table of values");
    let current = format!(
        "{before}{BEGIN}\n{}",
        table(&values(&text(&chart().join("values.yaml"))))
    );
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&file, &current).expect("the README can be written");
    } else {
        assert!(
            readme == current,
            "charts/tundish/README.md is not current: make gen"
        );
    }
}

#[test]
fn a_value_is_read_with_its_comment_and_its_default() {
    let yaml = "a:\n  # About b.\n  b: 1\n  # - an example\n  c:\n  - x: 1\n\n# About d.\n# And more.\nd: {}\n";
    let value = |path: &[&str], default: &str, about: &str| Value {
        path: path.iter().map(|&key| key.to_owned()).collect(),
        default: default.to_owned(),
        about: about.to_owned(),
    };
    let expected = [
        value(&["a"], "", ""),
        value(&["a", "b"], "1", "About b."),
        value(&["a", "c"], "[...]", ""),
        value(&["d"], "{}", "About d. And more."),
    ];
    assert_eq!(values(yaml), expected);
}

#[test]
fn every_value_is_used_by_a_template() {
    let mut templates = text(&chart().join("Chart.yaml"));
    for folder in ["charts/tundish/templates", "charts/tundish-crds/templates"] {
        for file in files(&root().join(folder)) {
            templates.push_str(&text(&file));
        }
    }
    let unused: Vec<String> = values(&text(&chart().join("values.yaml")))
        .into_iter()
        // What a map holds by default is passed on whole.
        .filter(|value| {
            let mut keys = value.path.iter();
            !keys.any(|key| key.ends_with("ecurityContext") || key == "resources")
        })
        .filter(|value| {
            let key = value.path.last().expect("a path has a key");
            !templates.contains(&format!(".{key}")) && !templates.contains(&format!("\"{key}\""))
        })
        .map(|value| value.path.join("."))
        .collect();
    assert!(unused.is_empty(), "{unused:?}");
}

/// The names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let ours = words.filter(|word| word.starts_with("tundish_"));
    ours.map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect()
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_exist() {
    let mut documented = BTreeSet::new();
    for page in files(&root().join("docs/metrics")) {
        documented.extend(metrics(&text(&page)));
    }
    let mut asked = BTreeSet::new();
    for file in files(&chart().join("files")) {
        assert!(is(&file, "yaml") || is(&file, "json"), "{file:?}");
        asked.extend(metrics(&text(&file)));
    }
    assert!(asked.len() > 10, "{asked:?}");
    let unknown: Vec<_> = asked.difference(&documented).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
