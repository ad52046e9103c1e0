//! Proxies that come, go and fall silent, and what columns show.

use super::*;

/// Three proxies, the last of which has been silent for a while and has this table.
fn with_silent(acked: Option<u64>) -> Fleet {
    let mut fleet = fleet(&[Some(5), Some(5), acked]);
    fleet.replicas[2].pod = Some("tundish-proxy-2".to_owned());
    fleet.replicas[2].silent_since_ms = Some(1_000_500);
    fleet
}

fn condition<'a>(status: &'a Value, name: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().expect("there are some");
    let mut named = conditions.iter().filter(|one| one["type"] == name);
    named.next().expect("it has the condition")
}

#[test]
fn a_silent_proxy_without_the_present_form_is_named() {
    let wanted = wanted(&sound(1), &with_silent(Some(4)));
    let (status, _) = stored(&wanted, &StoredObject::default(), 0);
    assert_eq!(status["programmed"], "2/3");
    let programmed = condition(&status, "Programmed");
    assert_eq!(programmed["reason"], "ProxiesBehind");
    let text =
        "in force on 2 of 3 proxies; proxy tundish-proxy-2 silent since 1970-01-01T00:16:40Z";
    assert_eq!(programmed["message"], text);
}

#[test]
fn what_a_silent_proxy_has_is_in_force_there() {
    let (status, _) = stored(
        &wanted(&sound(1), &with_silent(Some(5))),
        &StoredObject::default(),
        0,
    );
    assert_eq!(status["programmed"], "all");
}

#[test]
fn a_proxy_that_comes_or_goes_changes_no_status_that_is_in_force_everywhere() {
    let before = wanted(&sound(1), &fleet(&[Some(5), Some(5)]));
    let (_, status) = stored(&before, &StoredObject::default(), 0);
    for acked in [&[Some(5)][..], &[Some(5), Some(6), Some(9)]] {
        assert!(
            !wanted(&sound(1), &fleet(acked)).differs(&status),
            "{acked:?}"
        );
    }
}

/// A verdict with one error of this reason.
fn failing(reason: Reason) -> Verdict {
    let mut verdict = unresolved(1);
    verdict.conditions[1].reason = reason;
    verdict.diagnostics[0].reason = reason;
    verdict
}

#[test]
fn only_what_no_other_object_can_mend_is_stalled() {
    let last = |reason| {
        let wanted = wanted(&failing(reason), &fleet(&[Some(5)]));
        words(&stored(&wanted, &StoredObject::default(), 0).0).pop()
    };
    let expect = |text: &str| Some(text.to_owned());
    assert_eq!(
        last(Reason::SecretNotFound),
        expect("Reconciling=True/SecretNotFound")
    );
    assert_eq!(last(Reason::Invalid), expect("Stalled=True/Invalid"));
    // One error that lasts is enough.
    let mut both = failing(Reason::SecretNotFound);
    let lasting = failing(Reason::Invalid).diagnostics.remove(0);
    both.diagnostics.push(lasting);
    let (status, _) = stored(
        &wanted(&both, &fleet(&[Some(5)])),
        &StoredObject::default(),
        0,
    );
    assert_eq!(words(&status).pop(), expect("Stalled=True/Invalid"));
}

#[test]
fn ready_has_the_reason_and_the_message_that_a_column_should_show() {
    let ready = |verdict: &Verdict| {
        let wanted = wanted(verdict, &fleet(&[Some(5)]));
        let (status, _) = stored(&wanted, &StoredObject::default(), 0);
        let ready = condition(&status, "Ready");
        let text = |field: &str| ready[field].as_str().expect("it is text").to_owned();
        [text("status"), text("reason"), text("message")]
    };
    assert_eq!(
        ready(&sound(1)),
        ["True", "Ready", "the object is in force"]
    );
    let mut noted = sound(1);
    noted.conditions[0].message = "the selector selects nothing".to_owned();
    assert_eq!(
        ready(&noted),
        ["True", "HasWarnings", "the selector selects nothing"]
    );
    noted.conditions[0].reason = Reason::PartiallyInvalid;
    assert_eq!(ready(&noted)[..2], ["True", "PartiallyInvalid"]);
    let mut broken = failing(Reason::SecretNotFound);
    broken.conditions[1].message = "no Secret".to_owned();
    assert_eq!(
        ready(&broken),
        ["False", "SecretNotFound", "ResolvedRefs: no Secret"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_admits_no_caller_is_an_event_of_its_secret() {
    let verdicts = || BTreeMap::from([named("chat", sound(1))]);
    let bench = bench(verdicts());
    bench.wrote(1).await;
    let unusable = BTreeSet::from([UnusableKey {
        secret: ObjectName::new("team", "ann"),
        uid: "u1".to_owned(),
        message: "Secret ann is left out: it has no key".to_owned(),
    }]);
    for _ in 0..2 {
        let table = published_with(verdicts(), unusable.clone());
        bench.publications.send_replace(Some(table));
        bench.rest().await;
    }
    let events = events(&bench);
    assert_eq!(events.len(), 1);
    let event = &events[0].body;
    assert_eq!(event["reason"], "KeyUnusable");
    let regarding = &event["regarding"];
    assert_eq!(
        (&regarding["kind"], &regarding["name"]),
        (&"Secret".into(), &"ann".into())
    );
    assert_eq!(regarding["uid"], "u1");
}
