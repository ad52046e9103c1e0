//! What the gateway adds to the body of a request for one endpoint, and which of it that endpoint refuses.

use std::time::Duration;

use http::{Response, StatusCode};
use proxy_api::{BoundName, UserMember, UserMembers, refused_member};
use smallvec::SmallVec;

use crate::quirks::Added;
use crate::upstream::AnswerBody;

/// How much of a refusal is looked at, and for how long: such a message is short, and comes with its head.
const REFUSAL_BYTES: usize = 64 << 10;
const REFUSAL_TIME: Duration = Duration::from_secs(5);

/// What the gateway adds to one body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Additions {
    /// The wish for usage.
    pub(crate) usage: bool,
    pub(crate) bound: Option<(BoundName, u64)>,
    /// Names of the end user, where the client gave none.
    pub(crate) users: UserMembers,
}

impl Additions {
    /// The member of these that the answer refuses. Reads the body of the answer, and puts it back.
    pub(crate) async fn refused_by(self, response: &mut Response<AnswerBody>) -> Option<Added> {
        let status = response.status();
        let may_refuse =
            status == StatusCode::BAD_REQUEST || status == StatusCode::UNPROCESSABLE_ENTITY;
        if !may_refuse {
            return None;
        }
        let usage = self.usage.then_some(Added::StreamOptions);
        let bound = self.bound.map(|(name, _)| Added::Bound(name));
        let users = UserMember::ALL.into_iter();
        let users = users.filter(|member| self.users.has(*member));
        let added: SmallVec<[Added; 5]> = usage
            .into_iter()
            .chain(bound)
            .chain(users.map(Added::User))
            .collect();
        if added.is_empty() {
            return None;
        }
        let body = response.body_mut().peek(REFUSAL_BYTES, REFUSAL_TIME).await;
        let names: SmallVec<[&str; 5]> = added.iter().map(|one| one.name()).collect();
        let named = refused_member(status.as_u16(), &body, &names)?;
        added.into_iter().find(|one| one.name() == named)
    }
}
