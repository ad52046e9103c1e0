//! The body of a request, and what it says about itself.

use std::time::Instant;

use bytes::Bytes;
use http::Version;
use hyper::body::Incoming;
use proxy_admin::memory::Purpose;
use proxy_api::{Body, Call, Found};
use proxy_core::names::Code;

use super::Head;
use crate::answer::{Refusal, refuse};
use crate::exchange::Exchange;
use crate::memory::{REQUEST, STREAM};
use crate::replay::Replay;
use crate::tail::Feed;
use crate::upload::{Begun, Upload, declared, too_large};

/// A body that has come, or of a large form as much as decides.
pub(super) struct Received {
    pub(super) replay: Replay,
    /// What has come.
    pub(super) bytes: Bytes,
    /// When it came.
    pub(super) now: Instant,
    /// What it says about itself.
    pub(super) body: Body,
    /// What follows, of a body that is too large to be held.
    pub(super) feed: Option<Box<Feed>>,
}

impl Head<'_> {
    /// Reads the body, within the memory that the caller may hold. One with files that is too large for that
    /// is taken by the backend as it comes.
    pub(super) async fn received(
        &self,
        incoming: &mut Option<Incoming>,
        call: &'static Call,
        found: &Found,
        exchange: &mut Exchange,
    ) -> Result<Received, Box<Refusal>> {
        let shared = &self.core.shared;
        let memory = &shared.memory;
        let cost = if self.parts.version == Version::HTTP_2 {
            STREAM
        } else {
            REQUEST
        };
        exchange.hold = Some(memory.hold(Purpose::Request, &self.caller, cost)?);
        let kind = self.fields.content_type;
        let may_have_files = call.may_have_files(|| Some(kind.first()?.to_str().ok()?.to_owned()));
        let upload = Upload {
            encoding: self.fields.content_encoding,
            max: shared.config.max_body,
            may_have_files,
            now: self.now,
            until: self.now + self.live.longest,
            memory,
            caller: &self.caller,
        };
        // Unreachable without one: only this takes it, once.
        let Some(body) = incoming else {
            return Err(refuse(Code::Internal, "the body was taken before"));
        };
        let size = declared(body);
        if may_have_files && size > upload.max {
            if size > shared.config.max_upload {
                return Err(too_large(shared.config.max_upload));
            }
            return Box::pin(self.begun(&upload, incoming.take(), call, found, exchange)).await;
        }
        let (replay, bytes, now) = upload.read(body).await?;
        self.leash.received();
        exchange.record.bytes_in = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let in_path = found.model.is_some();
        let body = shared.scans.body(call, kind, &bytes, in_path).await?;
        exchange.record.streamed = body.stream;
        Ok(Received {
            replay,
            bytes,
            now,
            body,
            feed: None,
        })
    }

    /// Reads the beginning of a body that is too large to be held.
    async fn begun(
        &self,
        upload: &Upload<'_>,
        incoming: Option<Incoming>,
        call: &'static Call,
        found: &Found,
        exchange: &mut Exchange,
    ) -> Result<Received, Box<Refusal>> {
        let taken = || refuse(Code::Internal, "the body was taken before");
        let incoming = incoming.ok_or_else(taken)?;
        exchange.record.bytes_in = u64::try_from(declared(&incoming)).unwrap_or(u64::MAX);
        let malformed = |why: proxy_api::Malformed| refuse(Code::InvalidRequest, why.0);
        let kind = self.fields.content_type.first();
        let kind = kind.and_then(|kind| kind.to_str().ok());
        let scan = call
            .form_scan(kind, found.model.is_some())
            .map_err(malformed)?;
        let begun = upload.begin(incoming, scan, self.leash).await?;
        let Begun {
            first,
            sealed,
            now,
            feed,
        } = begun;
        let body = match sealed {
            Some(body) => body,
            None => call.scan(None, &first, false).map_err(malformed)?,
        };
        exchange.record.streamed = body.stream;
        Ok(Received {
            replay: Replay::new(first.clone(), None),
            bytes: first,
            now,
            body,
            feed: Some(Box::new(feed)),
        })
    }
}
