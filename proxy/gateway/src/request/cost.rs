//! What a request may cost, and how it is reserved.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use proxy_admin::clock;
use proxy_api::{Body, Call, FileKind, Media};
use proxy_core::admit::Permit;
use proxy_core::tokens::{self, Shape};
use proxy_ledger::{Asking, Charge, Counters};

use super::Head;
use super::batch::{self, Batched};
use crate::answer::Refusal;
use crate::estimate::Estimate;

impl Head<'_> {
    /// The parts of the request that determine its cost, for a model and the size of its context.
    pub(super) async fn shape<'m>(
        &self,
        call: &Call,
        permit: &Permit<'_>,
        (bytes, body): (&Bytes, &Body),
        of_model: impl FnOnce() -> (&'m str, Option<u64>),
    ) -> Result<Shape, Box<Refusal>> {
        if let Some(kind) = call.files {
            return Ok(shape_of_form(permit, kind, body));
        }
        let media = self.core.shared.scans.media(bytes, body, of_model).await?;
        Ok(shape_of(permit, bytes, body, media))
    }

    /// Reserves what it may cost: by the estimate, or of a batch by its lines.
    #[inline]
    pub(super) async fn reserved(
        &self,
        counters: &Arc<Counters>,
        estimate: &Estimate<'_>,
        batch: Option<&Batched<'_>>,
        now: Instant,
    ) -> Result<Box<Charge>, Box<Refusal>> {
        let shared = &self.core.shared;
        let default_output = shared.config.default_output_tokens;
        let asking = Asking {
            counters,
            hold: match batch {
                Some(batch) => batch.hold,
                None => estimate.at_first(default_output),
            },
            now: clock::moment(now),
            clock: clock::now,
        };
        let recount = || batch.is_none().then(|| estimate.again(default_output));
        let reserved = shared.ledger.reserve(asking, recount).await;
        reserved.map_err(|refused| match batch {
            Some(_) => batch::refused(*refused),
            None => Box::new(Refusal::from(*refused)),
        })
    }
}

/// Those of a form: of its parts only the fields are text.
fn shape_of_form(permit: &Permit<'_>, kind: FileKind, body: &Body) -> Shape {
    let files = body.files;
    Shape {
        body_bytes: files.text,
        sound_ms: kind.sound_ms(files),
        ..shape_of(permit, &Bytes::new(), body, kind.media(files))
    }
}

/// The parts of a request that determine its cost.
fn shape_of(permit: &Permit<'_>, bytes: &Bytes, body: &Body, media: Media) -> Shape {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    Shape {
        body_bytes: size.saturating_sub(media.bytes),
        media_tokens: media.tokens,
        overhead: tokens::overhead(body.has_tools),
        max_output_tokens: body
            .image_tokens
            .or_else(|| permit.rule.output_tokens.bound(body.max_output_tokens())),
        choices: body.choices.saturating_mul(body.prompts),
        texts: body.texts,
        continues: body.has_item_references
            || body.references.iter().any(|one| one.kept.is_continued()),
        sound_ms: 0,
    }
}
