use clap::Parser as _;
use expect_test::{Expect, expect};

use super::*;
use crate::args::{Args, Command, KeyCommand};

/// Of the key `tdh_team_...` in the tests of its form.
fn digest() -> KeyDigest {
    KeyDigest::of(&form::make("team", *b"twenty random bytes.").unwrap())
}

fn read(flags: &[&str]) -> Result<NewKeyArgs, String> {
    let line = ["tundish", "key", "new"].iter().chain(flags);
    match Args::try_parse_from(line) {
        Ok(Args {
            command: Command::Key(KeyCommand::New(new)),
        }) => Ok(new),
        Ok(_) => panic!("another command"),
        Err(error) => Err(error.to_string()),
    }
}

fn made(flags: &[&str]) -> String {
    let now = "2026-11-27T08:00:00Z".parse().unwrap();
    manifest(&read(flags).unwrap(), &digest(), now).unwrap()
}

fn check(flags: &[&str], expect: &Expect) {
    expect.assert_eq(&made(flags));
}

#[test]
fn a_secret_has_the_hash_and_what_the_route_asks_for() {
    check(
        &["search", "-n", "team", "-l", "tundish.dev/keys=chat"],
        &expect![[r#"
            apiVersion: v1
            kind: Secret
            metadata:
              name: "search"
              namespace: "team"
              labels:
                "tundish.dev/keys": "chat"
            type: Opaque
            stringData:
              bound-sha256: "9fc0cb0a703cec6c267b684ce36d1a7d5719a8d395ac64dd71b49b57eabe9944"
        "#]],
    );
    check(
        &[
            "search-2",
            "--namespace=team",
            "--label=keys=on",
            "--label=env=prod",
            "--consumer=search:\"prod\"#1",
            "--attribute=team=search",
            "--expires=90d",
        ],
        &expect![[r##"
            apiVersion: v1
            kind: Secret
            metadata:
              name: "search-2"
              namespace: "team"
              labels:
                "keys": "on"
                "env": "prod"
                "attributes.tundish.dev/team": "search"
              annotations:
                "tundish.dev/consumer": "search:\"prod\"#1"
                "tundish.dev/expires": "2027-02-25T08:00:00Z"
            type: Opaque
            stringData:
              bound-sha256: "9fc0cb0a703cec6c267b684ce36d1a7d5719a8d395ac64dd71b49b57eabe9944"
        "##]],
    );
}

#[test]
fn the_operator_takes_what_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let consumer = "--consumer=it's:\"odd\"#{}";
    let labels = ["-l", "keys=on", "--attribute", "tier=no", "--expires", "1d"];
    let flags = [&["one", "-n", "team", consumer][..], &labels].concat();
    std::fs::write(folder.path().join("key.yaml"), made(&flags)).unwrap();
    let route = "apiVersion: tundish.dev/v1alpha1\nkind: AIRoute\n\
        metadata: {name: chat, namespace: team}\nspec:\n  \
        authentication: {apiKeys: {secretSelector: {matchLabels: {keys: \"on\"}}}}\n  \
        rules: [{name: all, backendRefs: [{name: eu}]}]\n";
    std::fs::write(folder.path().join("route.yaml"), route).unwrap();
    let mut manifests = crate::manifests::Folder::new(folder.path(), "tundish-system", Vec::new());
    manifests.refresh().unwrap();
    let contents = manifests.compile().compiled.contents;
    let [key] = contents.keys.as_slice() else {
        panic!("{contents:?}");
    };
    assert_eq!(key.digest, digest());
    assert_eq!(&*key.consumer, "it's:\"odd\"#{}");
    assert_eq!(key.attributes, [("tier".into(), "no".into())]);
    assert_eq!(key.expires_ms, Some(1_795_852_800_000));
}

#[test]
fn a_key_that_could_serve_no_one_is_not_made() {
    let good = ["search", "-n", "team", "-l", "keys=on"];
    let refused = |more: &[&str], why: &str| {
        let error = read(&[&good[..], more].concat()).unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    refused(&["--expires", "soon"], "write a number of days");
    refused(&["--attribute", "a/b=c"], "has no '/'");
    refused(&["--attribute", "b"], "write NAME=VALUE");
    refused(&["--consumer", "two words"], "without spaces");
    let error = read(&["search", "-n", "team"]).unwrap_err();
    assert!(error.contains("--label"), "{error}");
    let error = read(&["search", "-l", "keys=on"]).unwrap_err();
    assert!(error.contains("--namespace"), "{error}");
    assert!(read(&["Search", "-n", "team", "-l", "keys=on"]).is_err());
    assert!(read(&["search", "-n", "te.am", "-l", "keys=on"]).is_err());
    let past = [&good[..], &["--expires", "2020-01-01T00:00:00Z"]].concat();
    let now = "2026-11-27T08:00:00Z".parse().unwrap();
    assert!(manifest(&read(&past).unwrap(), &digest(), now).is_err());
}

#[test]
fn the_file_of_a_key_is_new_and_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    keep("tdh_a", &file).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "tdh_a\n");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let error = keep("tdh_b", &file).unwrap_err();
    assert!(!format!("{error:#}").contains("tdh_b"), "{error:#}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "tdh_a\n");
}
