use super::*;

#[test]
fn splits_a_model_at_its_date() {
    assert_eq!(split("gpt-4o-2024-11-20"), ("gpt-4o", "2024-11-20"));
    assert_eq!(split("gpt-5"), ("gpt-5", "1"));
    assert_eq!(split("claude-sonnet-5-5"), ("claude-sonnet-5-5", "1"));
    assert_eq!(split("2024-11-20"), ("2024-11-20", "1"));
    assert_eq!(split(""), ("", "1"));
}
