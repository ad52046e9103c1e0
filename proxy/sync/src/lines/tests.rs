use super::*;

#[test]
fn finds_the_same_lines_however_the_bytes_are_cut() {
    let text = b"one\n\ntwo and three\nrest";
    for size in 1..text.len() {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in text.chunks(size) {
            lines.push(piece).unwrap();
            while let Some(line) = lines.next() {
                found.push(line);
            }
        }
        assert_eq!(
            found,
            [&b"one"[..], b"", b"two and three"],
            "pieces of {size}"
        );
    }
}
