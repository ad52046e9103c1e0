//! Whose is what a backend keeps. The id of a response or conversation leaves with a tag of the resource that
//! keeps it and of the consumer that made it, and comes back through it, on every replica that has the key.
//!
//! A tag is 16 characters: base64url of four bytes that name the resource, and eight of an HMAC-SHA-256 over
//! owner, resource and id.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proxy_api::ids::Tag;
use proxy_core::balance::Key;

#[cfg(test)]
mod tests;
use zeroize::Zeroizing;

/// The least characters of a key: 32 of `openssl rand -hex 32` are 128 bits.
const LEAST: usize = 32;
const RESOURCE: usize = 4;
const MAC: usize = 8;

/// The suffixes of the hosts that one Foundry resource has.
const HOSTS: [&str; 3] = [
    ".openai.azure.com",
    ".services.ai.azure.com",
    ".cognitiveservices.azure.com",
];

/// The keys of the tags: the first makes them, and all of them prove them.
#[derive(Clone)]
pub struct StateKeys(Arc<[hmac::Key]>);

/// Why a file of keys is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateKeysError {
    /// It has no line with a key.
    #[error("the file has no key; write one of 32 characters or more on a line")]
    Empty,
    /// A line is no key, but a comment or the like.
    #[error("line {0}: a key has no blanks, no # and nothing that cannot be printed")]
    NoKey(usize),
    /// A key is too short.
    #[error("line {0}: a key needs 32 characters or more; make one with: openssl rand -hex 32")]
    Short(usize),
}

/// Names the resource that keeps something, within the backends of one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ResourceId([u8; RESOURCE]);

// === impl ResourceId ===

impl ResourceId {
    /// The resource behind a host, with a port if it has one, and the path of a backend's base URL: a project
    /// keeps what is its own.
    pub(crate) fn of(authority: &str, path: &str) -> Self {
        let resource = HOSTS
            .iter()
            .find_map(|suffix| authority.strip_suffix(suffix));
        let name = format!("{}{path}", resource.unwrap_or(authority));
        let digest = digest::digest(&digest::SHA256, name.as_bytes());
        let first = digest.as_ref().first_chunk();
        // A digest is longer.
        Self(first.copied().unwrap_or_default())
    }

    /// What it is preferred by.
    pub(crate) fn key(self) -> Key {
        Key::new().with(&self.0)
    }
}

// === impl StateKeys ===

impl StateKeys {
    /// Reads a key from each line.
    ///
    /// # Errors
    /// [`StateKeysError`].
    pub fn read(text: &str) -> Result<Self, StateKeysError> {
        let mut keys = Vec::new();
        for (line, key) in (1..).zip(text.lines().map(str::trim)) {
            if key.is_empty() {
                continue;
            }
            if key.len() < LEAST {
                return Err(StateKeysError::Short(line));
            }
            if key.contains('#') || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(StateKeysError::NoKey(line));
            }
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()));
        }
        if keys.is_empty() {
            return Err(StateKeysError::Empty);
        }
        Ok(Self(keys.into()))
    }

    /// A key for the life of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let key = Zeroizing::new(rand::random::<[u8; 32]>());
        Self([hmac::Key::new(hmac::HMAC_SHA256, &*key)].into())
    }

    /// The tag of an id that leaves.
    pub(crate) fn tag(&self, id: &str, resource: ResourceId, owner: &str) -> Tag {
        let mut tag = Tag::default();
        let mut bytes = [0; RESOURCE + MAC];
        if let Some(key) = self.0.first()
            && let Some((of_resource, of_mac)) = bytes.split_first_chunk_mut()
        {
            *of_resource = resource.0;
            let whole = mac(key, id, resource, owner);
            for (to, from) in of_mac.iter_mut().zip(whole.as_ref()) {
                *to = *from;
            }
        }
        // Twelve bytes are sixteen characters.
        drop(URL_SAFE_NO_PAD.encode_slice(bytes, &mut tag));
        tag
    }

    /// Whether only one key proves: then each tag is the one that [`Self::tag`] makes.
    pub(crate) fn is_one(&self) -> bool {
        self.0.len() == 1
    }

    /// The id as its backend knows it, and the resource that keeps it; `None` if it does not belong to `owner`.
    pub(crate) fn open<'a>(&self, id: &'a str, owner: &str) -> Option<(&'a str, ResourceId)> {
        let (id, tag) = id.split_at_checked(id.len().checked_sub(size_of::<Tag>())?)?;
        let resource = self.prove(id, tag, owner).filter(|_| !id.is_empty())?;
        Some((id, resource))
    }

    /// The tag of what a resource has sealed. It says whose and where, and not what: that is known only once all of
    /// it has passed.
    pub(crate) fn seal(&self, resource: ResourceId, owner: &str) -> Tag {
        self.tag("", resource, owner)
    }

    /// The resource that has sealed what bears this tag; `None` if it does not belong to `owner`.
    pub(crate) fn unseal(&self, tag: &str, owner: &str) -> Option<ResourceId> {
        self.prove("", tag, owner)
    }

    fn prove(&self, id: &str, tag: &str, owner: &str) -> Option<ResourceId> {
        let mut bytes = [0; RESOURCE + MAC];
        let length = URL_SAFE_NO_PAD.decode_slice(tag, &mut bytes).ok()?;
        let (resource, proof) = bytes.split_first_chunk()?;
        let resource = ResourceId(*resource);
        let is_proved = |key: &hmac::Key| {
            let whole = mac(key, id, resource, owner);
            let begin = whole.as_ref().get(..MAC).unwrap_or_default();
            aws_lc_rs::constant_time::verify_slices_are_equal(begin, proof).is_ok()
        };
        (length == bytes.len() && self.0.iter().any(is_proved)).then_some(resource)
    }
}

fn mac(key: &hmac::Key, id: &str, resource: ResourceId, owner: &str) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    // No name has a zero byte.
    for part in [owner.as_bytes(), &[0], &resource.0, id.as_bytes()] {
        context.update(part);
    }
    context.sign()
}

impl fmt::Debug for StateKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateKeys({})", self.0.len())
    }
}
