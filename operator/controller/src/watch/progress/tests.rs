use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use kube::api::Api;
use operator_compile::Kind;
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::resource::resource;
use crate::scenario::{Scenario, refusal};

/// Whether a watch that has come to version 900 is ahead of an API server with these answers, one after another.
async fn check(answers: &'static [Result<&str, StatusCode>], fails: bool) -> bool {
    let asked = AtomicUsize::new(0);
    let scenario = Scenario::default().rule(move |_call| {
        let answer = answers.get(asked.fetch_add(1, Ordering::Relaxed))?;
        Some(match answer {
            Ok(version) => (
                StatusCode::OK,
                json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": version}, "items": []}),
            ),
            Err(status) => refusal(*status, "Refused"),
        })
    });
    let api = Api::all_with(scenario.client(), &resource(Kind::AiRoute));
    let mut progress = Progress::default();
    progress.take(&Update::Listed {
        kind: Kind::AiRoute,
        scope: None,
        objects: Vec::new(),
        version: 900,
    });
    if fails {
        progress.fail();
    }
    let hour = Duration::from_secs(3_600);
    timeout(hour, progress.is_ahead(&api)).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_ahead_of_an_api_server_that_went_back() {
    const AWAY: Result<&str, StatusCode> = Err(StatusCode::SERVICE_UNAVAILABLE);
    assert!(check(&[Ok("899")], true).await);
    assert!(check(&[AWAY, AWAY, Ok("500")], true).await);
    assert!(!check(&[AWAY, Ok("900")], true).await);
    // It has not failed, or is not asked again: the first answer counts.
    assert!(!check(&[Ok("899")], false).await);
    assert!(!check(&[Ok("901"), Ok("500")], true).await);
    assert!(!check(&[Err(StatusCode::FORBIDDEN), Ok("500")], true).await);
    assert!(!check(&[Ok("of another kind"), Ok("500")], true).await);
}
