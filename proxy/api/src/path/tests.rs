use super::{BadParameter, parameter};

#[test]
fn reads_a_parameter_once() {
    assert_eq!(
        parameter("a=1&api-version=2024%2D10-21", "api-version"),
        Ok(Some("2024-10-21".into()))
    );
    assert_eq!(
        parameter("api-version=1&api%2Dversion=2", "api-version"),
        Err(BadParameter)
    );
    assert_eq!(parameter("", "api-version"), Ok(None));
}
