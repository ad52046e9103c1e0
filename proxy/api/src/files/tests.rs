use super::{FileKind, Files};

#[test]
fn sound_is_bounded_by_its_bytes_and_an_image_by_its_fidelity() {
    let minute = Files {
        count: 1,
        bytes: 60 * 4_000,
        text: 30,
    };
    let media = FileKind::Sound.media(minute);
    assert_eq!((media.bytes, media.tokens), (240_000, 600));
    assert_eq!(FileKind::Sound.sound_ms(minute), 60_000);
    let pictures = Files {
        count: 2,
        bytes: 5_000_000,
        text: 0,
    };
    let media = FileKind::Images.media(pictures);
    assert_eq!((media.bytes, media.tokens), (5_000_000, 13_080));
    assert_eq!(FileKind::Images.sound_ms(pictures), 0);
    assert_eq!(FileKind::Kept.media(pictures).tokens, 0);
}
