//! Tokens of callers, and the keys of their issuers.

use proxy_core::names::Moment;
use proxy_identity::caller::{Expectation, KeySet, Mapping};

/// When tokens are judged: before the seed ends, and after it began.
const NOW: Moment = Moment {
    monotonic_ms: 0,
    unix_ms: 1_900_000_000_000,
};

/// A token on the first line, judged by the keys below it. What passes says what was expected, and makes a
/// consumer with a printable name, or none.
///
/// # Panics
/// The contract is broken.
pub fn caller_token(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (token, keys) = data.split_at(end);
    let Ok(token) = std::str::from_utf8(token) else {
        return;
    };
    let keys = KeySet::parse(keys).unwrap_or_default();
    let expectation = Expectation {
        issuers: vec!["https://issuer.example/tenant/v2.0".to_owned()],
        audiences: vec!["api://gateway".to_owned()],
    };
    let Ok(claims) = expectation.judge(token, &keys, NOW) else {
        return;
    };
    let issuer = claims.find("iss").and_then(serde_json::Value::as_str);
    assert_eq!(issuer, expectation.issuers.first().map(String::as_str));
    assert!(claims.find("exp").is_some());
    let mapping = Mapping {
        consumer: "oid".to_owned(),
        attributes: vec![("role".into(), "/roles".to_owned())],
    };
    if let Ok(consumer) = mapping.consumer(&claims) {
        assert!(consumer.name.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}
