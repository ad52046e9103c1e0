use super::*;

#[test]
fn labels_have_the_syntax_of_kubernetes() {
    let long = "a".repeat(64);
    let check = |text: &str, expect: Result<(&str, &str), InvalidLabel>| {
        let read = text.parse::<Label>().map(|label| (label.name, label.value));
        let expect = expect.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read, expect, "{text}");
    };
    check("tundish.dev/keys=chat", Ok(("tundish.dev/keys", "chat")));
    check("team=", Ok(("team", "")));
    check("Team_1.x=A-b", Ok(("Team_1.x", "A-b")));
    check("a=b=c", Err(InvalidLabel::Value));
    check("keys", Err(InvalidLabel::Form));
    for name in ["", "a b", "-a", "/a", "A/a", "a..b/c", "a/b/c", "a/", &long] {
        check(&format!("{name}=x"), Err(InvalidLabel::Name));
    }
    for value in ["ä", "a b", "a-", "\"", &long] {
        check(&format!("x={value}"), Err(InvalidLabel::Value));
    }
}
