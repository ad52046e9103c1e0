use std::io;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// A resolver that answers as a test says, and only as often as it allows.
#[derive(Clone)]
struct Resolver {
    addresses: Arc<Mutex<Option<Vec<IpAddr>>>>,
    answers: Arc<Semaphore>,
    asked: Arc<AtomicUsize>,
}

impl Resolver {
    fn of(addresses: &[u8]) -> (Self, Host) {
        let resolver = Self {
            addresses: Arc::default(),
            answers: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            asked: Arc::default(),
        };
        resolver.set(addresses);
        let asked = resolver.clone();
        let host = Host::with_lookup("a.example", Arc::new(move |_name| asked.look()));
        (resolver, host)
    }

    fn look(&self) -> Looking {
        let resolver = self.clone();
        Box::pin(async move {
            resolver.asked.fetch_add(1, Ordering::SeqCst);
            let permit = resolver.answers.acquire().await;
            permit.expect("it is open").forget();
            let addresses = resolver.addresses.lock().clone();
            addresses.ok_or_else(|| io::Error::other("SERVFAIL"))
        })
    }

    /// 10.0.0.N for each N.
    fn set(&self, addresses: &[u8]) {
        let addresses = addresses.iter().map(|last| address(*last));
        *self.addresses.lock() = Some(addresses.collect());
    }

    fn fail(&self) {
        *self.addresses.lock() = None;
    }

    fn hang(&self) {
        self.answers.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

/// Lets a lookup end.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// The host's addresses, by their last numbers.
async fn found(host: &Host) -> Result<Vec<u8>, String> {
    let found = timeout(PATIENCE, host.addresses()).await;
    let found = found.map_err(|_elapsed| "it waits".to_owned())?;
    let found = found.map_err(|error| error.to_string())?;
    Ok(found
        .iter()
        .map(|one| match one {
            IpAddr::V4(one) => one.octets()[3],
            IpAddr::V6(_) => 0,
        })
        .collect())
}

#[tokio::test]
async fn an_address_is_not_looked_up() {
    for written in ["10.0.0.7", "[::1]"] {
        let never = |_name: &str| -> Looking { panic!("it is an address") };
        let host = Host::with_lookup(written, Arc::new(never));
        assert_eq!(host.addresses().await.expect("itself").len(), 1);
        host.refresh(clock::instant() + STALE);
    }
}

#[tokio::test]
async fn one_lookup_serves_all_that_wait() {
    let (resolver, host) = Resolver::of(&[1, 2, 1]);
    resolver.hang();
    let asked = futures_of(&host, 300);
    let release = async {
        settle().await;
        resolver.answers.add_permits(1);
    };
    let (all, ()) = tokio::join!(asked, release);
    assert!(all.iter().all(|one| *one == Ok(vec![1, 2])));
    assert_eq!(resolver.asked(), 1);
}

async fn futures_of(host: &Host, count: usize) -> Vec<Result<Vec<u8>, String>> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let host = host.clone();
        tasks.spawn(async move { found(&host).await });
    }
    tasks.join_all().await
}

#[tokio::test]
async fn an_answer_is_used_on_while_the_resolver_hangs_or_fails() {
    let (resolver, host) = Resolver::of(&[1]);
    assert_eq!(found(&host).await, Ok(vec![1]));
    resolver.fail();
    host.refresh(clock::instant() + REFRESH);
    settle().await;
    assert_eq!((found(&host).await, resolver.asked()), (Ok(vec![1]), 2));
    resolver.hang();
    host.refresh(clock::instant() + REFRESH + RETRY);
    settle().await;
    assert_eq!((found(&host).await, resolver.asked()), (Ok(vec![1]), 3));
    // No other one begins while it hangs.
    host.refresh(clock::instant() + REFRESH * 10);
    settle().await;
    assert_eq!((found(&host).await, resolver.asked()), (Ok(vec![1]), 3));
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_second() {
    let (resolver, host) = Resolver::of(&[1]);
    resolver.fail();
    for _ in 0..3 {
        let failed = found(&host).await.expect_err("it fails");
        assert_eq!(failed, "look up the name: SERVFAIL");
    }
    assert_eq!(resolver.asked(), 1);
    resolver.set(&[4]);
    host.refresh(clock::instant() + RETRY);
    settle().await;
    assert_eq!((found(&host).await, resolver.asked()), (Ok(vec![4]), 2));
    // A name without an address is as good as none.
    resolver.set(&[]);
    let (_, empty) = Resolver::of(&[]);
    assert!(found(&empty).await.is_err());
}

#[tokio::test]
async fn a_name_in_use_is_looked_up_again() {
    let (resolver, host) = Resolver::of(&[1]);
    assert_eq!(found(&host).await, Ok(vec![1]));
    let now = clock::instant();
    for (after, asked) in [(0, 1), (9, 1), (11, 2)] {
        host.refresh(now + Duration::from_secs(after));
        settle().await;
        assert_eq!(resolver.asked(), asked, "{after} s");
    }
}

#[tokio::test]
async fn an_address_is_gone_once_two_answers_lack_it() {
    let (resolver, host) = Resolver::of(&[1, 2]);
    assert_eq!(found(&host).await, Ok(vec![1, 2]));
    let first = host.epoch();
    let next = async |addresses: &[u8]| {
        resolver.set(addresses);
        host.refresh(clock::instant() + REFRESH);
        settle().await;
        let has = [1, 2, 3].map(|last| host.has(address(last)));
        (has, host.epoch())
    };
    // Another order is no change.
    assert_eq!(next(&[2, 1]).await, ([true, true, false], first));
    // New connections go to the new one at once.
    let (has, second) = next(&[3]).await;
    assert_eq!(has, [true, true, true]);
    assert_eq!(found(&host).await, Ok(vec![3]));
    let (has, third) = next(&[3]).await;
    assert_eq!(has, [false, false, true]);
    assert!(first < second && second < third);
    // One that a server names by turns stays.
    next(&[1]).await;
    next(&[3]).await;
    assert_eq!(next(&[1]).await.0, [true, false, true]);
}

#[tokio::test]
async fn a_stale_answer_waits_for_a_new_one_for_a_moment() {
    let (resolver, host) = Resolver::of(&[1]);
    assert_eq!(found(&host).await, Ok(vec![1]));
    let long_ago = clock::instant().checked_sub(STALE).expect("a past");
    host.0.known.lock().answered = Some(long_ago);
    resolver.set(&[2]);
    assert_eq!(found(&host).await, Ok(vec![2]));
    host.0.known.lock().answered = Some(long_ago);
    resolver.hang();
    let began = clock::instant();
    assert_eq!(found(&host).await, Ok(vec![2]));
    assert!(began.elapsed() >= HURRY);
    // The next one has no wait left.
    let began = clock::instant();
    assert_eq!(found(&host).await, Ok(vec![2]));
    assert!(began.elapsed() < HURRY);
}
