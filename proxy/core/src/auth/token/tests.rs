use super::*;

fn texts(all: &[&str]) -> Vec<Arc<str>> {
    all.iter().map(|one| (*one).into()).collect()
}

fn source() -> Source {
    Source {
        issuer: "https://issuer.example".into(),
        jwks_uri: None,
    }
}

fn issuer(required: Required) -> Issuer {
    Issuer {
        trust: Trust {
            source: source(),
            audiences: texts(&["api://a", "api://b"]),
            mapping: Mapping {
                consumer: "sub".into(),
                attributes: Vec::new(),
            },
        },
        required,
    }
}

fn token() -> Token {
    Token {
        source: source(),
        audiences: texts(&["other", "api://b"]),
        scopes: texts(&["read", "write"]),
        roles: texts(&["user"]),
        client: Some("app".into()),
    }
}

#[test]
fn a_token_is_good_for_the_issuer_key_place_and_audience_that_are_listed() {
    let listed = issuer(Required::default());
    assert_eq!(listed.lack(&token()), None);
    let change = |change: fn(&mut Token)| {
        let mut changed = token();
        change(&mut changed);
        listed.lack(&changed)
    };
    let other = Some(Lack::Issuer);
    assert_eq!(change(|one| one.audiences = texts(&["api://"])), other);
    assert_eq!(change(|one| one.audiences.clear()), other);
    assert_eq!(
        change(|one| one.source.issuer = "https://issuer.example/".into()),
        other
    );
    assert_eq!(
        change(|one| one.source.jwks_uri = Some("https://evil.example".into())),
        other
    );
}

#[test]
fn all_scopes_and_roles_are_needed_and_one_client() {
    let required = |scopes: &[&str], roles: &[&str], clients: &[&str]| {
        issuer(Required {
            scopes: texts(scopes),
            roles: texts(roles),
            clients: texts(clients),
        })
    };
    let lack = |issuer: Issuer| issuer.lack(&token());
    assert_eq!(
        lack(required(&["read", "write"], &["user"], &["app"])),
        None
    );
    let admin = Some(Lack::Scope("admin".into()));
    assert_eq!(lack(required(&["admin", "read"], &[], &[])), admin);
    let root = Some(Lack::Role("root".into()));
    assert_eq!(lack(required(&[], &["root", "user"], &[])), root);
    assert_eq!(lack(required(&[], &[], &["app", "other"])), None);
    assert_eq!(lack(required(&[], &[], &["other"])), Some(Lack::Client));
    let nameless = Token {
        client: None,
        ..token()
    };
    let lack = required(&[], &[], &["app"]).lack(&nameless);
    assert_eq!(lack, Some(Lack::Client));
}
