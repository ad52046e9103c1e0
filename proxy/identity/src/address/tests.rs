use super::{Address, InvalidAddress};

#[test]
fn sovereign_clouds_and_trailing_slashes_are_one_form() {
    for (text, authority, path) in [
        (
            "https://login.microsoftonline.com/",
            "login.microsoftonline.com",
            "",
        ),
        (
            "https://login.microsoftonline.us",
            "login.microsoftonline.us",
            "",
        ),
        (
            "https://login.chinacloudapi.cn//",
            "login.chinacloudapi.cn",
            "",
        ),
        (
            "https://proxy.example:8443/a/b/",
            "proxy.example:8443",
            "/a/b",
        ),
        ("http://127.0.0.1:8082", "127.0.0.1:8082", ""),
        ("http://[::1]:8082", "[::1]:8082", ""),
        ("http://localhost", "localhost", ""),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.authority.as_str(), authority, "{text}");
        assert_eq!(address.path, path, "{text}");
        assert_eq!(address.below("/t/token"), format!("{path}/t/token"));
    }
    assert_eq!("http://[::1]".parse::<Address>().unwrap().host, "::1");
}

#[test]
fn a_secret_never_travels_in_the_clear() {
    for (text, why) in [
        (
            "http://login.microsoftonline.com",
            InvalidAddress::Plaintext,
        ),
        ("http://127.0.0.1.example", InvalidAddress::Plaintext),
        ("ftp://host", InvalidAddress::NoUrl),
        ("login.microsoftonline.com", InvalidAddress::NoUrl),
        ("", InvalidAddress::NoUrl),
        ("https://user:word@host", InvalidAddress::Extra),
        ("https://host?a=b", InvalidAddress::Extra),
        ("https://host#a", InvalidAddress::Extra),
    ] {
        assert_eq!(text.parse::<Address>(), Err(why), "{text}");
    }
    Address::on_machine("http://169.254.169.254").unwrap();
}
