//! The channel's question who is calling, answered by TokenReview.

use futures::future::BoxFuture;
use operator_controller::{ReviewDenied, TokenReviewer};
use operator_publish::{Denial, Reviewer};

/// Asks the API server.
pub(crate) struct ClusterReviewer(pub(crate) TokenReviewer);

impl Reviewer for ClusterReviewer {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<String>, Denial>> {
        Box::pin(async move {
            let replica = self.0.review(token).await.map_err(|denied| {
                let text = denied.to_string();
                match denied {
                    ReviewDenied::NotAuthenticated { .. } => Denial::Unauthenticated(text),
                    ReviewDenied::WrongAudience { .. } | ReviewDenied::WrongAccount { .. } => {
                        Denial::Forbidden(text)
                    }
                    ReviewDenied::Unavailable(_) => Denial::Unavailable(text),
                }
            })?;
            Ok(replica.pod_uid)
        })
    }
}
