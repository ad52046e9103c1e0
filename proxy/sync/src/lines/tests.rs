use super::*;

#[test]
fn lines_do_not_depend_on_how_bytes_are_split() {
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
