//! What a release does can be done on any machine: workflows call recipes of the Makefile.

use tests_tidy::{root, text};

#[test]
fn workflows_call_recipes_that_exist() {
    let makefile = text(&root().join("Makefile"));
    let workflow = text(&root().join(".github/workflows/release.yaml"));
    let mut called = Vec::new();
    for line in workflow.lines() {
        let Some(command) = line.trim().strip_prefix("- run: make ") else {
            continue;
        };
        let words = command.split_whitespace();
        called.extend(words.filter(|word| !word.contains('=')).map(str::to_owned));
    }
    for recipe in &called {
        let help = format!("\n{recipe}: ## ");
        assert!(makefile.contains(&help), "no recipe {recipe}");
    }
    for wanted in ["image", "charts", "push-image", "push-charts", "sign"] {
        assert!(called.iter().any(|recipe| recipe == wanted), "{called:?}");
    }
}

#[test]
fn a_release_is_of_one_version() {
    let cargo = text(&root().join("Cargo.toml"));
    let version = cargo
        .lines()
        .find_map(|line| line.strip_prefix("version = "));
    let version = version.expect("a version").trim_matches('"').to_owned();
    for chart in ["tundish", "tundish-crds"] {
        let chart = text(&root().join("charts").join(chart).join("Chart.yaml"));
        for key in ["version", "appVersion"] {
            assert!(chart.contains(&format!("\n{key}: {version}\n")), "{chart}");
        }
    }
    let chart = text(&root().join("charts/tundish/Chart.yaml"));
    assert!(
        chart.contains(&format!("\n  version: {version}\n")),
        "{chart}"
    );
}
