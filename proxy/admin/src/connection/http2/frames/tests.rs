use proptest::prelude::*;

use super::*;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
    frame.extend_from_slice(payload);
    frame
}

fn seen(pieces: &[&[u8]], preface: usize) -> Vec<Frame> {
    let mut frames = Frames::new(preface);
    let mut seen = Vec::new();
    for piece in pieces {
        frames.follow(piece, |frame| seen.push(frame));
    }
    seen
}

#[test]
fn resets_and_goodbyes_say_why() {
    let reset = frame(3, 0, &[0, 0, 0, 8]);
    let calm = frame(7, 0, &[0, 0, 0, 1, 0, 0, 0, 11, b'w', b'h', b'y']);
    let odd = frame(7, 0, &[0, 0, 0, 1, 0, 0, 1, 0]);
    assert_eq!(
        seen(&[b"preface", &reset, &calm, &odd], 7),
        [
            Frame::Reset { error: "cancel" },
            Frame::GoAway {
                error: "enhance_your_calm"
            },
            Frame::GoAway { error: "unknown" },
        ]
    );
}

#[test]
fn a_reset_that_is_too_short_says_nothing() {
    let short = frame(3, 0, &[0, 0]);
    let ping = frame(6, 0, &[0; 8]);
    assert_eq!(seen(&[&short, &ping], 0), [Frame::Other, Frame::Other]);
}

fn any_frame() -> impl Strategy<Value = (Vec<u8>, Frame)> {
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    (0u8..4, any::<bool>(), payload, 0u8..14).prop_map(|(kind, is_last, payload, code)| {
        let flags = if is_last { END_HEADERS } else { 0 };
        let length = payload.len();
        let error = ERRORS[usize::from(code)];
        match kind {
            0 => (frame(0, flags, &payload), Frame::Other),
            1 => (frame(1, flags, &payload), Frame::Head { length, is_last }),
            2 => (
                frame(9, flags, &payload),
                Frame::MoreHead { length, is_last },
            ),
            _ => (frame(3, 0, &[0, 0, 0, code]), Frame::Reset { error }),
        }
    })
}

proptest! {
    #[test]
    fn frames_are_the_same_in_pieces_of_any_size(
        frames in prop::collection::vec(any_frame(), 0..20),
        sizes in prop::collection::vec(1usize..50, 1..20),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let mut pieces = Vec::new();
        let (mut rest, mut size) = (&bytes[..], sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, others) = rest.split_at((*size.next().unwrap()).min(rest.len()));
            pieces.push(piece);
            rest = others;
        }
        let expect: Vec<Frame> = frames.iter().map(|(_, frame)| *frame).collect();
        prop_assert_eq!(seen(&pieces, 0), expect);
    }
}
