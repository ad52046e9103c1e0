use serde_json::json;

use super::*;
use crate::fixture;

#[test]
fn a_grant_with_a_field_of_another_shape_permits_nothing() {
    let good = fixture::grant("platform/to-team", "team");
    assert!(Grant::from_json(&good).is_some());
    for (pointer, value) in [
        ("/metadata/name", json!(1)),
        ("/metadata/namespace", json!({})),
        ("/spec/from", json!({})),
        ("/spec/from/0/namespace", json!(null)),
        ("/spec/to/0/kind", json!([])),
        ("/spec", json!(null)),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert_eq!(Grant::from_json(&bad), None, "{pointer}");
    }
    let mut bad = good;
    bad["spec"]["to"][0]["name"] = json!(7);
    assert_eq!(
        Grant::from_json(&bad),
        None,
        "a name that is no text is not 'every name'"
    );
}

#[test]
fn a_grant_permits_what_it_names_and_nothing_else() {
    let mut one = fixture::grant("platform/one", "team");
    one["spec"]["to"][0]["name"] = json!("eu");
    let all = fixture::grant("shared/all", "team");
    let mut other_kind = fixture::grant("kinds/other", "team");
    other_kind["spec"]["to"][0]["kind"] = json!("Secret");
    let mut other_source = fixture::grant("sources/other", "team");
    other_source["spec"]["from"][0]["kind"] = json!("HTTPRoute");
    let grants: Vec<Grant> = [one, all, other_kind, other_source]
        .iter()
        .map(|grant| Grant::from_json(grant).unwrap())
        .collect();
    let reads = Reads::default();
    let permissions = Permissions::new(grants.iter(), &reads);
    let permits = |from: &str, to: &str| permissions.permit(from, &ObjectName::parse(to).unwrap());
    assert!(permits("team", "platform/eu"));
    assert!(permits("team", "shared/anything"));
    for (from, to) in [
        ("team", "platform/us"),
        ("other", "platform/eu"),
        ("platform", "team/eu"),
        ("team", "kinds/eu"),
        ("team", "sources/eu"),
    ] {
        assert!(!permits(from, to), "{from} to {to}");
    }
}
