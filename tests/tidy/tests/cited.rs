//! What documents cite as proof exists: tests, as `FILE::NAME`, and values of the chart.

use std::collections::BTreeSet;

use tests_tidy::{files, is, root, shown, text};

/// The texts between backquotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// A test that does not exist, of those that a text cites.
fn missing_test(cited: &str) -> bool {
    let Some((file, name)) = cited.split_once("::") else {
        return !root().join(cited).exists();
    };
    let file = root().join(file);
    !file.is_file() || !text(&file).contains(&format!("fn {name}("))
}

/// The values of a chart, as `a.b.c`.
fn values(yaml: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut above: Vec<(usize, String)> = Vec::new();
    for line in yaml.lines() {
        let depth = line.len() - line.trim_start().len();
        let Some((key, rest)) = line.trim_start().split_once(':') else {
            continue;
        };
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric()) {
            continue;
        }
        above.retain(|(other, _)| *other < depth);
        let parents = above.iter().map(|(_, key)| format!("{key}."));
        let name = parents.collect::<String>() + key;
        // One of a flow mapping on the same line.
        let inner = rest.trim().trim_start_matches('{').trim_end_matches('}');
        for (inner, _) in inner.split(", ").filter_map(|pair| pair.split_once(':')) {
            found.insert(format!("{name}.{inner}"));
        }
        found.insert(name);
        above.push((depth, key.to_owned()));
    }
    found
}

#[test]
fn every_cited_test_exists() {
    let mut missing = Vec::new();
    let mut cited = 0;
    for file in files(root()).into_iter().filter(|file| is(file, "md")) {
        for line in text(&file).lines() {
            let tests = quoted(line).filter(|one| one.contains(".rs::"));
            for one in tests {
                cited += 1;
                if missing_test(one) {
                    missing.push(format!("{}: {one}", shown(&file)));
                }
            }
        }
    }
    assert!(cited > 20, "only {cited} tests are cited");
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

#[test]
fn every_value_that_hardens_exists() {
    let known = values(&text(&root().join("charts/tundish/values.yaml")));
    let page = text(&root().join("docs/hardening.md"));
    let rows = page.lines().skip_while(|line| *line != "## To set");
    let rows = rows.take_while(|line| *line != "## With the objects");
    let named: Vec<&str> = rows
        .filter_map(|row| row.split('|').nth(2))
        .flat_map(quoted)
        .collect();
    assert!(named.len() > 8, "{named:?}");
    let unknown = named.iter().filter(|name| !known.contains(**name));
    let unknown: Vec<_> = unknown.collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn what_does_not_exist_is_found() {
    assert!(missing_test("tests/tidy/tests/cited.rs::no_such_test"));
    assert!(missing_test("tests/none.rs::every_cited_test_exists"));
    assert!(!missing_test(
        "tests/tidy/tests/cited.rs::every_cited_test_exists"
    ));
    let known = values("a:\n  # b: 1\n  c: 2\n  d: {e: 1, f: 2}\ng: []\n");
    let expect = ["a", "a.c", "a.d", "a.d.e", "a.d.f", "g"];
    assert_eq!(known.into_iter().collect::<Vec<_>>(), expect);
}
