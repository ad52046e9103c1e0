use super::{ConsumerMatch, ConsumerName};

#[test]
fn a_consumer_of_another_namespace_has_another_name() {
    let names = |text: &str| ConsumerMatch {
        names: vec![ConsumerName::parse(text).expect("a name")],
        ..ConsumerMatch::default()
    };
    let matches =
        |text: &str, namespace: &str, name: &str| names(text).matches(namespace, name, &Vec::new());
    assert!(matches("a/vip", "a", "vip"));
    assert!(!matches("a/vip", "b", "vip"));
    // The first slash ends the namespace, so the name of a consumer cannot feign another one.
    assert!(matches("a/b/vip", "a", "b/vip"));
    assert!(!matches("a/b/vip", "b", "vip"));
    assert!(matches("/anonymous", "", "anonymous"));
    assert!(!matches("/anonymous", "a", "anonymous"));
    assert!(matches("*/vip", "b", "vip"));
    assert_eq!(ConsumerName::parse("vip"), None);
    for text in ["a/vip", "*/vip", "/anonymous", "a/b/c"] {
        let read = ConsumerName::parse(text).map(|name| name.to_string());
        assert_eq!(read.as_deref(), Some(text));
    }
}
