//! The identity of a caller on the channel: a TokenReview of its ServiceAccount token.
//!
//! A token that the API server calls good is not enough. It must be meant for the channel (its
//! audience) and belong to the ServiceAccount of the proxies. There is no cache here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{
    TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo,
};
use kube::Client;
use kube::api::{Api, PostParams};
use operator_publish::{Denial, Reviewer};
use proxy_admin::errors::chain;
use tokio::sync::Semaphore;
use tracing::warn;

use crate::metrics::Metrics;

#[cfg(test)]
mod tests;

/// Concurrent reviews: a flood of bad tokens must not reach the API server.
const MAX_REVIEWS: usize = 16;

/// Longest wait for the API server.
const PATIENCE: Duration = Duration::from_secs(10);

/// The message to the caller when the API server does not judge.
const UNREACHABLE: &str = "the API server could not be asked about the token";

/// The uid of the pod that a token is bound to.
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Reviews tokens. Cheap to clone.
#[derive(Clone)]
pub struct TokenReviewer {
    reviews: Api<TokenReview>,
    audience: Arc<str>,
    service_account: Arc<str>,
    slots: Arc<Semaphore>,
    metrics: Metrics,
}

// === impl TokenReviewer ===

impl fmt::Debug for TokenReviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReviewer")
            .field("audience", &self.audience)
            .field("service_account", &self.service_account)
            .finish_non_exhaustive()
    }
}

impl TokenReviewer {
    /// Accepts tokens for `audience` that belong to the ServiceAccount `account` in `namespace`.
    #[must_use]
    pub fn new(
        client: Client,
        audience: &str,
        namespace: &str,
        account: &str,
        metrics: Metrics,
    ) -> Self {
        Self {
            reviews: Api::all(client),
            audience: audience.into(),
            service_account: format!("system:serviceaccount:{namespace}:{account}").into(),
            slots: Arc::new(Semaphore::new(MAX_REVIEWS)),
            metrics,
        }
    }

    async fn ask(&self, token: &str) -> Result<Option<String>, Denial> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![self.audience.to_string()]),
                token: token.to_owned(),
            },
            ..TokenReview::default()
        };
        let asked = async {
            // Never closed: the semaphore lives as long as the reviewer.
            let _slot = self.slots.acquire().await.ok();
            let parameters = PostParams::default();
            self.reviews.create(&parameters, &review).await
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => self.judge(answer.status.unwrap_or_default()),
            Ok(Err(error)) => {
                warn!(error = %chain(&error), "the API server could not review a token");
                Err(Denial::Unavailable(UNREACHABLE.to_owned()))
            }
            Err(_elapsed) => Err(Denial::Unavailable(UNREACHABLE.to_owned())),
        }
    }

    fn judge(&self, status: TokenReviewStatus) -> Result<Option<String>, Denial> {
        let audience = self.audience.to_string();
        if status.authenticated != Some(true) {
            let message = format!("the token is not valid for audience {audience}");
            return Err(Denial::Unauthenticated(message));
        }
        // An API server without support for audiences leaves the list empty: then the token is
        // meant for the API server.
        let audiences = status.audiences.unwrap_or_default();
        if !audiences.iter().any(|one| **one == *self.audience) {
            return Err(Denial::WrongAudience { audience });
        }
        let user = status.user.unwrap_or_default();
        let found = user.username.clone().unwrap_or_default();
        if found != *self.service_account {
            return Err(Denial::WrongAccount {
                found,
                expected: self.service_account.to_string(),
            });
        }
        Ok(extra(&user, POD_UID))
    }
}

impl Reviewer for TokenReviewer {
    /// The identity is the uid of the pod. A token that is bound to no pod has none.
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<String>, Denial>> {
        Box::pin(async move {
            let outcome = self.ask(token).await;
            self.metrics.reviewed(outcome.as_ref().map(|_| ()));
            outcome
        })
    }
}

fn extra(user: &UserInfo, key: &str) -> Option<String> {
    let values = user.extra.as_ref()?.get(key)?;
    values.first().filter(|value| !value.is_empty()).cloned()
}
