use std::time::Duration;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_watched_is_named_until_it_is_again() {
    let health = Health::default();
    assert!(health.failed(Kind::AiQuota));
    tokio::time::advance(Duration::from_secs(12)).await;
    assert!(!health.failed(Kind::AiQuota), "it was said");
    let text = health.text();
    assert!(
        text.starts_with("AIQuota has not been watched for 12 s"),
        "{text}"
    );
    assert!(health.works(Kind::AiQuota) && !health.works(Kind::AiQuota));
    assert_eq!(health.text(), "every kind is watched");
}
