//! What a request will cost, estimated before it is sent, and what it did cost.
//!
//! Refuses to be exact where the provider is not: the estimate is a count, or bytes by a ratio; the
//! truth is the provider's `usage`. Words: `estimate` before, `usage` after, `cost` in either case,
//! `expected` for what is known of a request beyond its shape.

mod cache_key;
mod ceiling;
mod encoding;
mod estimate;
mod observed_sizes;
mod price;
mod reasoning;
#[cfg(test)]
mod tests;
mod texture;
mod unreported;
mod weight;

pub use cache_key::takes_cache_key;
pub use ceiling::{context_window, max_output_tokens};
pub use encoding::Encoding;
pub use estimate::{Expected, Shape, estimate, most, overhead};
pub use observed_sizes::{Distribution, ObservedSizes};
pub use price::{LongContext, Price, Rates};
pub use reasoning::is_reasoning;
pub use texture::Family;
pub use unreported::{Thoughts, Unreported};
pub use weight::output_weight;
