use std::sync::Arc;

use operator_compile::Verdict;
use proxy_core::names::{ConsumerMatch, ObjectName};
use proxy_core::quota::{Mode, OnStoreLoss, WarnAt};
use proxy_core::table::{Authentication, Quota, Route, Scope};

use super::*;
fn route(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::AiRoute, ObjectName::new("team", name))
}

fn verdict(generation: i64) -> Verdict {
    Verdict {
        generation,
        conditions: Vec::new(),
        diagnostics: Vec::new(),
        parents: Vec::new(),
    }
}

/// A table without entries.
fn two_routes() -> Compiled {
    let verdicts = [(route("one"), verdict(1)), (route("two"), verdict(1))];
    Compiled {
        verdicts: verdicts.into_iter().collect(),
        ..Compiled::default()
    }
}

fn fleet(acked: Option<u64>) -> Fleet {
    let replica = Replica {
        id: "proxy-0".to_owned(),
        acked,
        ..Replica::default()
    };
    Fleet {
        replicas: vec![replica],
    }
}

/// One whose objects are all settled.
fn settled(table: &Compiled) -> Open {
    let mut open = Open::default();
    for object in open.review(table, &fleet(Some(5)), BTreeSet::new()) {
        open.settle(&object);
    }
    open
}

/// The names of the objects that are looked at.
fn looked(open: &mut Open, table: &Compiled, fleet: &Fleet) -> Vec<String> {
    let found = open.review(table, fleet, BTreeSet::new());
    found.iter().map(|one| one.name.name().to_owned()).collect()
}

#[test]
fn a_settled_object_is_not_looked_at_while_proxies_only_get_further() {
    let table = two_routes();
    let mut open = settled(&table);
    assert_eq!(looked(&mut open, &table, &fleet(Some(5))), [""; 0]);
    assert_eq!(looked(&mut open, &table, &fleet(Some(6))), [""; 0]);
    let touched = BTreeSet::from([route("one"), route("gone")]);
    let found = open.review(&table, &fleet(Some(6)), touched);
    assert_eq!(found, BTreeSet::from([route("one")]));
    // It stays until it is settled.
    assert_eq!(looked(&mut open, &table, &fleet(Some(7))), ["one"]);
}

#[test]
fn every_object_is_looked_at_when_a_proxy_comes_falls_back_or_lacks_something() {
    let table = two_routes();
    let changes: [fn(&mut Replica); 8] = [
        |replica| replica.pod = Some("tundish-proxy-0".to_owned()),
        |replica| replica.acked = Some(4),
        |replica| replica.acked = None,
        |replica| replica.id = "proxy-1".to_owned(),
        |replica| replica.store_lost = true,
        |replica| {
            let feature = (route("one").entry().unwrap(), vec!["colour".to_owned()]);
            replica.unsupported = Arc::new([feature].into());
        },
        |replica| replica.outages = Arc::new([(ObjectName::new("team", "eu"), [].into())].into()),
        |replica| {
            let tokenless = [(ObjectName::new("team", "eu"), "refused".to_owned())];
            replica.tokenless = Arc::new(tokenless.into());
        },
    ];
    for change in changes {
        let mut open = settled(&table);
        let mut changed = fleet(Some(5));
        changed.replicas.iter_mut().for_each(change);
        assert_eq!(looked(&mut open, &table, &changed), ["one", "two"]);
    }
    let mut open = settled(&table);
    assert_eq!(looked(&mut open, &table, &Fleet::default()), ["one", "two"]);
}

#[test]
fn an_object_is_looked_at_when_its_verdict_or_its_entry_changes() {
    let before = two_routes();
    let mut open = settled(&before);
    // Copies that are not shared may be anything.
    let after = two_routes();
    assert_eq!(looked(&mut open, &after, &fleet(Some(5))), ["one", "two"]);

    let mut open = settled(&before);
    let entry = Route {
        name: ObjectName::new("team", "one"),
        created_s: 0,
        hostnames: Vec::new(),
        authentication: Authentication::default(),
        cors: None,
        rejected: None,
        rules: Vec::new(),
    };
    let mut after = before.clone();
    after.contents.routes = vec![Arc::new(entry)].into();
    assert_eq!(looked(&mut open, &after, &fleet(Some(5))), ["one"]);
    open.settle(&route("one"));
    assert_eq!(looked(&mut open, &before, &fleet(Some(5))), ["one"]);
}

#[test]
fn a_quota_is_looked_at_when_its_entry_changes() {
    let quota = ObjectRef::new(Kind::AiQuota, ObjectName::new("team", "spend"));
    let mut before = two_routes();
    before.verdicts = [(quota.clone(), verdict(1))].into_iter().collect();
    let entry = Quota {
        name: quota.name.clone(),
        scope: Scope::Gateway,
        models: Vec::new(),
        consumers: ConsumerMatch::default(),
        per: Vec::new(),
        attribute: "".into(),
        mode: Mode::Enforce,
        on_store_loss: OnStoreLoss::Deny,
        warn_at: WarnAt::default(),
        limits: Vec::new(),
        overrides: Vec::new(),
        unsupported: None,
    };
    let mut after = before.clone();
    after.contents.quotas = vec![Arc::new(entry)].into();
    let mut open = settled(&before);
    assert_eq!(looked(&mut open, &after, &fleet(Some(5))), ["spend"]);
    open.settle(&quota);
    assert_eq!(looked(&mut open, &after, &fleet(Some(5))), [""; 0]);
    assert_eq!(looked(&mut open, &before, &fleet(Some(5))), ["spend"]);
}

#[test]
fn an_object_that_is_gone_is_not_kept() {
    let before = two_routes();
    let mut after = before.clone();
    after.verdicts = Verdicts::default();
    let mut open = Open::default();
    assert_eq!(looked(&mut open, &before, &fleet(Some(5))), ["one", "two"]);
    assert_eq!(looked(&mut open, &after, &fleet(Some(5))), [""; 0]);
}
