use proxy_api::{Answers, Kept, State};

use super::Bound;
use crate::kept::{ResourceId, StateKeys};

fn taken(keys: &StateKeys, owner: Option<&str>, query: &str) -> Option<(String, bool)> {
    let state = State {
        kept: Kept::VectorStore,
        item: None,
        without_model: true,
        answers: Answers::List,
        lists: false,
    };
    let mut bound = Bound {
        named: proxy_api::Named::default(),
        query: String::new(),
        ids: Vec::new(),
        resource: None,
        owner: owner.map(Into::into),
        asked: Vec::new(),
    };
    let streams = bound.take_query(keys, &state, query).ok()?;
    Some((bound.query, streams))
}

fn passed(query: &str) -> (String, bool) {
    taken(&StateKeys::of_this_process(), None, query).expect("no place in a list")
}

#[test]
fn the_parameters_of_the_api_go_on_and_no_others() {
    let query = "api-version=v1&include[]=a&include%5B%5D=b&include=c&limit=2&api-key=secret&stream=true&includes=x&starting_after=7&=";
    let (query, streams) = passed(query);
    assert_eq!(
        query,
        "include[]=a&include%5B%5D=b&include=c&limit=2&stream=true&starting_after=7"
    );
    assert!(streams);
    assert_eq!(passed(""), (String::new(), false));
    assert_eq!(passed("stream=false"), ("stream=false".to_owned(), false));
}

#[test]
fn a_place_in_a_list_loses_its_tag_and_must_be_the_callers() {
    let keys = StateKeys::of_this_process();
    let tag = keys.tag("file-1", ResourceId::of("h:1", ""), "a/ann");
    let id = format!("file-1{}", std::str::from_utf8(&tag).expect("text"));
    let of = |owner: &str, query: &str| taken(&keys, Some(owner), query).map(|(query, _)| query);
    let query = format!("limit=2&after={id}&order=asc&before={id}");
    let expect = "limit=2&after=file-1&order=asc&before=file-1".to_owned();
    assert_eq!(of("a/ann", &query), Some(expect));
    let escaped = format!("after={}", id.replace('-', "%2D"));
    assert_eq!(of("a/ann", &escaped), Some("after=file-1".to_owned()));
    assert_eq!(of("a/bob", &query), None);
    for query in [
        "after=file-1".to_owned(),
        format!("after={id}&before=file-1"),
        format!("before[]={id}"),
        format!("after%5B%5D={id}"),
        "after".to_owned(),
        "after=%zz".to_owned(),
    ] {
        assert_eq!(of("a/ann", &query), None, "{query}");
    }
}
