//! Any table, and what holds for each.

use super::*;
use crate::v1::objects::digest_in_a_row;

prop_compose! {
    fn any_name()(namespace in "[a-z]{1,3}(-[a-z]{1,2})?", own in "[a-z0-9.-]{1,4}") -> ObjectName {
        ObjectName::new(namespace, own)
    }
}

fn any_auth() -> impl Strategy<Value = BackendAuth> {
    prop_oneof![
        "\\PC{0,12}".prop_map(|key| BackendAuth::ApiKey(Secret::new(key))),
        Just(BackendAuth::PassThrough),
        Just(BackendAuth::None),
        (any_principal(), "\\PC{0,12}").prop_map(|(principal, scope)| {
            let scope = scope.into();
            BackendAuth::Identity(Identity { principal, scope })
        }),
    ]
}

fn any_principal() -> impl Strategy<Value = Principal> {
    let word = || "\\PC{0,6}".prop_map(Arc::<str>::from);
    let some = || prop::option::of("\\PC{1,6}".prop_map(Arc::<str>::from));
    prop_oneof![
        (some(), some()).prop_map(|(client_id, tenant_id)| Principal::Workload {
            client_id,
            tenant_id
        }),
        some().prop_map(|client_id| Principal::Managed { client_id }),
        (word(), word(), "\\PC{0,12}").prop_map(|(tenant_id, client_id, secret)| {
            Principal::Application {
                tenant_id,
                client_id,
                secret: Secret::new(secret),
            }
        }),
    ]
}

fn any_window() -> impl Strategy<Value = Window> {
    let period = prop::sample::select(vec![Period::Hour, Period::Day, Period::Week, Period::Month]);
    let zone = prop::sample::select(vec!["UTC", "America/New_York", "Asia/Kathmandu"]);
    prop_oneof![
        Just(Window::Second),
        Just(Window::Minute),
        Just(Window::Held),
        (period, zone).prop_map(|(p, z)| Window::Calendar(p, TimeZone::named(z).unwrap())),
    ]
}

fn any_rates() -> impl Strategy<Value = Rates> {
    prop::array::uniform9(any::<u64>()).prop_map(|[a, b, c, d, e, f, g, h, i]| Rates {
        input: a,
        cached_input: b,
        cache_write: c,
        audio_input: d,
        image_input: e,
        output: f,
        audio_output: g,
        image_output: h,
        second: i,
    })
}

pub(super) fn any_price() -> impl Strategy<Value = Option<Price>> {
    let long = prop::option::of((any::<u64>(), any_rates()));
    let routed = vec(("[a-z]{1,3}", any_rates()), 0..3);
    let full = (any_rates(), long, routed).prop_map(|(rates, long, routed)| Price {
        rates,
        long_context: long.map(|(above_input_tokens, rates)| LongContext {
            above_input_tokens,
            rates,
        }),
        routed: routed
            .into_iter()
            .map(|(model, rates)| (model.into(), rates))
            .collect(),
    });
    let plain = (any::<u64>(), any::<u64>(), any::<u64>());
    let plain = plain.prop_map(|(input, cached_input, output)| Price {
        rates: Rates {
            cached_input,
            ..Rates::of_text(input, output)
        },
        ..Price::default()
    });
    prop_oneof![Just(None), plain.prop_map(Some), full.prop_map(Some)]
}

prop_compose! {
    fn any_backend()(
        name in any_name(), auth in any_auth(), openai: bool, url in "\\PC{0,20}",
        version in prop::option::of("[0-9-]{1,8}"), models in vec("\\PC{1,6}", 0..3),
        millis in 0..1_000_000u64, price in any_price(), never: bool, capacity: Option<u64>, failures in 1..9u32,
    ) -> Backend {
        Backend {
            name,
            auth,
            kind: if openai { BackendKind::OpenAiCompatible } else { BackendKind::Foundry },
            endpoint: url.into(),
            api_version: version.map(Into::into),
            deployments: models.iter().map(|model| Deployment {
                name: model.as_str().into(),
                model: "m".into(),
                price: price.clone().map(Arc::new),
                stream_usage: if never { StreamUsage::Never } else { StreamUsage::Auto },
                capacity: Capacity { is_provisioned: never, tokens_per_minute: capacity },
            }).collect(),
            idle_timeout: Duration::from_millis(millis),
            health: HealthSettings {
                consecutive_failures: failures,
                max_ejection: Duration::from_millis(millis),
                ..HealthSettings::default()
            },
            ca: None,
            ..backend("x/y", BackendAuth::None)
        }
    }
}

prop_compose! {
    fn any_issuer()(
        issuer in "\\PC{1,8}", jwks_uri in prop::option::of("\\PC{1,8}"), audiences in any_texts(),
        consumer in "\\PC{1,8}", attributes in vec(("\\PC{0,4}", "\\PC{0,4}"), 0..3),
        scopes in any_texts(), roles in any_texts(), clients in any_texts(),
    ) -> Issuer {
        let attributes = attributes.into_iter();
        Issuer {
            trust: Trust {
                source: Source { issuer: issuer.into(), jwks_uri: jwks_uri.map(Into::into) },
                audiences,
                mapping: Mapping {
                    consumer: consumer.into(),
                    attributes: attributes.map(|(name, claim)| (name.into(), claim.into())).collect(),
                },
            },
            required: Required { scopes, roles, clients },
        }
    }
}

fn any_affinity() -> impl Strategy<Value = Affinity> {
    prop_oneof![
        Just(Affinity::Conversation),
        Just(Affinity::None),
        "[a-z][a-z-]{0,8}".prop_map(|name| Affinity::Header(name.parse().unwrap())),
    ]
}

fn any_texts() -> impl Strategy<Value = Vec<Arc<str>>> {
    vec("\\PC{0,4}".prop_map(Arc::<str>::from), 0..3)
}

prop_compose! {
    fn any_route()(
        name in any_name(), created_s: i64, anonymous: bool,
        rejected in prop::option::of("\\PC{0,20}"), hosts in vec("(\\*\\.)?[a-z]{1,5}\\.[a-z]{1,3}", 0..3),
        models in vec("[a-z0-9.]{1,4}\\*?", 0..3), operations in prop::sample::subsequence(Operation::ALL.to_vec(), 0..4),
        value in "\\PC{0,8}", weight: u32, priority: u8, timeout in prop::option::of(0..1_000_000u64),
        issuers in vec(any_issuer(), 0..3), pass_through: bool, default: Option<u64>, max: Option<u64>, allows_unmetered: bool, shows_backend: bool, names_end_user: bool, servers in prop::option::of(vec("(\\*\\.)?[a-z]{1,5}\\.[a-z]{1,3}", 0..3)), affinity in any_affinity(), class in prop::sample::select(Class::ALL.to_vec()), origins in prop::option::of(vec("\\PC{0,8}", 0..3)),
    ) -> Route {
        let mut rule = Rule::clone(&route("x/y").rules[0]);
        rule.matches = vec![Match {
            models: models.iter().map(|m| ModelPattern::parse(m).unwrap()).collect(),
            operations,
            headers: vec![(HeaderName::from_static("x-any"), value.into())],
            consumers: ConsumerMatch::default(),
        }, Match::default()];
        rule.targets[0].weight = weight;
        rule.targets[0].priority = priority;
        rule.request_timeout = timeout.map(Duration::from_millis);
        rule.output_tokens = OutputTokens { default, max };
        rule.allows_unmetered = allows_unmetered;
        rule.shows_backend = shows_backend;
        rule.names_end_user = names_end_user;
        rule.mcp_servers = servers.map(|all| all.iter().map(|one| HostPattern::parse(one).unwrap()).collect());
        rule.affinity = affinity;
        rule.class = class;
        Route {
            name,
            created_s,
            rejected: rejected.map(Into::into),
            hostnames: hosts.iter().map(|h| HostPattern::parse(h).unwrap()).collect(),
            authentication: Authentication { anonymous, issuers, pass_through, ..Authentication::default() },
            cors: origins.map(|origins| Cors {
                allow_origins: origins.into_iter().map(Into::into).collect(),
            }),
            rules: vec![Arc::new(rule)],
        }
    }
}

prop_compose! {
    fn any_quota()(
        name in any_name(), windows in vec((any_window(), 0..6usize, any::<u64>()), 0..4), scope in 0..4u8,
        overrides in vec(vec(any::<u64>(), 0..3), 0..3), levels in vec(any::<u8>(), 0..4),
    ) -> Quota {
        let overridden = |amounts: Vec<u64>| Override {
            consumers: ConsumerMatch {
                names: vec![ConsumerName::new("team-a", "alice"), ConsumerName::new("", "anonymous")],
                attributes: vec![("team".into(), "a".into())],
            },
            amounts: amounts.into_iter().enumerate().map(|(i, amount)| (i.to_string().into(), amount)).collect(),
        };
        let limit = |(index, (window, unit, amount)): (usize, (Window, usize, u64))| Limit {
            name: index.to_string().into(),
            unit: Unit::ALL[unit],
            amount,
            window,
        };
        let base = quota("x/y");
        Quota {
            name,
            scope: match scope {
                0 => Scope::Gateway,
                1 => Scope::Namespace("team-a".into()),
                2 => Scope::Namespaces(vec!["team-a".into(), "team-b".into()]),
                _ => base.scope.clone(),
            },
            limits: windows.into_iter().enumerate().map(limit).collect(),
            overrides: overrides.into_iter().map(overridden).collect(),
            warn_at: WarnAt::new(levels),
            ..base
        }
    }
}

prop_compose! {
    fn any_key()(secret in any_name(), consumer in "\\PC{0,8}", raw: [u8; 32], expires_ms: Option<i64>) -> Key {
        Key { secret, consumer: consumer.into(), digest: KeyDigest::from_bytes(raw), attributes: Vec::new(), expires_ms }
    }
}

prop_compose! {
    pub(super) fn any_contents()(
        mut backends in vec(any_backend(), 0..5), mut routes in vec(any_route(), 0..5),
        mut quotas in vec(any_quota(), 0..4), mut keys in vec(any_key(), 0..5),
    ) -> Contents {
        backends.sort_by(|a, b| a.name.cmp(&b.name));
        backends.dedup_by(|a, b| a.name == b.name);
        routes.sort_by(|a, b| a.name.cmp(&b.name));
        routes.dedup_by(|a, b| a.name == b.name);
        quotas.sort_by(|a, b| a.name.cmp(&b.name));
        quotas.dedup_by(|a, b| a.name == b.name);
        keys.sort_by(|a, b| a.secret.cmp(&b.secret));
        keys.dedup_by(|a, b| a.secret == b.secret);
        Contents::new(backends, routes, quotas, keys)
    }
}

proptest! {
    #[test]
    fn any_table_is_read_back_unchanged(contents in any_contents()) {
        let sent = line(&Line::Snapshot(snapshot(encode(&contents))));
        let Line::Snapshot(received) = Line::parse(&sent).unwrap() else { panic!("a snapshot") };
        prop_assert_eq!(decode(&received.verified().unwrap()).unwrap(), contents);
    }

    #[test]
    fn a_delta_joins_any_two_tables(old in any_contents(), new in any_contents()) {
        let from = encode(&old);
        let to = encode_reusing(&new, Features::KNOWN, &old, &from);
        prop_assert_eq!(&to, &encode(&new));
        let (changed, removed) = diff(&from, &to);
        let base = digest(&from);
        let delta = Delta { base: base.clone(), revision: 1, digest: digest(&to), replicas: 1, changed, edited: BTreeMap::new(), removed };
        prop_assert_eq!(&apply(&from, &base, &delta).unwrap(), &to);
        let (changed, edited) = edited(&from, delta.changed.clone());
        prop_assert_eq!(changed.len() + edited.len(), delta.changed.len());
        let sent = line(&Line::Delta(Delta { changed, edited, ..delta }));
        let Line::Delta(received) = Line::parse(&sent).unwrap() else { panic!("a delta") };
        prop_assert_eq!(apply(&from, &base, &received).unwrap(), to);
    }

    /// Whatever follows on what: entries, digest and what is read are those of the table alone, also for a
    /// proxy that knows no feature.
    #[test]
    fn a_table_after_others_is_written_and_read_as_alone(tables in vec(any_contents(), 1..6)) {
        for features in [Features::KNOWN, Features(&[])] {
            let (mut before, mut objects) = (Contents::default(), Objects::default());
            let mut read = Decoded::default();
            for mut contents in tables.clone() {
                contents.share(&before);
                let next = encode_reusing(&contents, Features::KNOWN, &before, &objects);
                let alone = encode(&contents);
                prop_assert_eq!(&next, &alone);
                prop_assert_eq!(digest(&next), digest(&alone));
                let (none, nothing) = (Objects::default(), Decoded::default());
                let fresh = decode_reusing(&alone, features, &none, &nothing).unwrap();
                read = decode_reusing(&next, features, &objects, &read).unwrap();
                prop_assert_eq!(&read.contents, &fresh.contents);
                prop_assert_eq!(&read.unsupported, &fresh.unsupported);
                (before, objects) = (contents, next);
            }
        }
    }

    #[test]
    fn a_table_is_verified_by_either_digest(contents in any_contents(), other in any_contents()) {
        let objects = encode(&contents);
        for stated in [digest(&objects), digest_in_a_row(&objects)] {
            prop_assert!(verify(&objects, &stated).is_ok());
            let is_same = encode(&other) == objects;
            prop_assert_eq!(verify(&encode(&other), &stated).is_ok(), is_same);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(Line::parse(&bytes).is_err());
    }

    #[test]
    fn a_damaged_snapshot_never_reads_as_another_table(
        contents in any_contents(), at: prop::sample::Index, byte: u8,
    ) {
        let mut sent = line(&Line::Snapshot(snapshot(encode(&contents))));
        let at = at.index(sent.len());
        sent[at] = byte;
        if let Ok(Line::Snapshot(received)) = Line::parse(&sent)
            && let Ok(objects) = received.verified()
        {
            prop_assert_eq!(decode(&objects).unwrap(), contents);
        }
    }

    #[test]
    fn arbitrary_entries_never_panic(key in "(backend|route|quota|key)/a/b", json in "\\PC{0,40}") {
        let text = serde_json::json!({ key: json }).to_string();
        let objects: Objects = serde_json::from_str(&text).unwrap();
        prop_assert!(decode(&objects).is_err());
    }
}
