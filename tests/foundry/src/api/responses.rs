//! The Responses API: created, streamed, produced in the background, kept, and found again by id.

pub(crate) mod count;
pub(crate) mod create;
mod events;
pub(crate) mod input;
mod pages;
pub(crate) mod stored;

pub(crate) use pages::page;
