//! Who calls on the channel: judges a ServiceAccount token by TokenReview.
//!
//! The API server says whether a token is good; that is not enough. It must be meant for us (its
//! audience), and be of the one ServiceAccount that the proxies run as. It remembers nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{
    TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo,
};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;

use crate::metrics::Metrics;

#[cfg(test)]
mod tests;

/// Reviews under way at a time: a flood of bad tokens must not become one on the API server.
const MAX_REVIEWS: usize = 16;

/// Longest wait for the API server.
const PATIENCE: Duration = Duration::from_secs(10);

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// The replica behind a good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaIdentity {
    /// Its pod, if the token is bound to one.
    pub pod_name: Option<String>,
    /// The uid of that pod. Without it the replica has to name itself.
    pub pod_uid: Option<String>,
    /// `system:serviceaccount:<namespace>:<name>`
    pub service_account: String,
}

/// Why a token is not good.
#[derive(Debug, thiserror::Error)]
pub enum ReviewDenied {
    /// The API server does not know it, or it is expired, or its pod is gone.
    #[error("the token is not valid for audience {audience}")]
    NotAuthenticated {
        /// What was asked for.
        audience: String,
    },
    /// It is for somebody else, such as the API server itself.
    #[error("the token is not meant for audience {audience}")]
    WrongAudience {
        /// What was asked for.
        audience: String,
    },
    /// It belongs to another account.
    #[error("the token belongs to {found}, expected {expected}")]
    WrongAccount {
        /// Whose it is.
        found: String,
        /// Whose it must be.
        expected: String,
    },
    /// The API server could not be asked; the caller should come back.
    #[error("the API server could not be asked about the token")]
    Unavailable(#[source] Option<kube::Error>),
}

/// Judges tokens. Cheap to clone.
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
    /// Accepts tokens for `audience` of the ServiceAccount `account` in `namespace`.
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

    /// Judges a token.
    ///
    /// # Errors
    /// The token is not good, or nobody could be asked.
    pub async fn review(&self, token: &str) -> Result<ReplicaIdentity, ReviewDenied> {
        let outcome = self.ask(token).await;
        self.metrics.reviewed(outcome.as_ref().map(|_| ()));
        outcome
    }

    async fn ask(&self, token: &str) -> Result<ReplicaIdentity, ReviewDenied> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![self.audience.to_string()]),
                token: token.to_owned(),
            },
            ..TokenReview::default()
        };
        let asked = async {
            // Closed never: the semaphore lives as long as we do.
            let _slot = self.slots.acquire().await.ok();
            let parameters = PostParams::default();
            self.reviews.create(&parameters, &review).await
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => self.judge(answer.status.unwrap_or_default()),
            Ok(Err(error)) => Err(ReviewDenied::Unavailable(Some(error))),
            Err(_elapsed) => Err(ReviewDenied::Unavailable(None)),
        }
    }

    fn judge(&self, status: TokenReviewStatus) -> Result<ReplicaIdentity, ReviewDenied> {
        let audience = || self.audience.to_string();
        if status.authenticated != Some(true) {
            return Err(ReviewDenied::NotAuthenticated {
                audience: audience(),
            });
        }
        // An API server that knows nothing of audiences leaves the list empty: then the token is
        // meant for itself.
        let audiences = status.audiences.unwrap_or_default();
        if !audiences.iter().any(|one| **one == *self.audience) {
            return Err(ReviewDenied::WrongAudience {
                audience: audience(),
            });
        }
        let user = status.user.unwrap_or_default();
        let found = user.username.clone().unwrap_or_default();
        if found != *self.service_account {
            return Err(ReviewDenied::WrongAccount {
                found,
                expected: self.service_account.to_string(),
            });
        }
        Ok(ReplicaIdentity {
            pod_name: extra(&user, POD_NAME),
            pod_uid: extra(&user, POD_UID),
            service_account: found,
        })
    }
}

fn extra(user: &UserInfo, key: &str) -> Option<String> {
    let values = user.extra.as_ref()?.get(key)?;
    values.first().filter(|value| !value.is_empty()).cloned()
}
