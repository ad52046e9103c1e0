//! What a request has in common with those that should go to the same endpoint.

use proxy_api::{Kept, conversation};
use proxy_core::auth::Caller;
use proxy_core::balance::Key;
use proxy_core::table::Affinity;

use super::Sending;

impl Sending<'_> {
    /// The key by which the request prefers an endpoint. It holds the caller and the model: one caller's choice of
    /// keys must not steer another one's requests. `None` where there is no choice, or nothing to prefer by.
    pub(super) fn affinity(&self, caller: Option<&Caller>) -> Option<Key> {
        if self.rule.targets.len() < 2 {
            return None;
        }
        let own = || {
            let caller = caller.map_or("", |caller| &*caller.full_name);
            let key = Key::new().with(caller.as_bytes());
            key.with(self.model.as_bytes())
        };
        if self.is_put_together() {
            return Some(own());
        }
        match &self.declared.affinity {
            Affinity::Conversation if self.body.beginning.is_absent() => None,
            Affinity::Conversation => conversation(&self.replay.bytes()?, &self.body, own),
            Affinity::Header(name) => {
                let value = self.client.get(name)?.as_bytes();
                (!value.is_empty()).then(|| own().with(b"header").with(value))
            }
            Affinity::None => None,
        }
    }

    /// Whether it makes what its caller puts together with other such things later, files in a store: all of them
    /// should be at one resource.
    pub(super) fn is_put_together(&self) -> bool {
        self.call.state.is_some_and(|state| {
            state.without_model
                && match state.kept {
                    Kept::File | Kept::Upload | Kept::VectorStore | Kept::Container => true,
                    Kept::Response
                    | Kept::Conversation
                    | Kept::Part
                    | Kept::Batch
                    | Kept::FileBatch
                    | Kept::ContainerFile
                    | Kept::Audio
                    | Kept::Item => false,
                }
        })
    }
}
