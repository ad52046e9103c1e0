use super::parse;

#[track_caller]
fn check(text: &str, expect: Result<&str, &str>) {
    let parsed = parse(text, 8080).map(|address| address.to_string());
    match (parsed, expect) {
        (Ok(address), Ok(expect)) => assert_eq!(address, expect, "{text}"),
        (Err(message), Err(expect)) => assert!(message.contains(expect), "{text}: {message}"),
        (parsed, expect) => assert_eq!(parsed, expect.map(str::to_owned).map_err(str::to_owned)),
    }
}

#[test]
fn takes_what_users_write_for_an_address() {
    check("127.0.0.1:80", Ok("127.0.0.1:80"));
    check("[::1]:80", Ok("[::1]:80"));
    check(":8080", Ok("0.0.0.0:8080"));
    check("localhost:0", Ok("127.0.0.1:0"));
}

#[test]
fn says_what_to_write_instead() {
    check("127.0.0.1", Err("write 127.0.0.1:8080"));
    check("::1", Err("write [::1]:8080"));
    check("[::1]", Err("write [::1]:8080"));
    check("9000", Err("write 127.0.0.1:9000"));
    check("localhost", Err("such as 127.0.0.1:8080"));
    check("localhost:http", Err("\"http\" is not a port"));
    check("127.0.0.1:70000", Err("\"70000\" is not a port"));
    check("no such name:1", Err("cannot find an address"));
}
