//! A deployment that its backend retires: one Event for each level, whichever operator leads.

use anyhow::{Result, ensure};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde_json::Value;
use tests_support::eventually_ok;

use crate::installation::{ANN, GOOD, Installation, LIMIT, SOON};

/// The day this many days from now, in UTC.
fn day(days: i64) -> Result<String> {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    Ok(today.checked_add(days.days())?.to_string())
}

/// Sets the day on which the deployment of [`GOOD`] retires.
async fn set(installation: &Installation, day: &str) -> Result<()> {
    let patch =
        format!(r#"[{{"op": "add", "path": "/spec/deployments/0/retires", "value": "{day}"}}]"#);
    let patch = ["patch", "aib", "sim", "--type=json", "-p", &patch];
    installation.kubectl(&patch).await?.success()?;
    Ok(())
}

/// The condition `Retiring` of the backend, and the reasons of its events.
async fn told(installation: &Installation, reason: &str, events: &[&str]) -> Result<String> {
    let list = [
        "get",
        "events",
        "--field-selector=involvedObject.name=sim,type=Warning",
        "-o",
        "jsonpath={range .items[*]}{.reason}{'\\n'}{end}",
    ];
    eventually_ok("the condition and the events", LIMIT, async || {
        let backend = installation.get("aib/sim").await?;
        let conditions = backend.pointer("/status/conditions");
        let conditions = conditions.and_then(Value::as_array).into_iter().flatten();
        let mut conditions =
            conditions.filter(|one| one.get("type").is_some_and(|it| it == "Retiring"));
        let found = conditions.next().cloned().unwrap_or_default();
        ensure!(
            found.get("reason").is_some_and(|it| it == reason),
            "{backend}"
        );
        let text = installation.kubectl(&list).await?.success()?;
        let mut reasons: Vec<&str> = text.lines().collect();
        reasons.sort_unstable();
        ensure!(reasons == events, "there are {reasons:?}");
        Ok(found.to_string())
    })
    .await
}

#[tokio::test]
async fn each_level_is_one_event_over_two_operators_and_the_deployment_goes_on() -> Result<()> {
    let (installation, leader, [proxy, _]) = Installation::start("retirements", &[]).await?;
    installation.apply(GOOD).await?;
    installation.wait("aib/sim", "condition=Ready").await?;
    set(&installation, &day(20)?).await?;
    let within_month = "RetiresWithinMonth";
    let message = told(&installation, within_month, &[within_month]).await?;
    let expected = format!(
        "gpt-4o retires on {}, in 20 days; used by retirements/chat",
        day(20)?
    );
    assert!(message.contains(&expected), "{message}");

    // Another operator leads, and knows what was said by the status.
    leader.process.terminate(LIMIT).await?;
    let events = ["delete", "events", "--all"];
    installation.kubectl(&events).await?.success()?;
    let _other = installation.operator(1).await?;
    installation
        .apply(&crate::installation::route("more", "gpt-5", "sim"))
        .await?;
    installation.wait("air/more", "condition=Ready").await?;
    told(&installation, within_month, &[]).await?;

    set(&installation, &day(-1)?).await?;
    told(&installation, "Retired", &["Retired"]).await?;
    proxy.answers((ANN, "gpt-4o"), 200, SOON).await?;
    installation.wait("aib/sim", "condition=Ready").await?;
    let refused = set(&installation, "2027-13-01").await;
    assert!(refused.is_err(), "the API server knows that this is no day");
    Ok(())
}
