//! Tokens of callers, and the keys of their issuers.

use proxy_core::auth::Mapping;
use proxy_core::names::Moment;
use proxy_identity::caller::{Expectation, KeySet, consumer};

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
        issuer: "https://issuer.example/tenant/v2.0".into(),
        audiences: vec!["api://gateway".into()],
    };
    let Ok(claims) = expectation.judge(token, &keys, NOW) else {
        return;
    };
    let issuer = claims.find("iss").and_then(serde_json::Value::as_str);
    assert_eq!(issuer, Some(&*expectation.issuer));
    assert!(claims.find("exp").is_some());
    let mapping = Mapping {
        consumer: "oid".into(),
        attributes: vec![("role".into(), "/roles".into())],
    };
    if let Ok(consumer) = consumer(&mapping, &claims) {
        assert!(consumer.name.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}
