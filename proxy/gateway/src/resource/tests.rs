use http::Request;

use super::origin;
use crate::fields::Fields;

fn origin_of(host: &str, named: &str, is_tls: bool) -> Option<String> {
    let request = Request::get("/").header("host", named).body(());
    let (parts, ()) = request.expect("a request").into_parts();
    origin(host, &parts, &Fields::of(&parts.headers), is_tls)
}

#[test]
fn a_host_is_named_as_the_client_knows_it() {
    for (host, named, is_tls, expect) in [
        (
            "ai.example.com",
            "AI.example.com",
            false,
            "https://AI.example.com",
        ),
        (
            "ai.example.com",
            "ai.example.com:8443",
            true,
            "https://ai.example.com:8443",
        ),
        (
            "127.0.0.1",
            "127.0.0.1:8080",
            false,
            "http://127.0.0.1:8080",
        ),
        ("localhost", "localhost", true, "https://localhost"),
        ("[::1]", "[::1]:8080", false, "http://[::1]:8080"),
    ] {
        assert_eq!(origin_of(host, named, is_tls).as_deref(), Some(expect));
    }
    assert_eq!(origin_of("x", "x\", realm=\"y", true), None);
}
