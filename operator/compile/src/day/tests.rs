use proptest::prelude::*;

use super::*;

const MS_PER_DAY: i64 = 86_400_000;

#[test]
fn only_real_days_in_the_form_of_rfc_3339_are_read() {
    for good in ["2027-10-01", "2028-02-29", "0001-01-01", "9999-12-31"] {
        assert_eq!(
            Day::parse(good).map(|day| day.to_string()).as_deref(),
            Some(good)
        );
    }
    for bad in [
        "2027-02-29",
        "2027-13-01",
        "20271001",
        "2027-10-1",
        "2027-10-01T00:00:00Z",
        "",
        "x",
    ] {
        assert_eq!(Day::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_day_ends_at_midnight_in_utc() {
    let day = Day::parse("1970-01-02").unwrap();
    assert_eq!(Day::at(MS_PER_DAY), day);
    assert_eq!(Day::at(2 * MS_PER_DAY - 1), day);
    assert_eq!(Day::at(-1), Day::parse("1969-12-31").unwrap());
}

proptest! {
    #[test]
    fn days_between_are_those_of_the_clock(from in -700_000i64..2_900_000, days in -10_000i64..10_000) {
        let [one, other] = [from, from + days].map(|day| Day::at(day * MS_PER_DAY));
        prop_assert_eq!(one.until(other), days);
        prop_assert_eq!(Day::parse(&one.to_string()), Some(one));
    }
}
