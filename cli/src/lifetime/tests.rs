use super::*;

/// 2026-11-27T08:00:00.5Z
const NOW_MS: i64 = 1_795_766_400_500;

fn end(text: &str) -> Result<String, String> {
    let now = Timestamp::from_millisecond(NOW_MS).map_err(|error| error.to_string())?;
    let lifetime: Lifetime = text
        .parse()
        .map_err(|error: InvalidLifetime| error.to_string())?;
    let end = lifetime.end(now).map_err(|error| error.to_string())?;
    Ok(end.to_string())
}

#[test]
fn a_lifetime_is_a_span_or_a_time() {
    assert_eq!(end("90d").unwrap(), "2027-02-25T08:00:00Z");
    assert_eq!(end("36h").unwrap(), "2026-11-28T20:00:00Z");
    assert_eq!(
        end("2027-01-31T01:00:00+01:00").unwrap(),
        "2027-01-31T00:00:00Z"
    );
    for text in [
        "",
        "d",
        "90",
        "90m",
        "-1d",
        "+1d",
        "1.5d",
        "31.1.2027",
        "4294967296d",
    ] {
        assert!(end(text).unwrap_err().starts_with("write "), "{text}");
    }
    for text in [
        "0d",
        "2026-11-27T08:00:00Z",
        "2020-01-01T00:00:00Z",
        "4294967295d",
    ] {
        assert!(
            end(text).unwrap_err().starts_with("the key would"),
            "{text}"
        );
    }
}
