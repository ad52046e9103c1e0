use super::*;

const fn at(seconds: u64) -> Moment {
    Moment {
        monotonic_ms: seconds * 1_000,
        unix_ms: 1_000_000_000_000 + (seconds * 1_000).cast_signed(),
    }
}

fn digest(number: usize) -> KeyDigest {
    KeyDigest::of(&number.to_string())
}

fn backend(name: &str) -> ObjectName {
    ObjectName::new("ns", name)
}

#[test]
fn a_proof_counts_for_its_backend_for_an_hour_or_until_the_token_ends() {
    let proofs = Proofs::default();
    let claims = |expires| {
        Some(Claims {
            tenant: "t".to_owned(),
            principal: "ann".to_owned(),
            expires,
        })
    };
    let ann = proofs.accept(digest(1), &backend("eu"), claims(None), at(0));
    let ann = ann.expect("a caller");
    proofs.accept(
        digest(2),
        &backend("eu"),
        claims(Some(1_000_000_060)),
        at(0),
    );
    proofs.accept(digest(3), &backend("eu"), claims(Some(1)), at(0));
    let finds = |number, name: &str, seconds| {
        let is_asked = |other: &ObjectName| *other == backend(name);
        proofs.find(&digest(number), is_asked, at(seconds))
    };
    let found = finds(1, "eu", 3_599).expect("a proof");
    assert_eq!(found.caller.as_deref(), Some(&*ann));
    assert!(found.is_aged(at(3_599)) && !found.is_aged(at(1_000)));
    assert!(finds(1, "us", 0).is_none(), "another backend");
    assert!(finds(1, "eu", 3_600).is_none(), "an hour is over");
    assert!(finds(2, "eu", 59).is_some() && finds(2, "eu", 60).is_none());
    assert!(finds(3, "eu", 0).is_none(), "it had ended before");
    proofs.accept(digest(1), &backend("us"), None, at(10));
    assert!(finds(1, "us", 20).is_some() && finds(1, "eu", 20).is_some());
}

#[test]
fn the_number_of_proofs_is_bounded_and_the_oldest_go_first() {
    let proofs = Proofs::default();
    let last = 5 * HALF;
    for number in 0..last {
        proofs.accept(digest(number), &backend("eu"), None, at(0));
    }
    let kept = |number| proofs.find(&digest(number), |_| true, at(1)).is_some();
    assert!(!kept(0) && kept(last - 1) && kept(last - HALF));
    let halves = proofs.0.lock();
    assert!(halves.young.len() + halves.old.len() <= 2 * HALF);
}
