use std::time::Duration;

use super::{Columns, span};

#[test]
fn columns_are_as_wide_as_their_widest_cell() {
    let mut columns = Columns::new(["A", "B"]);
    columns.row(["long".to_owned(), "x".to_owned()]);
    assert_eq!(columns.lines(), ["A     B", "long  x"]);
}

#[test]
fn spans_read_in_the_two_units_that_matter() {
    for (seconds, text) in [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7_260, "2h1m"),
        (176_400, "2d1h"),
    ] {
        assert_eq!(span(Duration::from_secs(seconds)), text);
    }
}
