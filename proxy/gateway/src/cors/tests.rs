use http::HeaderValue;
use proxy_core::table::Cors;

use super::allows;

fn check(declared: &[&str], origin: &'static str) -> bool {
    let cors = Cors {
        allow_origins: declared.iter().map(|one| (*one).into()).collect(),
    };
    allows(Some(&cors), &HeaderValue::from_static(origin))
}

#[test]
fn an_origin_is_compared_as_a_whole() {
    let declared = &["https://app.example.com", "http://localhost:3000"];
    assert!(check(declared, "https://app.example.com"));
    assert!(check(declared, "http://localhost:3000"));
    for other in [
        "https://app.example.com.evil.org",
        "https://app.example.com:444",
        "http://app.example.com",
        "null",
        "",
    ] {
        assert!(!check(declared, other), "{other}");
    }
    assert!(check(&["*"], "https://any.example"));
    assert!(!check(&[], "https://any.example"));
}
