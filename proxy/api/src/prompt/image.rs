//! What an image costs: its size from the first bytes of a `data:` URL, its tokens by the published
//! rule of the model's family.
//!
//! Source: `OpenAI`, "Images and vision", "Calculating costs"
//! (<https://platform.openai.com/docs/guides/images-vision>). Where bills were seen to differ from
//! it (the small GPT-5 models), its larger number is taken.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Base64 that is decoded to find the size: a JPEG has up to 64 KiB of camera data before it.
const HEAD: usize = 96 << 10;
/// No side is longer: the formats with a header for it end at 16 or 32 bits.
const LONGEST: u64 = 1 << 32;

/// Width and height in pixels.
pub(super) type Size = (u64, u64);

/// How a family of models sees an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vision {
    /// Squares of 512 pixels after scaling into 2048 by 2048 and to 768 on the short side; `base`
    /// for the overview, which is all that `low` sees.
    Tiles { base: u64, tile: u64 },
    /// Squares of 32 pixels up to a limit, times a factor in hundredths; `low` changes nothing.
    Patches { limit: u64, percent: u64 },
}

impl Vision {
    /// The rule of a model's family; of an unknown one, the dearest of the patches.
    pub(super) fn of_model(model: &str) -> Self {
        const FAMILIES: [(&str, Vision); 16] = [
            ("gpt-4o-mini", tiles(2833, 5667)),
            ("gpt-4o", tiles(85, 170)),
            ("gpt-4.1-mini", patches(1_536, 162)),
            ("gpt-4.1-nano", patches(1_536, 246)),
            ("gpt-4", tiles(85, 170)),
            ("gpt-5-mini", patches(1_536, 162)),
            ("gpt-5-nano", patches(1_536, 246)),
            ("gpt-5.4-mini", patches(1_536, 162)),
            ("gpt-5.4-nano", patches(1_536, 246)),
            ("gpt-5.2", patches(1_536, 120)),
            ("gpt-5.3", patches(1_536, 120)),
            // `original` sees up to 10,000 patches.
            ("gpt-5.", patches(10_000, 120)),
            ("gpt-5", tiles(70, 140)),
            ("o4-mini", patches(1_536, 172)),
            ("o", tiles(75, 150)),
            // Width times height by 750 (Anthropic, "Vision"); the largest that was seen is 4,005.
            ("claude", patches(2_933, 137)),
        ];
        FAMILIES
            .iter()
            .find(|(family, _)| model.starts_with(family))
            .map_or(patches(1_536, 246), |(_, vision)| *vision)
    }

    /// The tokens of one image; without a size, of the largest.
    pub(super) fn tokens(self, size: Option<Size>, detail: Option<&str>) -> u64 {
        match self {
            Self::Tiles { base, .. } if detail == Some("low") => base,
            // 2048 by 768 is the largest that scaling leaves.
            Self::Tiles { base, tile } => base + tile * size.map_or(8, tiles_of),
            Self::Patches { limit, percent } => {
                let patches = size.map_or(limit, |(width, height)| {
                    width.div_ceil(32).saturating_mul(height.div_ceil(32))
                });
                (patches.min(limit) * percent).div_ceil(100)
            }
        }
    }
}

const fn tiles(base: u64, tile: u64) -> Vision {
    Vision::Tiles { base, tile }
}

const fn patches(limit: u64, percent: u64) -> Vision {
    Vision::Patches { limit, percent }
}

fn tiles_of(size: Size) -> u64 {
    let (mut long, mut short) = (size.0.max(size.1).max(1), size.0.min(size.1).max(1));
    if long > 2048 {
        short = (short * 2048 / long).max(1);
        long = 2048;
    }
    if short > 768 {
        long = long * 768 / short;
        short = 768;
    }
    long.div_ceil(512) * short.div_ceil(512)
}

/// The size of the image in a `data:` URL, if it is there and of a format that is taken.
pub(super) fn size(url: &str) -> Option<Size> {
    let (kind, data) = url.strip_prefix("data:")?.split_once(',')?;
    if !kind.ends_with(";base64") {
        return None;
    }
    size_of(data)
}

/// The size of an image in base64.
pub(super) fn size_of(data: &str) -> Option<Size> {
    // Whole groups only, so that a cut one is no error.
    let end = data.len().min(HEAD);
    let head = data.as_bytes().get(..end - end % 4)?;
    let bytes = STANDARD.decode(head).ok()?;
    let size = png(&bytes)
        .or_else(|| gif(&bytes))
        .or_else(|| webp(&bytes))
        .or_else(|| jpeg(&bytes))?;
    ((1..LONGEST).contains(&size.0) && (1..LONGEST).contains(&size.1)).then_some(size)
}

/// The number of `N` bytes at `at`, most significant first.
fn big<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(N)?)?;
    Some(field.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

/// The number of `N` bytes at `at`, least significant first.
fn little<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(N)?)?;
    let digits = field.iter().rev();
    Some(digits.fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

/// W3C PNG, 11.2.2: IHDR is the first chunk.
fn png(bytes: &[u8]) -> Option<Size> {
    if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") || bytes.get(12..16)? != b"IHDR" {
        return None;
    }
    Some((big::<4>(bytes, 16)?, big::<4>(bytes, 20)?))
}

/// GIF89a, 18: the logical screen.
fn gif(bytes: &[u8]) -> Option<Size> {
    if !bytes.starts_with(b"GIF8") {
        return None;
    }
    Some((little::<2>(bytes, 6)?, little::<2>(bytes, 8)?))
}

/// RFC 9649: one of three kinds of first chunk.
fn webp(bytes: &[u8]) -> Option<Size> {
    if !bytes.starts_with(b"RIFF") || bytes.get(8..12)? != b"WEBP" {
        return None;
    }
    match bytes.get(12..16)? {
        b"VP8X" => Some((little::<3>(bytes, 24)? + 1, little::<3>(bytes, 27)? + 1)),
        b"VP8L" => {
            let bits = little::<4>(bytes, 21)?;
            Some(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
        }
        b"VP8 " => {
            let side = |at| little::<2>(bytes, at).map(|side| side & 0x3fff);
            Some((side(26)?, side(28)?))
        }
        _ => None,
    }
}

/// ITU T.81, B.1 and B.2: segments up to the frame header.
fn jpeg(bytes: &[u8]) -> Option<Size> {
    if !bytes.starts_with(b"\xff\xd8") {
        return None;
    }
    let mut at = 2;
    loop {
        if *bytes.get(at)? != 0xff {
            return None;
        }
        match *bytes.get(at + 1)? {
            // A fill byte.
            0xff => at += 1,
            // Markers that stand alone.
            0x01 | 0xd0..=0xd7 => at += 2,
            // The picture, or its end, without a frame.
            0xd8..=0xda => return None,
            // A frame header, of which DHT, JPG and DAC only share the range.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Some((big::<2>(bytes, at + 7)?, big::<2>(bytes, at + 5)?));
            }
            _ => {
                let length = usize::try_from(big::<2>(bytes, at + 2)?).ok()?;
                at = at.checked_add(2)?.checked_add(length)?;
            }
        }
    }
}
