//! What a request has in common with those that should go to the same endpoint.

use proxy_api::conversation;
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
}
