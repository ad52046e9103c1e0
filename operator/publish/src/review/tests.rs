use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;

use super::*;

/// Counts how often it is asked.
struct Counting {
    asked: AtomicUsize,
    verdict: Verdict,
}

impl Reviewer for Counting {
    fn review<'a>(&'a self, _token: &'a str) -> BoxFuture<'a, Verdict> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        futures::future::ready(self.verdict.clone()).boxed()
    }
}

async fn check(verdict: Verdict, tokens: &[&str], asked: usize) {
    let reviewer = Arc::new(Counting {
        asked: AtomicUsize::new(0),
        verdict: verdict.clone(),
    });
    let judge: Arc<dyn Reviewer> = Arc::<Counting>::clone(&reviewer);
    let gate = Gate::new(judge);
    for token in tokens {
        assert_eq!(gate.admit(token).await, verdict);
    }
    assert_eq!(reviewer.asked.load(Ordering::Relaxed), asked);
}

#[tokio::test]
async fn a_verdict_is_cached_for_its_token_only() {
    check(Ok(Some("p1".to_owned())), &["a", "a", "b", "a"], 2).await;
    check(
        Err(Denial::Unauthenticated("no".to_owned())),
        &["a", "a"],
        1,
    )
    .await;
}

#[tokio::test]
async fn an_unavailable_reviewer_is_asked_again() {
    check(Err(Denial::Unavailable("down".to_owned())), &["a", "a"], 2).await;
}

#[tokio::test]
async fn guessed_tokens_do_not_fill_the_cache() {
    let reviewer: Arc<dyn Reviewer> = Arc::new(Counting {
        asked: AtomicUsize::new(0),
        verdict: Err(Denial::Unauthenticated("no".to_owned())),
    });
    let gate = Gate::new(reviewer);
    for token in 0..REMEMBERED * 2 {
        gate.admit(&token.to_string()).await.unwrap_err();
    }
    assert!(gate.verdicts.lock().len() <= REMEMBERED);
}
