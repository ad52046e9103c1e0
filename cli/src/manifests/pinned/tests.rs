use proxy_core::names::Operation;
use proxy_core::route::Match;
use proxy_core::table::{Backend, BackendKind, Contents, Rule};
use proxy_core::test_util::{backend, route, rule, target};

use super::rules;

/// Agents came with the last dated version, files with none.
fn lacking(version: &str) -> Vec<Operation> {
    match version {
        "2025-04-01-preview" => vec![Operation::Files],
        _ => vec![Operation::Agents, Operation::Files],
    }
}

fn found(operations: &[&[Operation]], versions: &[(&str, Option<&str>)]) -> usize {
    let backends = versions.iter().map(|(name, version)| Backend {
        kind: BackendKind::Foundry,
        api_version: version.map(Into::into),
        ..backend(name)
    });
    let targets = versions.iter().map(|(name, _)| target(name));
    let matches = operations.iter().map(|operations| Match {
        operations: operations.to_vec(),
        ..Match::default()
    });
    let rule = Rule {
        matches: matches.collect(),
        ..rule("all", targets.collect())
    };
    let contents = Contents::new(
        backends.collect(),
        vec![route("r", vec![rule])],
        vec![],
        vec![],
    );
    rules(&contents, lacking).len()
}

#[test]
fn a_rule_that_can_only_refuse_is_found() {
    let dated = ("a", Some("2024-10-21"));
    assert_eq!(found(&[&[Operation::Agents]], &[dated]), 1);
    let both: &[Operation] = &[Operation::Agents, Operation::Files];
    let newer = ("b", Some("2025-04-01-preview"));
    assert_eq!(found(&[&[Operation::Files]], &[dated, newer]), 1);
    assert_eq!(found(&[both], &[dated, ("b", Some("2024-06-01"))]), 1);
}

#[test]
fn a_rule_that_can_serve_something_is_not() {
    let dated = ("a", Some("2024-10-21"));
    for other in [None, Some("preview")] {
        assert_eq!(found(&[&[Operation::Agents]], &[dated, ("b", other)]), 0);
    }
    let newer = ("b", Some("2025-04-01-preview"));
    let both: &[Operation] = &[Operation::Agents, Operation::Files];
    assert_eq!(found(&[both], &[dated, newer]), 0, "the newer one has it");
    let chat: &[Operation] = &[Operation::Agents, Operation::ChatCompletions];
    assert_eq!(found(&[chat], &[dated]), 0);
    assert_eq!(
        found(&[&[Operation::Agents], &[]], &[dated]),
        0,
        "any operation"
    );
    assert_eq!(found(&[], &[dated]), 0, "any request");
    assert_eq!(found(&[&[Operation::Agents]], &[]), 0);
}
