use std::time::Duration;

use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::*;
use crate::task;

/// Room for this many connections.
fn budget(connections: usize) -> Arc<Budget> {
    Budget::new(2 * connections * CONNECTION)
}

/// A connection that closes this long after it is asked to.
fn open(room: Room, slow: Duration) -> tokio::task::JoinHandle<()> {
    task::spawn("connection under test", async move {
        room.place().asked().await;
        sleep(slow).await;
        drop(room);
    })
}

fn full(connections: usize) -> (Arc<Budget>, Vec<Room>) {
    let budget = budget(connections);
    let rooms = (0..connections).map(|_| budget.room().unwrap()).collect();
    assert!(budget.room().is_none());
    (budget, rooms)
}

#[tokio::test(start_paused = true)]
async fn silent_connections_make_room_before_idle_ones_and_the_first_before_others() {
    let (budget, rooms) = full(20);
    // The first ten have had a request.
    for room in rooms.iter().take(10) {
        room.place().leave();
    }
    for room in rooms.iter().take(10).rev() {
        room.place().stand(Rank::Idle);
    }
    let open: Vec<_> = rooms
        .into_iter()
        .map(|room| open(room, Duration::ZERO))
        .collect();
    let order: Vec<usize> = (10..20).chain((0..10).rev()).collect();
    for newcomers in 1..=20 {
        let newcomer = budget.room_for_newcomer().await.unwrap();
        newcomer.place().leave();
        // It has work to do, until the end.
        std::mem::forget(newcomer);
        sleep(Duration::from_millis(1)).await;
        let gone = |number: &&usize| open[**number].is_finished();
        let count = order.iter().filter(gone).count();
        assert!((newcomers..newcomers + 4).contains(&count), "{count}");
        assert!(order.iter().take(count).all(|number| gone(&number)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_waits_for_those_that_leave_and_not_for_those_that_work() {
    let (budget, mut rooms) = full(4);
    for room in &rooms {
        room.place().leave();
    }
    let began = Instant::now();
    assert!(budget.room_for_newcomer().await.is_none());
    assert_eq!(began.elapsed(), Duration::ZERO);
    let slow = rooms.pop().unwrap();
    slow.place().stand(Rank::Idle);
    let slow = open(slow, Duration::from_millis(300));
    sleep(Duration::from_millis(1)).await;
    // Two newcomers: the second one asks no one, and waits all the same.
    let (first, second) = tokio::join!(budget.room_for_newcomer(), budget.room_for_newcomer());
    assert!(first.is_some() ^ second.is_some());
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(began.elapsed() < LATE);
    slow.await.unwrap();
}

/// Longer than a newcomer waits.
const LATE: Duration = Duration::from_millis(1_100);

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_leave_holds_a_newcomer_up_for_a_second() {
    let (budget, rooms) = full(1);
    let began = Instant::now();
    assert!(budget.room_for_newcomer().await.is_none());
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(began.elapsed() < LATE);
    // It had work to do after all, and is not waited for.
    rooms[0].place().leave();
    let began = Instant::now();
    assert!(budget.room_for_newcomer().await.is_none());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_grows_at_the_cost_of_others_and_not_of_itself() {
    let (budget, mut rooms) = full(4);
    let mut last = rooms.pop().unwrap();
    let others: Vec<_> = rooms
        .into_iter()
        .map(|room| open(room, Duration::ZERO))
        .collect();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(last.grow(3 * CONNECTION).await, Made::Room);
    assert_eq!(last.bytes(), 3 * CONNECTION);
    assert_eq!(others.iter().filter(|other| other.is_finished()).count(), 2);
    let more = last.grow(5 * CONNECTION).await;
    assert_eq!(more, Made::None, "there is no one else");
    assert_eq!(budget.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_many_that_grow_at_once_as_many_give_way_as_others_need() {
    let (budget, rooms) = full(40);
    let growing = rooms.into_iter().map(|mut room| async move {
        let made = room.grow(2 * CONNECTION).await;
        assert_ne!(made, Made::None);
        (made == Made::Room).then_some(room)
    });
    let growing: JoinSet<_> = growing.collect();
    let grown = growing.join_all().await;
    let grown: Vec<_> = grown.into_iter().flatten().collect();
    assert_eq!((grown.len(), budget.open()), (20, 20));
}

#[test]
fn there_are_no_more_connections_than_descriptors_are_set_aside_for() {
    let budget = Budget::with_connections(usize::MAX, 2);
    let rooms = [budget.room(), budget.room()];
    assert!(rooms.iter().all(Option::is_some));
    assert!(budget.room().is_none());
    drop(rooms);
    assert_eq!((budget.open(), budget.held()), (0, 0));
    assert!(budget.room().is_some());
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug)]
enum Step {
    Open,
    Leave(usize),
    Stand(usize),
    Ask(usize),
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Open),
        (0usize..8).prop_map(Step::Leave),
        (0usize..8).prop_map(Step::Stand),
        (0usize..4).prop_map(Step::Ask),
        (0usize..8).prop_map(Step::Close),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_each_is_asked_once_and_all_is_given_back(
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let budget = budget(8);
        // Each with its rank while it may be asked.
        let mut open: Vec<(Room, Option<Rank>)> = Vec::new();
        for step in steps {
            match step {
                Step::Open => open.extend(budget.room().map(|room| (room, Some(Rank::Silent)))),
                Step::Leave(index) => {
                    if let Some((room, rank)) = open.get_mut(index) {
                        room.place().leave();
                        *rank = None;
                    }
                }
                Step::Stand(index) => {
                    if let Some((room, rank)) = open.get_mut(index) {
                        room.place().stand(Rank::Idle);
                        *rank = Some(Rank::Idle);
                    }
                }
                Step::Ask(count) => {
                    let may = open.iter().filter(|(_, rank)| rank.is_some()).count();
                    let asked = budget.connections.ask(count, None);
                    prop_assert_eq!(asked, count.min(may));
                    for (room, rank) in &mut open {
                        let mut cx = Context::from_waker(std::task::Waker::noop());
                        if room.place().poll_asked(&mut cx).is_ready() {
                            *rank = None;
                        }
                    }
                }
                Step::Close(index) => {
                    if index < open.len() {
                        drop(open.remove(index));
                    }
                }
            }
            prop_assert_eq!(budget.open(), open.len());
        }
        drop(open);
        prop_assert_eq!((budget.open(), budget.held()), (0, 0));
        prop_assert_eq!(budget.connections.ask(1, None), 0);
    }
}
