use std::cell::Cell;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use proxy_api::Billing;
use proxy_core::auth::{Caller, CallerKind, KeyDigest, Source, Token};
use proxy_core::names::ModelPattern;
use proxy_core::quota::{Limit, Mode, Per, Unit};
use proxy_core::table::{Contents, Route, Table};
use proxy_core::test_util::{deployment, limit, object};
use proxy_ledger::Counters;

use super::{LiveRule, MODELS_PER_ACCOUNT, TOKEN_ACCOUNTS};
use crate::test_support::{contents, gateway};

fn rule() -> Arc<LiveRule> {
    let gateway = gateway(&mut Registry::default());
    gateway.publish(Arc::new(Table::new(contents(
        Mode::Enforce,
        Vec::new(),
        Vec::new(),
    ))));
    let live = gateway.shared().live().expect("a table");
    Arc::clone(live.rule(0).expect("a rule"))
}

fn known() -> Arc<Caller> {
    Arc::new(Caller {
        kind: CallerKind::Known(object("ann")),
        ..Caller::anonymous()
    })
}

/// How often the counters are looked up by requests of these callers for these models.
fn lookups<'a>(
    rule: &LiveRule,
    requests: impl IntoIterator<Item = (&'a Arc<Caller>, String)>,
) -> usize {
    let lookups = Cell::new(0);
    for (caller, model) in requests {
        let find = || {
            lookups.set(lookups.get() + 1);
            Counters::default()
        };
        let account = rule.account(caller);
        drop(account.counters(caller, &model.into(), Billing::Metered, find));
    }
    lookups.get()
}

#[test]
fn a_known_caller_is_looked_up_once_for_each_model() {
    let (rule, ann, bob) = (rule(), known(), known());
    let m = || "m".to_owned();
    assert_eq!(lookups(&rule, [(&ann, m()), (&bob, m())]), 2);
    let again = [(&ann, m()), (&bob, m()), (&ann, "n".to_owned())];
    assert_eq!(lookups(&rule, again), 1);
    let anonymous = Arc::new(Caller::anonymous());
    assert_eq!(lookups(&rule, [(&anonymous, m()), (&anonymous, m())]), 1);
}

#[test]
fn strangers_share_an_account_and_no_counters() {
    let rule = rule();
    let stranger = |key| Arc::new(Caller::unknown(&KeyDigest::of(key)));
    let (one, other) = (stranger("one"), stranger("other"));
    assert!(Arc::ptr_eq(&rule.account(&one), &rule.account(&other)));
    let m = || "m".to_owned();
    let requests = [(&one, m()), (&other, m()), (&one, m())];
    assert_eq!(lookups(&rule, requests), 3);
}

#[test]
fn names_of_models_are_told_apart_only_where_a_limit_does() {
    let counted = |per: Vec<Per>, models: &[&str]| -> Vec<String> {
        let gateway = gateway(&mut Registry::default());
        let mut contents = contents(Mode::Enforce, per, vec![limit("l", Unit::Requests, 1)]);
        let backend = Arc::make_mut(&mut contents.backends[0]);
        backend.deployments = vec![deployment("prod", "gpt-4o")];
        let quota = Arc::make_mut(&mut contents.quotas[0]);
        let patterns = models.iter().map(|model| ModelPattern::parse(model));
        quota.models = patterns.map(|one| one.expect("a pattern")).collect();
        gateway.publish(Arc::new(Table::new(contents)));
        let live = gateway.shared().live().expect("a table");
        let rule = live.rule(0).expect("a rule");
        let names = ["prod", "gpt-4o", "made-up"].map(Into::into);
        let counted = names.each_ref().map(|name| rule.counted_model(name));
        counted.map(|model| model.to_string()).to_vec()
    };
    assert_eq!(counted(vec![Per::Consumer], &[]), ["", "", ""]);
    assert_eq!(counted(vec![Per::Model], &[]), ["gpt-4o", "gpt-4o", ""]);
    let names = ["prod", "gpt-4o", "made-up"];
    assert_eq!(counted(Vec::new(), &["gpt-4o"]), names);
}

#[test]
fn names_that_a_caller_makes_up_are_not_kept_without_end() {
    let (rule, ann) = (rule(), known());
    let models = || (0..2 * MODELS_PER_ACCOUNT).map(|model| (&ann, format!("m{model}")));
    assert_eq!(lookups(&rule, models()), 2 * MODELS_PER_ACCOUNT);
    assert_eq!(lookups(&rule, models()), MODELS_PER_ACCOUNT);
}

#[test]
fn a_caller_by_token_has_an_account_for_its_attributes() {
    let rule = rule();
    let caller = |name: &str, team: &str| {
        let token = Token {
            source: Source {
                issuer: "https://issuer.example".into(),
                jwks_uri: None,
            },
            audiences: Vec::new(),
            scopes: Vec::new(),
            roles: Vec::new(),
            client: None,
        };
        let attributes = vec![("team".into(), team.into())];
        Arc::new(Caller::by_token(
            &"ns".into(),
            name.into(),
            attributes,
            token.into(),
        ))
    };
    let first = rule.account(&caller("ann", "search"));
    // With the token of the next hour.
    let next = rule.account(&caller("ann", "search"));
    assert!(Arc::ptr_eq(&first, &next));
    let moved = rule.account(&caller("ann", "chat"));
    assert!(!Arc::ptr_eq(&first, &moved), "other limits may apply");
    for number in 1..TOKEN_ACCOUNTS {
        rule.account(&caller(&number.to_string(), "x"));
    }
    let further = caller("further", "x");
    let account = rule.account(&further);
    assert!(!Arc::ptr_eq(&account, &rule.account(&further)));
    assert!(Arc::ptr_eq(&moved, &rule.account(&caller("ann", "chat"))));
}

#[test]
fn rules_that_do_not_change_go_on_with_what_they_know() {
    let gateway = gateway(&mut Registry::default());
    let contents = |limits: Vec<Limit>, created_s: i64| {
        let mut contents = contents(Mode::Enforce, Vec::new(), limits);
        let first = Arc::clone(&contents.routes[0]);
        contents.routes.push(Arc::new(Route {
            name: object("ns/zz"),
            created_s,
            ..(*first).clone()
        }));
        contents
    };
    let mut table = Arc::new(Table::default());
    let mut publish = |contents: Contents| {
        table = Arc::new(Table::after(&table, contents));
        gateway.publish(Arc::clone(&table));
        let live = gateway.shared().live().expect("a table");
        [0, 1].map(|place| Arc::clone(live.rule(place).expect("two rules")))
    };
    let both = |a: &[Arc<LiveRule>; 2], b: &[Arc<LiveRule>; 2]| {
        [0, 1].map(|place| Arc::ptr_eq(&a[place], &b[place]))
    };
    let tight = vec![limit("l", Unit::Requests, 1)];
    let first = publish(contents(tight.clone(), 1));
    let second = publish(contents(tight, 2));
    assert_eq!(both(&first, &second), [true, false]);
    let wide = publish(contents(vec![limit("l", Unit::Requests, 9)], 2));
    assert_eq!(both(&second, &wide), [false, false]);
    assert_eq!(wide[0].limits[0].declared, 9);
    gateway.share_among(3);
    let live = gateway.shared().live().expect("a table");
    assert_eq!(live.rule(0).expect("a rule").limits[0].limit.amount, 3);
    // The part is smaller since then, also where nothing else changed.
    let third = publish(contents(vec![limit("l", Unit::Requests, 9)], 3));
    assert_eq!(third[0].limits[0].limit.amount, 3);
}

#[test]
fn callers_whose_keys_are_gone_are_forgotten() {
    let (rule, kept, gone) = (rule(), known(), known());
    drop((rule.account(&kept), rule.account(&gone)));
    drop(gone);
    rule.forget_callers();
    let left: Vec<usize> = rule.accounts.read().keys().copied().collect();
    assert_eq!(left, [Arc::as_ptr(&kept).addr()]);
}
