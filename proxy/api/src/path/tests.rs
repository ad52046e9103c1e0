use super::{BadParameter, parameter};

#[test]
fn reads_a_parameter_once() {
    assert_eq!(
        parameter(Some("a=1&api-version=2024%2D10-21"), "api-version"),
        Ok(Some("2024-10-21".into()))
    );
    assert_eq!(
        parameter(Some("api-version=1&api%2Dversion=2"), "api-version"),
        Err(BadParameter)
    );
    assert_eq!(parameter(None, "api-version"), Ok(None));
}
