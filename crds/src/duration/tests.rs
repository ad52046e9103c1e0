use super::{Duration, InvalidDuration};

fn milliseconds(text: &str) -> Result<u128, InvalidDuration> {
    text.parse::<Duration>()
        .map(|duration| duration.as_std().as_millis())
}

#[test]
fn reads_every_unit_and_their_sums() {
    for (text, expected) in [
        ("1ms", 1),
        ("250ms", 250),
        ("5s", 5_000),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("1m30s", 90_000),
        ("1h2m3s4ms", 3_723_004),
        ("10m10m", 1_200_000),
        ("24h", 86_400_000),
        ("00005s", 5_000),
    ] {
        assert_eq!(milliseconds(text), Ok(expected), "{text}");
    }
}

#[test]
fn refuses_the_same_texts_as_the_schema() {
    for text in [
        "",
        "5",
        "s",
        "5 s",
        "-5s",
        "+5s",
        "1.5s",
        "5us",
        "5d",
        "100000s",
        "1s1s1s1s1s",
        "5sx",
        "٣s",
    ] {
        assert_eq!(milliseconds(text), Err(InvalidDuration::Syntax), "{text:?}");
    }
    for text in ["0s", "0h0ms", "25h", "99999h99999h99999h99999h"] {
        assert_eq!(milliseconds(text), Err(InvalidDuration::Range), "{text:?}");
    }
}

#[test]
fn writes_a_text_that_reads_as_the_same_duration() {
    for (text, canonical) in [
        ("90s", "1m30s"),
        ("1500ms", "1s500ms"),
        ("120s", "2m"),
        ("1440m", "24h"),
        ("7ms", "7ms"),
    ] {
        let duration: Duration = text.parse().unwrap();
        assert_eq!(duration.to_string(), canonical);
        assert_eq!(canonical.parse(), Ok(duration));
    }
}

#[test]
fn a_standard_duration_is_truncated_to_milliseconds() {
    let micros = std::time::Duration::from_micros;
    assert_eq!(
        Duration::try_from(micros(1_999)).unwrap().to_string(),
        "1ms"
    );
    assert_eq!(Duration::try_from(micros(999)), Err(InvalidDuration::Range));
}

#[test]
fn is_a_string_in_json_and_explains_errors() {
    assert_eq!(
        serde_json::to_string(&Duration::from_secs(90)).unwrap(),
        "\"1m30s\""
    );
    assert_eq!(
        serde_json::from_str::<Duration>("\"2m\"").unwrap(),
        Duration::from_secs(120)
    );
    let error = serde_json::from_str::<Duration>("\"2 minutes\"")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("2 minutes") && error.contains("for example 30s"),
        "{error}"
    );
}
