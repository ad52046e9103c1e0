use super::{Facts, HostPattern, Match, Router, RuleMatches};
use crate::names::{ConsumerMatch, ModelPattern, Operation};
use crate::test_util;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use proptest::prelude::*;

type Rule = (Vec<HostPattern>, Vec<Match>);

/// The stated precedence, word for word, without any index.
fn naive(rules: &[Rule], facts: &Facts<'_>) -> Option<usize> {
    let mut best: Option<((usize, usize, usize), usize)> = None;
    for (index, (hosts, matches)) in rules.iter().enumerate() {
        let host_rank = if hosts.is_empty() {
            Some(0)
        } else {
            hosts
                .iter()
                .filter(|host| host.matches(facts.host))
                .map(|host| match host {
                    HostPattern::Exact(_) => usize::MAX,
                    HostPattern::Wildcard(suffix) => suffix.len(),
                })
                .max()
        };
        let everything = vec![Match::default()];
        let matches = if matches.is_empty() {
            &everything
        } else {
            matches
        };
        for alternative in matches {
            let model_rank = if alternative.models.is_empty() {
                Some(0)
            } else {
                let named =
                    |pattern: &&ModelPattern| facts.model.is_some_and(|m| pattern.matches(m));
                alternative
                    .models
                    .iter()
                    .filter(named)
                    .map(|pattern| match pattern {
                        ModelPattern::Exact(_) => usize::MAX,
                        ModelPattern::Prefix(prefix) => prefix.len() + 1,
                    })
                    .max()
            };
            if let (Some(host), Some(model), true) = (
                host_rank,
                model_rank,
                alternative.holds_besides_model(facts),
            ) {
                let rank = (host, model, alternative.headers.len());
                if best.is_none_or(|(known, _)| rank > known) {
                    best = Some((rank, index));
                }
            }
        }
    }
    best.map(|(_, index)| index)
}

fn router(rules: &[Rule]) -> Router {
    Router::new(
        rules
            .iter()
            .enumerate()
            .map(|(rule, (hosts, matches))| RuleMatches {
                rule,
                hosts,
                matches,
            }),
    )
}

fn models(patterns: &[&str]) -> Match {
    Match {
        models: patterns
            .iter()
            .map(|p| ModelPattern::parse(p).expect("a pattern"))
            .collect(),
        ..Match::default()
    }
}

fn hosts(patterns: &[&str]) -> Vec<HostPattern> {
    patterns
        .iter()
        .map(|p| HostPattern::parse(p).expect("a host"))
        .collect()
}

fn check(rules: &[Rule], host: &str, model: &str, expect: Option<usize>) {
    let (headers, attributes) = (HeaderMap::new(), Vec::new());
    let facts = Facts {
        host,
        operation: Operation::ChatCompletions,
        model: Some(model),
        headers: &headers,
        consumer_namespace: "ns",
        consumer: "c",
        attributes: &attributes,
    };
    assert_eq!(
        router(rules).find(&facts).map(|rank| rank.rule),
        expect,
        "{host} {model}"
    );
    assert_eq!(
        naive(rules, &facts),
        expect,
        "the model of the test, {host} {model}"
    );
}

#[test]
fn an_exact_host_beats_a_wildcard_beats_any() {
    let rules = vec![
        (vec![], vec![]),
        (hosts(&["*.example.com"]), vec![]),
        (hosts(&["ai.example.com"]), vec![]),
        (hosts(&["*.a.example.com"]), vec![]),
    ];
    check(&rules, "ai.example.com", "m", Some(2));
    check(&rules, "x.example.com", "m", Some(1));
    check(&rules, "b.a.example.com", "m", Some(3));
    check(&rules, "example.com", "m", Some(0));
}

#[test]
fn an_exact_model_beats_the_longest_prefix_beats_none() {
    let rules = vec![
        (vec![], vec![Match::default()]),
        (vec![], vec![models(&["gpt-*"])]),
        (vec![], vec![models(&["gpt-4o-*"])]),
        (vec![], vec![models(&["gpt-4o-mini"])]),
    ];
    check(&rules, "h", "gpt-4o-mini", Some(3));
    check(&rules, "h", "gpt-4o-2024", Some(2));
    check(&rules, "h", "gpt-5", Some(1));
    check(&rules, "h", "claude", Some(0));
}

#[test]
fn equal_matches_go_to_the_first() {
    check(
        &[
            (vec![], vec![models(&["m"])]),
            (vec![], vec![models(&["m"])]),
        ],
        "h",
        "m",
        Some(0),
    );
}

#[test]
fn a_pattern_has_one_trailing_star_at_most() {
    for bad in ["", "a*b", "**", "*a"] {
        assert_eq!(ModelPattern::parse(bad), None, "{bad}");
    }
    for bad in ["", "*", "*.", "a.*", "*example.com", "*.*.com"] {
        assert_eq!(HostPattern::parse(bad), None, "{bad}");
    }
}

fn any_match() -> impl Strategy<Value = Match> {
    let pattern = prop::sample::select(vec!["a", "ab", "abc", "a*", "ab*", "*"]);
    (
        prop::collection::vec(pattern, 0..3),
        prop::collection::vec(
            prop::sample::select(vec![Operation::ChatCompletions, Operation::Embeddings]),
            0..2,
        ),
        prop::collection::btree_map(
            prop::sample::select(vec!["x-a", "x-b"]),
            prop::sample::select(vec!["1", "2"]),
            0..3,
        ),
        prop::collection::vec(prop::sample::select(vec!["ann", "bob"]), 0..2),
    )
        .prop_map(|(patterns, operations, headers, names)| Match {
            operations,
            headers: headers
                .into_iter()
                .map(|(name, value)| (HeaderName::from_static(name), value.into()))
                .collect(),
            consumers: ConsumerMatch {
                names: names.into_iter().map(test_util::consumer).collect(),
                attributes: Vec::new(),
            },
            ..models(&patterns)
        })
}

proptest! {
    #[test]
    fn the_index_decides_like_the_stated_precedence(
        rules in prop::collection::vec(
            (
                prop::collection::vec(
                    prop::sample::select(vec!["h.a.b", "*.b", "*.a.b", "g.b"]), 0..3),
                prop::collection::vec(any_match(), 0..3),
            ), 0..8),
        host in prop::sample::select(vec!["h.a.b", "g.b", "x.b", "other"]),
        model in prop::option::of(prop::sample::select(vec!["a", "ab", "abc", "abcd", "z"])),
        sent in prop::option::of(prop::sample::select(vec!["1", "2"])),
        consumer in prop::sample::select(vec!["ann", "bob", "eve"]),
        chat: bool,
    ) {
        let rules: Vec<Rule> =
            rules.into_iter().map(|(patterns, matches)| (hosts(&patterns), matches)).collect();
        let mut headers = HeaderMap::new();
        if let Some(value) = sent {
            headers.insert("x-a", HeaderValue::from_static(value));
        }
        let attributes = Vec::new();
        let facts = Facts {
            consumer_namespace: "ns",
            host,
            operation: if chat { Operation::ChatCompletions } else { Operation::Embeddings },
            model,
            headers: &headers,
            consumer,
            attributes: &attributes,
        };
        prop_assert_eq!(router(&rules).find(&facts).map(|rank| rank.rule), naive(&rules, &facts));
    }
}
