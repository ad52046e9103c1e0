//! The answer about what a backend keeps, on its way to the client: each id gets its tag, and so does what is
//! sealed.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use proxy_api::Answers;
use proxy_api::coding::{Decoder, Undecodable};
use proxy_api::ids::{Mark, Marker, Tag};

use crate::bound::Bound;
use crate::kept::{ResourceId, StateKeys};
use crate::watch::{self, is_event_stream};

/// Marks the ids of one answer.
pub(crate) struct Marking {
    marker: Marker,
    /// The decoder of an answer that came coded, unasked; none for a coding that is not known here.
    coding: Option<Option<Decoder>>,
    keys: StateKeys,
    resource: ResourceId,
    /// `None`: ids stay as they are.
    owner: Option<Arc<str>>,
    /// The tags by which the client asked, where they are not those of now.
    asked: Box<[(Box<str>, Tag)]>,
}

impl Marking {
    /// For an answer with this head, from which it takes what does not hold any more. `answers` is `None` for one
    /// that is not kept itself, but spoken.
    pub(crate) fn of(
        headers: &mut HeaderMap,
        answers: Option<Answers>,
        keys: &StateKeys,
        resource: ResourceId,
        bound: &Bound,
    ) -> Self {
        headers.remove(CONTENT_LENGTH);
        let coding = headers.remove(CONTENT_ENCODING);
        let coding = coding.map(|coding| watch::decoder(&coding, watch::STREAM_BOUNDS));
        let marker = match answers {
            None => Marker::speech(is_event_stream(headers)),
            Some(_) if is_event_stream(headers) => Marker::events(),
            Some(Answers::Items) => Marker::items(),
            Some(Answers::List) => Marker::page(),
            Some(Answers::Itself | Answers::Bytes) => Marker::json(),
        };
        Self {
            marker,
            coding,
            keys: keys.clone(),
            resource,
            owner: bound.owner.clone(),
            asked: bound.asked.as_slice().into(),
        }
    }

    /// The id of what the answer is, as the backend knows it.
    pub(crate) fn id(&self) -> Option<&str> {
        self.marker.id()
    }

    /// Takes what arrived, and returns what goes on of it.
    pub(crate) fn pass(&mut self, data: Bytes) -> Result<Bytes, Undecodable> {
        let data = match &mut self.coding {
            Some(Some(decoder)) => decoder.push(&data)?,
            Some(None) => return Err(Undecodable::Malformed),
            None => data,
        };
        Ok(self.mark(data))
    }

    /// What is left at the end.
    pub(crate) fn finish(&mut self) -> Result<Bytes, Undecodable> {
        match self.coding.take().flatten() {
            Some(mut decoder) => Ok(self.mark(decoder.finish()?)),
            None => Ok(Bytes::new()),
        }
    }

    fn mark(&mut self, data: Bytes) -> Bytes {
        let Self {
            marker,
            keys,
            resource,
            owner,
            asked,
            ..
        } = self;
        marker.push(data, |mark| {
            let owner = owner.as_deref()?;
            Some(match mark {
                Mark::Id(id) => {
                    let known = asked.iter().find(|(asked, _)| **asked == *id);
                    known.map_or_else(|| keys.tag(id, *resource, owner), |(_, tag)| *tag)
                }
                Mark::Sealed => keys.seal(*resource, owner),
            })
        })
    }
}
