//! What a table says of an endpoint.

use std::sync::Arc;

use proxy_core::names::Usage;
use proxy_core::table::{self, Deployment};
use proxy_core::tokens::{Family, output_weight};
use proxy_identity::Credential;

use crate::origin::Origin;

/// The tokens that no model reads or writes at once.
const UNKNOWN_CEILING: u64 = 1 << 24;

/// Where one table places an endpoint. A request keeps the place of the table that admitted it: its
/// caller was judged by that table, so it must not meet the credential of a later one.
#[derive(Debug)]
pub(crate) struct Place {
    /// Higher than that of each place before.
    pub(super) number: u64,
    pub(crate) declared: Arc<table::Endpoint>,
    /// `None` for a backend whose address cannot be used.
    pub(crate) origin: Option<Arc<Origin>>,
    /// The most that its model reads and writes at once, as far as that is known.
    pub(crate) window: Option<u64>,
    pub(crate) longest: Option<u64>,
    /// How its model splits text.
    pub(crate) family: Family,
    /// Whether its model takes a `prompt_cache_key`.
    pub(crate) takes_cache_key: bool,
    /// What it takes, if it is provisioned and that is declared.
    pub(crate) rated: Option<Rated>,
}

/// The rate of a provisioned deployment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rated {
    pub(super) tokens_per_minute: u64,
    pub(super) output_weight: u64,
}

// === impl Place ===

impl Place {
    /// The number of the token that the backend is shown; 0 where that is something else.
    pub(super) fn token(&self) -> u64 {
        let origin = self.origin.as_deref();
        let identity = origin.and_then(Origin::identity);
        identity.map_or(0, Credential::number)
    }

    /// The tokens that it takes in a minute, if that is declared.
    pub(super) fn rate(&self) -> Option<u64> {
        self.rated.map(|rated| rated.tokens_per_minute)
    }

    /// More than one answer can use: twice what the model is known for, since models grow under their names.
    pub(crate) fn ceiling(&self) -> Usage {
        let most =
            |known: Option<u64>| known.map_or(UNKNOWN_CEILING, |known| known.saturating_mul(2));
        Usage {
            input_tokens: most(self.window),
            output_tokens: most(self.longest),
            ..Usage::default()
        }
    }
}

// === impl Rated ===

impl Rated {
    pub(super) fn of(deployment: &Deployment) -> Option<Self> {
        let capacity = deployment.capacity;
        let rate = capacity
            .tokens_per_minute
            .filter(|_| capacity.is_provisioned);
        rate.map(|tokens_per_minute| Self {
            tokens_per_minute,
            output_weight: output_weight(&deployment.model),
        })
    }
}
