use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::{Bounds, Decoder, Undecodable};

const BOUNDS: Bounds = Bounds {
    per_call: 1 << 20,
    total: 2 << 20,
};

/// [`text`], by the encoders of Node.js and of Zstandard (with a checksum).
const BR: &str = "1b1715f81d0776c357139a6dbcfbc52c4514741a64af2f55850d97200f9605211060068011bb2a";
const ZSTD: &str = "28b52ffd0468d5000090646174613a207b2261223a22c3a9227d0a0a010006aafa1906723d5d8b";

fn text() -> Vec<u8> {
    "data: {\"a\":\"é\"}\n\n".repeat(300).into_bytes()
}

fn coded(coding: &str, text: &[u8]) -> Vec<u8> {
    let (level, bytes) = (Compression::fast(), Vec::new());
    let written = match coding {
        "gzip" | "x-gzip" => {
            let mut encoder = GzEncoder::new(bytes, level);
            encoder.write_all(text).and_then(|()| encoder.finish())
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(bytes, level);
            encoder.write_all(text).and_then(|()| encoder.finish())
        }
        "raw" => {
            let mut encoder = DeflateEncoder::new(bytes, level);
            encoder.write_all(text).and_then(|()| encoder.finish())
        }
        _ => panic!("no encoder"),
    };
    written.expect("a buffer")
}

/// Every kind of coding, and the text in it.
fn all() -> [(&'static str, Vec<u8>); 9] {
    let hex = |text: &str| hex(text);
    [
        ("gzip", coded("gzip", &text())),
        ("X-GZIP", coded("x-gzip", &text())),
        (
            "gzip",
            [coded("gzip", &text()[..7]), coded("gzip", &text()[7..])].concat(),
        ),
        ("deflate", coded("deflate", &text())),
        ("deflate", coded("raw", &text())),
        (" br ", hex(BR)),
        ("zstd", hex(ZSTD)),
        ("br, gzip", coded("gzip", &hex(BR))),
        (
            "identity, deflate,, gzip",
            coded("gzip", &coded("raw", &text())),
        ),
    ]
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    digits
        .chunks(2)
        .map(|pair| byte(pair).expect("hex"))
        .collect()
}

fn decoded(
    encoding: &str,
    bytes: &[u8],
    size: usize,
    bounds: Bounds,
) -> Result<Vec<u8>, Undecodable> {
    let mut decoder = Decoder::new(encoding, bounds).expect("a known coding");
    let mut out = Vec::new();
    for chunk in bytes.chunks(size) {
        out.extend_from_slice(&decoder.push(chunk)?);
    }
    out.extend_from_slice(&decoder.finish()?);
    Ok(out)
}

#[test]
fn every_coding_decodes_in_pieces_of_any_size() {
    for (encoding, bytes) in all() {
        for size in [1, 2, 3, 7, 100, 10_000] {
            let out = decoded(encoding, &bytes, size, BOUNDS);
            assert_eq!(out, Ok(text()), "{encoding} in {size}");
        }
    }
}

#[test]
fn what_is_not_coded_passes() {
    for encoding in ["", "identity", " , Identity,"] {
        let mut decoder = Decoder::new(encoding, BOUNDS).expect("no coding");
        assert!(decoder.is_identity());
        assert_eq!(decoder.push(b"abc").as_deref(), Ok(b"abc".as_slice()));
        assert_eq!(decoder.finish().as_deref(), Ok(b"".as_slice()));
    }
}

#[test]
fn what_is_not_known_is_refused() {
    for encoding in ["compress", "gzip, dcb", "gzip, gzip, gzip", "g zip"] {
        assert!(Decoder::new(encoding, BOUNDS).is_none(), "{encoding}");
    }
}

#[test]
fn an_event_is_decoded_when_it_was_flushed() {
    let mut br = Decoder::new("br", BOUNDS).expect("known");
    let push = |decoder: &mut Decoder, bytes: &[u8]| decoder.push(bytes).map(|out| out.to_vec());
    let (one, two) = (
        "0b0580646174613a206f6e650a0a",
        "5000805f5ae18dee4e11a24a04600b",
    );
    assert_eq!(push(&mut br, &hex(one)), Ok(b"data: one\n\n".to_vec()));
    assert_eq!(push(&mut br, &hex(two)), Ok(b"data: two\n\n".to_vec()));
    assert_eq!(br.finish(), Err(Undecodable::Malformed));
    for kind in ["gzip", "deflate"] {
        let mut decoder = Decoder::new(kind, BOUNDS).expect("known");
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        for event in ["data: one\n\n", "data: two\n\n"] {
            let encoder: &mut dyn Write = if kind == "gzip" { &mut gzip } else { &mut zlib };
            encoder.write_all(event.as_bytes()).expect("a buffer");
            encoder.flush().expect("a buffer");
            let buffer = if kind == "gzip" {
                gzip.get_mut()
            } else {
                zlib.get_mut()
            };
            let coded = std::mem::take(buffer);
            assert_eq!(
                push(&mut decoder, &coded),
                Ok(event.as_bytes().to_vec()),
                "{kind}"
            );
        }
    }
}

#[test]
fn an_answer_without_a_body_has_no_coding() {
    for (encoding, _) in all() {
        assert_eq!(decoded(encoding, b"", 1, BOUNDS), Ok(Vec::new()));
    }
}

#[test]
fn an_answer_that_ends_too_early_or_goes_on_is_malformed() {
    for (encoding, bytes) in all() {
        for end in 1..bytes.len() {
            let out = decoded(encoding, &bytes[..end], 16, BOUNDS);
            // Two members of gzip are an answer each.
            assert!(
                out.is_err() || out.is_ok_and(|out| out.len() == 7),
                "{encoding} {end}"
            );
        }
        let longer = [&bytes[..], b"more"].concat();
        for size in [16, 10_000] {
            let out = decoded(encoding, &longer, size, BOUNDS);
            assert_eq!(out, Err(Undecodable::Malformed), "{encoding}");
        }
    }
}

#[test]
fn a_bomb_is_an_error() {
    let zeros = vec![0; 4 << 20];
    let mut zstd = hex("28b52ffd0038");
    for _ in 0..32 {
        // A block of 128 KiB, by repetition of one byte.
        zstd.extend_from_slice(&((128_u32 << 10) << 3 | 2).to_le_bytes()[..3]);
        zstd.push(0);
    }
    zstd.extend_from_slice(&[1, 0, 0]);
    for (encoding, bomb) in [
        ("gzip", coded("gzip", &zeros)),
        ("deflate", coded("deflate", &zeros)),
        ("deflate", coded("raw", &zeros)),
        ("br", hex("9bffff3ff82700e2b14020f7fe07")),
        ("gzip, gzip", coded("gzip", &coded("gzip", &zeros))),
        ("zstd", zstd),
    ] {
        let wide = Bounds {
            per_call: 4 << 20,
            total: 4 << 20,
        };
        assert_eq!(
            decoded(encoding, &bomb, 4, wide).map(|out| out.len()),
            Ok(4 << 20),
            "{encoding}"
        );
        for bounds in [
            Bounds {
                per_call: 1 << 20,
                total: 8 << 20,
            },
            Bounds {
                per_call: 8 << 20,
                total: 1 << 20,
            },
        ] {
            let mut decoder = Decoder::new(encoding, bounds).expect("known");
            assert_eq!(
                decoder.push(&bomb),
                Err(Undecodable::TooLarge),
                "{encoding}"
            );
            assert_eq!(decoder.push(b""), Err(Undecodable::TooLarge));
            assert_eq!(decoder.finish(), Err(Undecodable::TooLarge));
        }
        let in_pieces = Bounds {
            per_call: 8 << 20,
            total: (4 << 20) - 1,
        };
        assert_eq!(
            decoded(encoding, &bomb, 4, in_pieces),
            Err(Undecodable::TooLarge),
            "{encoding}"
        );
    }
}

#[test]
fn a_window_or_block_above_the_standard_is_malformed() {
    for frame in [
        // A window of 3.75 TiB, and of 16 MiB.
        "28b52ffd00ff010000",
        "28b52ffd0070010000",
        // A block of 128 KiB and one byte.
        "28b52ffd0038",
        // A dictionary.
        "28b52ffd01380701000000",
    ] {
        let mut bytes = hex(frame);
        if bytes.len() == 6 {
            bytes.extend_from_slice(&((((128_u32 << 10) + 1) << 3) | 3).to_le_bytes()[..3]);
            bytes.push(0);
        }
        assert_eq!(
            decoded("zstd", &bytes, 1, BOUNDS),
            Err(Undecodable::Malformed),
            "{frame}"
        );
    }
}

#[test]
fn frames_that_are_skipped_and_several_frames_are_read() {
    let skipped = hex("5e2a4d1803000000aabbcc");
    let bytes = [&skipped[..], &hex(ZSTD), &skipped, &hex(ZSTD), &skipped].concat();
    for size in [1, 5, 1_000] {
        let out = decoded("zstd", &bytes, size, BOUNDS);
        assert_eq!(out, Ok([text(), text()].concat()));
    }
}

proptest! {
    #[test]
    fn broken_bytes_never_panic_nor_exceed_the_bound(
        which in 0_usize..9, changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6), size in 1_usize..50,
    ) {
        let (encoding, mut bytes) = all()[which].clone();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let bounds = Bounds { per_call: 1 << 13, total: 1 << 14 };
        let out = decoded(encoding, &bytes, size, bounds);
        prop_assert!(out.is_err() || out.is_ok_and(|out| out.len() <= 1 << 14));
    }

    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1_usize..50) {
        for encoding in ["gzip", "deflate", "br", "zstd", "br, zstd"] {
            let out = decoded(encoding, &bytes, size, BOUNDS);
            prop_assert!(out.is_err() || out.is_ok_and(|out| out.len() <= BOUNDS.total));
        }
    }
}
