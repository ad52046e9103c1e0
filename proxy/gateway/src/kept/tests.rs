use proptest::prelude::*;

use super::{ResourceId, StateKeys, StateKeysError};

const OLD: &str = "0123456789abcdef0123456789abcdef";
const NEW: &str = "fedcba9876543210fedcba9876543210";

fn keys(lines: &[&str]) -> StateKeys {
    StateKeys::read(&lines.join("\n")).expect("keys")
}

fn tagged(keys: &StateKeys, id: &str, resource: ResourceId, owner: &str) -> String {
    let tag = keys.tag(id, resource, owner);
    format!("{id}{}", std::str::from_utf8(&tag).expect("text"))
}

#[test]
fn an_id_comes_back_to_its_owner_alone() {
    let keys = keys(&[OLD]);
    let eu = ResourceId::of("eu.openai.azure.com", "");
    let id = tagged(&keys, "resp_1", eu, "a/ann");
    assert_eq!(id.len(), "resp_1".len() + 16);
    assert_eq!(keys.open(&id, "a/ann"), Some(("resp_1", eu)));
    for (id, owner) in [
        (&*id, "a/bob"),
        (&*id, ""),
        ("resp_1", "a/ann"),
        ("", "a/ann"),
        (&id[1..], "a/ann"),
        (&id[..id.len() - 1], "a/ann"),
        (&id.to_uppercase(), "a/ann"),
        (&format!("{id}x"), "a/ann"),
        ("resp_äääääääääääääääääääää", "a/ann"),
    ] {
        assert_eq!(keys.open(id, owner), None, "{id} of {owner}");
    }
    assert_eq!(StateKeys::of_this_process().open(&id, "a/ann"), None);
}

#[test]
fn an_old_key_proves_and_the_first_one_makes() {
    let eu = ResourceId::of("h:1", "");
    let before = tagged(&keys(&[OLD]), "conv_1", eu, "o");
    let both = keys(&[NEW, "", OLD]);
    assert_eq!(both.open(&before, "o"), Some(("conv_1", eu)));
    let after = tagged(&both, "conv_1", eu, "o");
    assert_eq!(keys(&[OLD]).open(&after, "o"), None);
    assert_eq!(keys(&[NEW]).open(&after, "o"), Some(("conv_1", eu)));
}

#[test]
fn a_seal_is_no_id_and_an_id_no_seal() {
    let keys = keys(&[OLD]);
    let eu = ResourceId::of("eu.openai.azure.com", "");
    let seal = keys.seal(eu, "a/ann");
    let seal = std::str::from_utf8(&seal).expect("text");
    assert_eq!(keys.unseal(seal, "a/ann"), Some(eu));
    assert_eq!(keys.unseal(seal, "a/bob"), None);
    assert_eq!(keys.unseal(&seal.to_uppercase(), "a/ann"), None);
    assert_eq!(keys.open(seal, "a/ann"), None);
    let id = tagged(&keys, "resp_1", eu, "a/ann");
    assert_eq!(keys.unseal(&id["resp_1".len()..], "a/ann"), None);
}

#[test]
fn a_resource_has_many_hosts() {
    let of = |host| ResourceId::of(host, "");
    let one = of("r.openai.azure.com");
    assert_eq!(one, of("r.services.ai.azure.com"));
    assert_eq!(one, of("r.cognitiveservices.azure.com"));
    assert_ne!(one, of("q.openai.azure.com"));
    assert_ne!(of("127.0.0.1:1"), of("127.0.0.1:2"));
    assert_ne!(one, ResourceId::of("r.openai.azure.com", "/api/projects/p"));
}

#[test]
fn a_file_needs_a_key_that_cannot_be_guessed() {
    assert_eq!(StateKeys::read("\n \n").err(), Some(StateKeysError::Empty));
    let text = format!("{OLD}\nshort");
    assert_eq!(StateKeys::read(&text).err(), Some(StateKeysError::Short(2)));
    for bad in ["# my key of the gateway, do not lose it", &"\0".repeat(40)] {
        let no_key = StateKeys::read(bad).err();
        assert_eq!(no_key, Some(StateKeysError::NoKey(1)), "{bad}");
    }
    assert_eq!(format!("{:?}", keys(&[OLD, NEW])), "StateKeys(2)");
}

proptest! {
    #[test]
    fn no_text_opens_by_chance(text in ".{0,80}") {
        prop_assert_eq!(keys(&[OLD]).open(&text, "a/ann"), None);
    }

    #[test]
    fn each_id_opens(id in "[A-Za-z0-9_-]{1,70}", owner in "[a-z/]{0,20}", path in "[a-z/]{0,9}") {
        let resource = ResourceId::of("h", &path);
        let text = tagged(&keys(&[OLD]), &id, resource, &owner);
        prop_assert_eq!(keys(&[OLD]).open(&text, &owner), Some((&*id, resource)));
    }
}
