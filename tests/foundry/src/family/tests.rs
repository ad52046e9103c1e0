use serde_json::json;

use super::*;

#[test]
fn models_answer_their_own_apis() {
    let yes = |model, work| assert!(check(model, work).is_ok(), "{model} {work:?}");
    yes("gpt-5-2025-08-07", Work::Chat);
    yes("gpt-5-2025-08-07", Work::Responses);
    yes("DeepSeek-V4", Work::Chat);
    yes("claude-sonnet-5-5", Work::Messages);
    for work in [Work::Chat, Work::Responses, Work::Messages] {
        yes("my-own", work);
    }
}

#[test]
fn models_of_others_do_not_know_every_field() {
    let code = |model, member: &str| {
        let failure = check_fields(model, &["messages".to_owned(), member.to_owned()]).err()?;
        Some((
            failure.status.as_u16(),
            failure.body["error"]["code"].clone(),
        ))
    };
    let unknown = Some((400, json!("unrecognized_request_argument")));
    assert_eq!(code("DeepSeek-V4", "prompt_cache_key"), unknown);
    assert_eq!(code("DeepSeek-V4", "stream_options"), None);
    assert_eq!(
        code("Mistral-Large-3", "stream_options"),
        Some((422, json!(null)))
    );
    assert_eq!(code("gpt-5", "prompt_cache_key"), None);
    assert_eq!(code("my-own", "stream_options"), None);
}

#[test]
fn others_are_refused_in_the_words_of_azure() {
    let no = |model, work, code| {
        let failure = check(model, work).unwrap_err();
        assert_eq!(failure.status, 400);
        assert_eq!(failure.body["error"]["code"], code, "{model} {work:?}");
    };
    no("claude-sonnet-5-5", Work::Chat, json!("api_not_supported"));
    no("grok-4.1", Work::Responses, json!("BadRequest"));
    no("gpt-5", Work::Messages, json!("OperationNotSupported"));
}
