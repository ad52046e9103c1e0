//! A pass over the open objects writes what a pass over all of them writes, and when one is due the writer wakes.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index as Choice;

use self::world::World;

mod cluster;
mod world;

/// What happens between two passes.
#[derive(Clone, Debug)]
enum Event {
    /// An object gets one of its specs, or comes with it.
    Apply(Choice, Choice),
    /// An object goes.
    Delete(Choice),
    /// An object goes, and another of its name and spec comes.
    Recreate(Choice),
    /// Somebody else writes a status.
    Overwrite(Choice, Overwrite),
    /// A proxy changes.
    Replica(Choice, Change),
    /// Every proxy applies the newest table and has nothing to complain of.
    Recovered,
    /// One of the days at which the next table is compiled.
    Today(Choice),
    /// One of the two Secrets has the label by which routes choose keys, or another one.
    Key(bool),
    /// The watches deliver what is stored.
    Observed,
    /// What was observed is compiled and published.
    Published,
    /// Every proxy has had the time to find this operator.
    Settled,
    /// The API server fails each write, or does not any more.
    ServerFails(bool),
    /// Another replica leads, or this one.
    Leads(bool),
}

/// A status that is not ours.
#[derive(Clone, Copy, Debug)]
enum Overwrite {
    Empty,
    OtherMessage,
    OtherNumbers,
    /// Of an operator that has observed a later generation.
    Newer,
    /// Of this generation, and in force on every proxy.
    InForce,
}

/// How a proxy changes.
#[derive(Clone, Debug)]
enum Change {
    Joins,
    Leaves,
    /// Another one takes its place, and is like it.
    Replaced,
    PodKnown(bool),
    /// By how many tables it is behind; `None` if it has applied none.
    Acknowledges(Option<u64>),
    Refuses(bool),
    Silent(bool),
    StoreLost(bool),
    /// The feature that it lacks for an object.
    Lacks(Choice, Option<&'static str>),
    /// The reason for which it has no token of a backend.
    Tokenless(Choice, Option<&'static str>),
    /// Which of the states a backend's deployment is in.
    Deployment(Choice, Choice),
}

/// Events at once, and the time until the next ones.
type Step = (Vec<Event>, u64);

fn overwrites() -> impl Strategy<Value = Overwrite> {
    prop_oneof![
        Just(Overwrite::Empty),
        Just(Overwrite::OtherMessage),
        Just(Overwrite::OtherNumbers),
        Just(Overwrite::Newer),
        Just(Overwrite::InForce),
    ]
}

fn changes() -> impl Strategy<Value = Change> {
    let choice = any::<Choice>;
    let words = || prop_oneof![Just(None), Just(Some("colour")), Just(Some("shape"))];
    prop_oneof![
        3 => Just(Change::Joins),
        2 => Just(Change::Leaves),
        3 => Just(Change::Replaced),
        3 => any::<bool>().prop_map(Change::PodKnown),
        4 => prop_oneof![3 => Just(Some(0)), 1 => Just(Some(1)), 1 => Just(None)]
            .prop_map(Change::Acknowledges),
        1 => any::<bool>().prop_map(Change::Refuses),
        1 => any::<bool>().prop_map(Change::Silent),
        1 => any::<bool>().prop_map(Change::StoreLost),
        5 => (choice(), words()).prop_map(|(object, feature)| Change::Lacks(object, feature)),
        1 => (choice(), words()).prop_map(|(backend, why)| Change::Tokenless(backend, why)),
        4 => (choice(), choice()).prop_map(|(backend, state)| Change::Deployment(backend, state)),
    ]
}

fn events() -> impl Strategy<Value = Event> {
    let choice = any::<Choice>;
    prop_oneof![
        6 => (choice(), choice()).prop_map(|(object, spec)| Event::Apply(object, spec)),
        1 => choice().prop_map(Event::Delete),
        1 => choice().prop_map(Event::Recreate),
        2 => (choice(), overwrites()).prop_map(|(object, how)| Event::Overwrite(object, how)),
        10 => (choice(), changes()).prop_map(|(replica, change)| Event::Replica(replica, change)),
        3 => Just(Event::Recovered),
        1 => choice().prop_map(Event::Today),
        2 => any::<bool>().prop_map(Event::Key),
        6 => Just(Event::Observed),
        6 => Just(Event::Published),
        1 => Just(Event::Settled),
        1 => any::<bool>().prop_map(Event::ServerFails),
        1 => prop_oneof![1 => Just(false), 3 => Just(true)].prop_map(Event::Leads),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pauses = prop_oneof![3 => Just(200_u64), 2 => Just(3_000), 2 => Just(31_000)];
    vec((vec(events(), 1..4), pauses), 1..60)
}

/// A cluster with every object, on one proxy, at rest unless it `settles`.
fn begin(settles: bool) -> World {
    let mut world = World::new();
    for object in 0..world.objects() {
        world.put(object, 0);
    }
    // A route without a key has another verdict.
    world.key("first", true);
    world.change(0, &Change::Joins);
    for event in [Event::Observed, Event::Published, Event::Recovered] {
        world.happen(&event);
    }
    if !settles {
        world.happen(&Event::Settled);
    }
    world
}

async fn check(settles: bool, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut world = begin(settles);
    world.last(Duration::from_secs(1)).await?;
    for (events, pause_ms) in steps {
        for event in events {
            world.happen(&event);
        }
        world.last(Duration::from_millis(pause_ms)).await?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_open_objects_are_all_that_a_pass_has_to_look_at(
        settles in any::<bool>(),
        steps in steps(),
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().expect("it needs nothing");
        runtime.block_on(check(settles, steps))?;
    }
}
