//! Counters of replicas, on their way to the operators and to other replicas.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use proxy_admin::clock;
use proxy_admin::pages::usage::UsagePage;
use proxy_core::names::{Moment, ObjectName};
use proxy_core::quota::{
    Carried, Counter, CounterReading, Limit, LimitName, Period, StoreState, SubjectKey, TimeZone,
    Unit, Window,
};
use proxy_core::table::Contents;
use proxy_core::test_util::quota;
use proxy_sync::{Counted, Denials};
use proxy_wire::v1::{self, Line, Report};
use tests_support::{eventually, eventually_ok, http};

use crate::liar::{Liar, line};
use crate::parts::{Operator, PATIENCE, Proxy, contents, route};
use crate::{first_line, subscribe};

fn day() -> Limit {
    Limit {
        name: "day".into(),
        unit: Unit::Tokens,
        amount: 100,
        window: Window::Calendar(Period::Day, TimeZone::UTC),
    }
}

fn name() -> LimitName {
    LimitName {
        quota: ObjectName::new("a", "spend"),
        limit: "day".into(),
    }
}

/// A table with a limit of 100 tokens a day.
fn with_quota() -> Contents {
    Contents {
        quotas: vec![Arc::new(quota("a/spend", vec![day()]))].into(),
        ..contents(vec![route("x", 1)])
    }
}

fn today() -> Result<i64> {
    let now: Moment = clock::now();
    let start = Counter::new(&day(), now).period_start_ms(&day(), now);
    start.context("a calendar limit")
}

fn used(used: u64) -> Result<CounterReading> {
    Ok(CounterReading {
        limit: name(),
        key: SubjectKey([5; 16]),
        subject: "consumer=a/ann".into(),
        period_start_ms: Some(today()?),
        used,
        reserved: 0,
        amount: 50,
        overridden: None,
        warned: None,
    })
}

fn carried(amount: u64) -> Result<Carried> {
    Ok(Carried {
        limit: name(),
        key: SubjectKey([5; 16]),
        period_start_ms: today()?,
        amount,
    })
}

/// Waits until the operator's page shows `used` over all replicas.
async fn shows(operator: &Operator, used: u64) -> Result<UsagePage> {
    eventually_ok(&format!("{used} on the page"), PATIENCE, async || {
        let page = operator.publisher.usage_page();
        let limit = page.limits.first().context("a limit")?;
        let sum: u64 = limit.subjects.iter().map(|one| one.used).sum();
        ensure!(sum == used, "the page shows {sum}");
        Ok(page)
    })
    .await
}

/// Waits until the proxy carries this amount among this number of replicas.
async fn carries(proxy: &Proxy, replicas: u64, amount: u64) -> Result<()> {
    let expected = match amount {
        0 => Vec::new(),
        amount => vec![carried(amount)?],
    };
    eventually_ok(&format!("{amount} to be carried"), PATIENCE, async || {
        let given = proxy.given.lock();
        ensure!(
            given.carried == expected && given.replicas == Some(replicas),
            "{:?} of {:?}",
            given.carried,
            given.replicas
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_use_of_a_killed_replica_is_carried_by_the_others_and_stays_in_the_sum() -> Result<()> {
    let operator = Operator::start().await?;
    operator.publisher.publish(1, &with_quota());
    let one = Proxy::start("p1", &[operator.url()])?;
    let two = Proxy::start("p2", &[operator.url()])?;
    one.count(used(30)?);
    two.count(used(5)?);
    two.counted.lock().limits = vec![Denials {
        limit: name(),
        denials: 3,
        shadow_denials: 0,
    }];
    let sum = shows(&operator, 35).await?;
    assert_eq!((sum.replicas, sum.limits[0].denials), (2, 3));
    assert_eq!(sum.limits[0].declared, 100);
    assert_eq!(sum.limits[0].subjects[0].subject, "consumer=a/ann");
    carries(&two, 2, 0).await?;
    one.kill();
    carries(&two, 1, 30).await?;
    shows(&operator, 35).await?;

    // A new replica carries its part before it has a table.
    let three = Proxy::start("p3", &[operator.url()])?;
    three.table(1).await?;
    assert!(!three.given.lock().early);
    carries(&three, 2, 15).await?;
    carries(&two, 2, 15).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_replica_carries_its_former_use() -> Result<()> {
    let operator = Operator::start().await?;
    operator.publisher.publish(1, &with_quota());
    let first = Proxy::start("p1", &[operator.url()])?;
    first.count(used(40)?);
    shows(&operator, 40).await?;
    first.kill();
    // As after a crash of a container: the pod is the same.
    let again = Proxy::start("p1", &[operator.url()])?;
    carries(&again, 1, 40).await?;
    again.table(1).await?;
    assert!(!again.given.lock().early);
    again.count(used(7)?);
    shows(&operator, 47).await?;
    carries(&again, 1, 40).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_replica_reports_its_last_token() -> Result<()> {
    let operator = Operator::start().await?;
    operator.publisher.publish(1, &with_quota());
    let one = Proxy::start("p1", &[operator.url()])?;
    let two = Proxy::start("p2", &[operator.url()])?;
    one.count(used(10)?);
    shows(&operator, 10).await?;
    one.count(used(11)?);
    one.stop().await?;
    shows(&operator, 11).await?;
    carries(&two, 1, 11).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_all_the_checkpoint_restores_the_use() -> Result<()> {
    let operator = Operator::start().await?;
    operator.publisher.publish(1, &with_quota());
    let [one, two] = ["p1", "p2"].map(|id| Proxy::start(id, &[operator.url()]));
    let (one, two) = (one?, two?);
    one.count(used(30)?);
    two.count(used(5)?);
    shows(&operator, 35).await?;
    let checkpoint = operator.publisher.checkpoint(900_000)?;
    one.kill();
    two.kill();
    operator.kill().await?;

    let back = Operator::start().await?;
    back.publisher.restore(&checkpoint)?;
    back.publisher.publish(1, &with_quota());
    // While the others may still come, its part is a third.
    let fresh = Proxy::start("p9", &[back.url()])?;
    fresh.table(1).await?;
    eventually("a third", PATIENCE, async || {
        (fresh.given.lock().replicas == Some(3)).then_some(())
    })
    .await?;
    shows(&back, 35).await?;
    carries(&fresh, 1, 35).await?;
    assert!(back.publisher.restore("{}").is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_the_larger_amount_applies() -> Result<()> {
    let (old, new) = (Operator::start().await?, Operator::start().await?);
    for operator in [&old, &new] {
        operator.publisher.publish(1, &with_quota());
    }
    let gone = Proxy::start("p1", &[old.url()])?;
    let proxy = Proxy::start("p2", &[old.url(), new.url()])?;
    gone.count(used(20)?);
    proxy.count(used(1)?);
    shows(&old, 21).await?;
    shows(&new, 1).await?;
    gone.kill();
    carries(&proxy, 1, 20).await?;
    // The newer operator keeps stating nothing. With one more replica the amount is divided.
    let third = Proxy::start("p3", &[old.url(), new.url()])?;
    carries(&third, 2, 10).await?;
    carries(&proxy, 2, 10).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_store_is_known_per_replica_and_nothing_is_carried() -> Result<()> {
    let operator = Operator::start().await?;
    operator.publisher.publish(1, &with_quota());
    let proxy = Proxy::start("p1", &[operator.url()])?;
    proxy.counted.lock().store = StoreState::Lost;
    let fleet = operator.publisher.fleet();
    eventually("the loss to be reported", PATIENCE, async || {
        let fleet = fleet.borrow();
        fleet.replicas.first()?.store_lost.then_some(())
    })
    .await?;
    proxy.counted.lock().store = StoreState::Ok;
    eventually("the store to be back", PATIENCE, async || {
        let fleet = fleet.borrow();
        (!fleet.replicas.first()?.store_lost).then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_accepted_from_subscribers_only_and_is_bounded() -> Result<()> {
    let operator = Operator::start().await?;
    operator.publisher.publish(1, &with_quota());
    let post = async |token: &str, body: String| {
        let bearer = format!("Bearer {token}");
        let url = format!("{}/v1/report", operator.url());
        let answer = http::post_json(&url, &[("authorization", &bearer)], body).await?;
        Ok::<u16, anyhow::Error>(answer.status)
    };
    let report = |replica: &str, instance: &str| {
        let id = (replica.to_owned(), instance.to_owned());
        let report = Report::new(id, Counted::new(StoreState::None));
        serde_json::to_string(&report)
    };
    assert_eq!(post("good-p1", report("p1", "i")?).await?, 409);
    let _open = subscribe(&operator, "?instance=i", "good-p1").await?;
    assert_eq!(post("good-p1", report("p1", "i")?).await?, 204);
    assert_eq!(post("good-p1", report("p1", "another")?).await?, 409);
    assert_eq!(post("good-p1", report("p2", "i")?).await?, 403);
    assert_eq!(post("unknown", report("p1", "i")?).await?, 401);
    assert_eq!(post("good-p1", "x".repeat(9 << 20)).await?, 400);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_proxies_that_state_their_instance_get_carried_lines() -> Result<()> {
    let operator = Operator::start().await?;
    operator.publisher.publish(1, &with_quota());
    let older = first_line(&operator, "", "good-p1").await?;
    assert!(matches!(older, Line::Snapshot(_)));
    let newer = first_line(&operator, "?instance=i", "good-p2").await?;
    assert!(matches!(newer, Line::Carried(_)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_without_reports_gets_one_and_unknown_lines_are_ignored() -> Result<()> {
    let objects = v1::encode(&contents(vec![route("x", 1)]));
    let first = v1::Snapshot {
        version: v1::VERSION,
        revision: 1,
        digest: v1::digest(&objects),
        replicas: 1,
        objects,
    };
    let next = v1::encode(&contents(vec![route("x", 2)]));
    let (changed, removed) = v1::diff(&first.objects, &next);
    let delta = v1::Delta {
        base: first.digest.clone(),
        revision: 2,
        digest: v1::digest(&next),
        replicas: 1,
        changed,
        edited: BTreeMap::new(),
        removed,
    };
    let liar = Liar::start(vec![vec![
        line(&Line::Snapshot(first))?,
        "{\"type\":\"poem\",\"text\":\"of a time to come\"}\n".into(),
        line(&Line::Delta(delta))?,
    ]])
    .await?;
    let operator = Operator::start().await?;
    operator.publisher.publish(1, &with_quota());
    let proxy = Proxy::start("p1", &[liar.url(), operator.url()])?;
    proxy.table(2).await?;
    // Several reports later, as the other operator shows.
    for amount in 1..=2 {
        proxy.count(used(amount)?);
        shows(&operator, amount).await?;
    }
    assert_eq!(liar.reports(), 1);
    let subscribed = liar.subscription(0).await?;
    assert!(subscribed.contains("instance="), "{subscribed}");
    Ok(())
}
