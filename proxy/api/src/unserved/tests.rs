use super::{Other, named};
use crate::error::Dialect;

fn check(path: &str, operation: &'static str, dialect: Dialect) {
    let expect = Some(Other { operation, dialect });
    assert_eq!(named(path), expect, "{path}");
}

#[test]
fn names_an_operation_in_every_form_of_its_path() {
    for path in [
        "/openai/deployments/m/embeddings",
        "/openai/v1/embeddings",
        "/openai/v1/deployments/m/embeddings",
        "/v1/embeddings",
        "/v1/deployments/m/embeddings",
        "/models/embeddings",
        "/api/projects/p/openai/v1/embeddings",
    ] {
        check(path, "Embeddings", Dialect::OpenAi);
    }
    check("/v1/responses/resp_1/cancel", "Responses", Dialect::OpenAi);
    check("/openai/responses", "Responses", Dialect::OpenAi);
    check("/openai/v1/images/edits", "Images", Dialect::OpenAi);
    check("/v1/audio/speech", "Audio", Dialect::OpenAi);
    check("/v1/fine_tuning/jobs", "FineTuning", Dialect::OpenAi);
    check(
        "/models/chat/completions",
        "ChatCompletions",
        Dialect::OpenAi,
    );
}

#[test]
fn claude_has_its_own_shape() {
    for path in [
        "/anthropic/v1/messages",
        "/anthropic/v1/messages/count_tokens",
        "/anthropic",
        "/v1/messages",
    ] {
        check(path, "Messages", Dialect::Anthropic);
    }
    for path in [
        "/anthropic/v1/messages/batches",
        "/v1/messages/batches",
        "/v1/messages/batches/msgbatch_1/results",
    ] {
        check(path, "MessageBatches", Dialect::Anthropic);
    }
}

#[test]
fn other_paths_of_a_project_are_its_agents() {
    check("/api/projects/p/agents", "Agents", Dialect::OpenAi);
}

#[test]
fn what_nobody_serves_has_no_name() {
    for path in [
        "/",
        "/v1",
        "/v1/nothing",
        "/v2/embeddings",
        "/anthropical",
        "/v1/embeddingss",
    ] {
        assert_eq!(named(path), None, "{path}");
    }
}
