use proptest::prelude::*;
use proxy_core::names::Operation;

use super::{Dialect, Unserved, encode, parameter, target};

fn check(path: &str, dialect: Dialect, operation: Operation, model: Option<&str>) {
    let found = target(path).unwrap_or_else(|why| panic!("{path}: {why:?}"));
    assert_eq!(
        (found.dialect, found.operation),
        (dialect, operation),
        "{path}"
    );
    assert_eq!(found.model.as_deref(), model, "{path}");
}

#[test]
fn knows_the_paths_that_clients_build() {
    let chat = Operation::ChatCompletions;
    check(
        "/openai/deployments/gpt-4o/chat/completions",
        Dialect::Dated,
        chat,
        Some("gpt-4o"),
    );
    check(
        "/openai/deployments/a%2Fb%3F/chat/completions",
        Dialect::Dated,
        chat,
        Some("a/b?"),
    );
    check("/openai/v1/chat/completions", Dialect::V1, chat, None);
    check("/v1/chat/completions", Dialect::V1, chat, None);
    check(
        "/openai/v1/deployments/m/chat/completions",
        Dialect::V1,
        chat,
        Some("m"),
    );
    check("/v1/models", Dialect::V1, Operation::Models, None);
    check("/openai/models", Dialect::Dated, Operation::Models, None);
    check(
        "/v1/models/gpt-4o",
        Dialect::V1,
        Operation::Models,
        Some("gpt-4o"),
    );
}

#[test]
fn refuses_paths_that_servers_read_differently() {
    for path in [
        "/v1//chat/completions",
        "/v1/./chat/completions",
        "/v1/../v1/chat/completions",
        "/v1/%2e%2e/chat/completions",
        "/v1/chat;x/completions",
        "/v1/chat\\completions",
        "/openai/deployments/%5c/chat/completions",
        "/openai/deployments/%00/chat/completions",
        "/openai/deployments/%zz/chat/completions",
        "/v1/chat/completions/",
    ] {
        assert_eq!(target(path), Err(Unserved::Ambiguous), "{path}");
    }
    for path in [
        "/",
        "/v2/chat/completions",
        "/v1/chat",
        "/openai/chat/completions",
        "/v1/files",
    ] {
        assert!(target(path).is_err(), "{path}");
    }
}

#[test]
fn reads_a_parameter_once() {
    assert_eq!(
        parameter(Some("a=1&api-version=2024%2D10-21"), "api-version"),
        Ok(Some("2024-10-21".into()))
    );
    assert_eq!(
        parameter(Some("api-version=1&api%2Dversion=2"), "api-version"),
        Err(())
    );
    assert_eq!(parameter(None, "api-version"), Ok(None));
}

proptest! {
    #[test]
    fn any_path_is_read_or_refused(path in "/.{0,60}") {
        drop(target(&path));
    }

    #[test]
    fn an_encoded_model_is_read_back(model in "[^\\\\\\pC]{1,30}") {
        prop_assume!(model != "." && model != "..");
        let path = format!("/openai/deployments/{}/chat/completions", encode(&model));
        prop_assert_eq!(target(&path).map(|t| t.model), Ok(Some(model.as_str().into())));
    }
}
