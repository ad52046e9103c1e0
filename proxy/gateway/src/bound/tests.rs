use super::Bound;

fn passed(query: &str) -> (String, bool) {
    let mut bound = Bound {
        named: proxy_api::Named::default(),
        query: String::new(),
        ids: Vec::new(),
        resource: None,
        owner: None,
    };
    let streams = bound.take_query(query);
    (bound.query, streams)
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
