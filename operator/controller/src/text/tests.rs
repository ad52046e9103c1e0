use super::cut;

#[test]
fn a_text_within_the_bound_stays_and_a_longer_one_ends_with_an_ellipsis() {
    assert_eq!(cut("12345", 5), "12345");
    assert_eq!(cut("123456", 5), "12...");
    assert_eq!(cut("1é3456", 5), "1...", "a character is never cut in two");
}
