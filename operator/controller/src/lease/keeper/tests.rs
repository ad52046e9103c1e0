use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use proxy_admin::shutdown::{self, Trigger};
use serde_json::Value;

use super::{Keeper, Leadership};
use crate::lease::Timing;
use crate::scenario::{Scenario, eventually, metrics, refusal};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/gateway/leases";

/// Short, since the keeper lives by the real clock.
const TIMING: Timing = Timing {
    duration: Duration::from_millis(900),
    renew_deadline: Duration::from_millis(450),
    retry: Duration::from_millis(40),
};

struct Running {
    leadership: Leadership,
    trigger: Trigger,
}

fn start(scenario: &Scenario, identity: &str) -> Running {
    let client = scenario.client();
    let (keeper, leadership) = Keeper::new(client, "gateway", identity, TIMING, metrics());
    let (trigger, shutdown) = shutdown::channel();
    proxy_admin::task::spawn("keeper", keeper.run(shutdown, async {}));
    Running {
        leadership,
        trigger,
    }
}

fn spec(scenario: &Scenario, field: &str) -> Value {
    let stored = scenario.stored.lock();
    let lease = stored.values().next().cloned().unwrap_or_default();
    lease["spec"][field].clone()
}

#[tokio::test]
async fn one_leads_until_it_releases_and_then_the_other() {
    let scenario = Scenario::default().storing(LEASES);
    let mut first = start(&scenario, "first");
    first.leadership.gained().await;
    assert!(first.leadership.holds());
    assert_eq!(spec(&scenario, "holderIdentity"), "first");
    let mut second = start(&scenario, "second");
    let acquired = spec(&scenario, "acquireTime");
    let renewed = spec(&scenario, "renewTime");
    eventually("a renewal", || {
        (spec(&scenario, "renewTime") != renewed).then_some(())
    })
    .await;
    assert_eq!(
        spec(&scenario, "acquireTime"),
        acquired,
        "renewed, not acquired"
    );
    assert!(!second.leadership.holds());

    first.trigger.stop();
    first.leadership.lost().await;
    second.leadership.gained().await;
    assert!(!first.leadership.holds());
    assert_eq!(spec(&scenario, "holderIdentity"), "second");
    assert_eq!(spec(&scenario, "leaseTransitions"), 1);
}

#[tokio::test]
async fn a_leader_without_responses_steps_down_and_comes_back() {
    let broken = Arc::new(AtomicBool::new(false));
    let scenario = {
        let broken = Arc::clone(&broken);
        let failure = move |_: &_| {
            let failure = refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
            broken.load(Ordering::Acquire).then_some(failure)
        };
        Scenario::default().rule(failure).storing(LEASES)
    };
    let mut only = start(&scenario, "only");
    only.leadership.gained().await;
    broken.store(true, Ordering::Release);
    only.leadership.lost().await;
    assert!(!only.leadership.holds());
    broken.store(false, Ordering::Release);
    only.leadership.gained().await;
    assert_eq!(
        spec(&scenario, "leaseTransitions"),
        0,
        "it was its own all the time"
    );
}
