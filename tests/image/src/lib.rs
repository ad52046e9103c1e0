//! The container image, without a daemon: an OCI image layout of the binaries, the C library that they are linked
//! to, licences, and nothing else: no shell, no package manager.
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>
//!
//! Equal files give equal digests: there is no time in it.

mod contents;
mod image;
mod layout;
pub mod tar;

use std::path::Path;

use anyhow::Result;

pub use crate::image::{ENVIRONMENT, Image, USER};

/// Writes the layout to `folder`, which it replaces, and returns the digest of the image's manifest.
///
/// # Errors
/// A file cannot be read or written, or `ldd` does not know a program.
pub fn write(image: &Image<'_>, folder: &Path) -> Result<String> {
    let system = contents::system(&image.programs)?;
    let ours = contents::ours(image)?;
    layout::write(image, folder, &[system, ours])
}
