//! What is read of every field, and what a field that is not there means.

use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    AffinityType, AiBackend, AiBackendSpec, AiQuota, AiQuotaSpec, AiRoute, AiRouteSpec, AuthType,
    Authentication, BackendRef, BackendTimeouts, Class, ConditionStatus, DEFAULT_SCOPE, Duration,
    JwtIssuer, LimitUnit, OutputTokens, Price, QuotaMode, Retry, RetryWhen, RouteRule,
    RouteTimeouts, StoreLoss, StreamUsage, Window,
};

fn spec<K: DeserializeOwned + Resource>(yaml: &str) -> K {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// What is read from a spec must be written so that it reads the same.
fn survives<S: DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug>(spec: &S) {
    let json = serde_json::to_string(spec).unwrap();
    assert_eq!(serde_json::from_str::<S>(&json).unwrap(), *spec, "{json}");
}

#[test]
fn reads_every_field_of_a_backend() {
    let backend: AiBackend = spec(
        r#"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: foundry-eu}
spec:
  type: Foundry
  endpoint: https://contoso.services.ai.azure.com
  allowPlaintext: false
  apiVersion: "2024-10-21"
  auth:
    type: ClientSecret
    scope: https://cognitiveservices.azure.com/.default
    apiKey: {secretRef: {name: foundry-eu, key: api-key}}
    workloadIdentity: {clientID: c, tenantID: t}
    managedIdentity: {clientID: m}
    clientSecret: {tenantID: t, clientID: c, secretRef: {name: app, key: secret}}
  deployments:
  - name: gpt-4o-ptu
    model: gpt-4o
    capacity: {type: Provisioned, tokensPerMinute: 450000}
    streamUsage: Never
    price: {inputPerMillion: 2500000, outputPerMillion: 10000000}
  - name: gpt-4o
  tls: {caCertificateRef: {name: roots}, serverName: foundry.internal}
  timeouts: {connect: 1s, streamStart: 60s}
"#,
    );
    let spec = &backend.spec;
    assert_eq!(
        spec.auth.scope,
        "https://cognitiveservices.azure.com/.default"
    );
    assert_eq!(spec.auth.workload_identity.as_ref().unwrap().client_id, "c");
    assert_eq!(
        spec.auth.client_secret.as_ref().unwrap().secret_ref.key,
        "secret"
    );
    assert_eq!(
        spec.deployments[0]
            .capacity
            .as_ref()
            .unwrap()
            .tokens_per_minute,
        Some(450_000)
    );
    let price = spec.deployments[0].price.as_ref().unwrap();
    assert_eq!(price.output_per_million, 10_000_000);
    assert_eq!(spec.deployments[0].stream_usage, StreamUsage::Never);
    assert_eq!(spec.deployments[1].stream_usage, StreamUsage::Auto);
    assert_eq!(spec.deployments[0].model_or_name(), "gpt-4o");
    assert_eq!(spec.deployments[1].model_or_name(), "gpt-4o");
    let authority = spec
        .tls
        .as_ref()
        .unwrap()
        .ca_certificate_ref
        .as_ref()
        .unwrap();
    assert_eq!(
        (authority.name.as_str(), authority.key.as_str()),
        ("roots", "ca.crt")
    );
    assert_eq!(spec.timeouts.stream_start, Duration::from_secs(60));
    assert_eq!(spec.timeouts.idle, BackendTimeouts::default().idle);
    survives(spec);
}

#[test]
fn reads_every_class_of_a_price() {
    let price: Price = serde_saphyr::from_str(
        "
inputPerMillion: 2500000
cachedInputPerMillion: 1250000
cacheWritePerMillion: 3125000
outputPerMillion: 10000000
audioInputPerMillion: 40000000
audioOutputPerMillion: 80000000
imageInputPerMillion: 5000000
imageOutputPerMillion: 40000000
perSecond: 100
longContext: {aboveInputTokens: 272000, inputPerMillion: 5000000, outputPerMillion: 15000000,
              cachedInputPerMillion: 500000, cacheWritePerMillion: 6250000}
routed: [{model: gpt-4o-mini, inputPerMillion: 150000, outputPerMillion: 600000,
          cachedInputPerMillion: 75000}]
",
    )
    .unwrap();
    assert_eq!(price.cache_write_per_million, Some(3_125_000));
    assert_eq!(price.image_output_per_million, Some(40_000_000));
    assert_eq!(price.per_second, Some(100));
    let long = price.long_context.as_ref().unwrap();
    assert_eq!(
        (long.above_input_tokens, long.cache_write_per_million),
        (272_000, Some(6_250_000))
    );
    assert_eq!(price.routed[0].cached_input_per_million, Some(75_000));
    survives(&price);
}

#[test]
fn a_minimal_backend_gets_the_documented_defaults() {
    let spec: AiBackendSpec = serde_json::from_value(json!({
        "type": "OpenAICompatible",
        "endpoint": "https://models.internal",
        "auth": {"type": "APIKey", "apiKey": {"secretRef": {"name": "key"}}},
        "deployments": [{"name": "qwen3:8b"}],
    }))
    .unwrap();
    assert_eq!(spec.auth.type_, AuthType::ApiKey);
    assert_eq!(spec.auth.scope, DEFAULT_SCOPE);
    assert_eq!(
        spec.auth.api_key.as_ref().unwrap().secret_ref.key,
        "api-key"
    );
    assert_eq!(spec.timeouts.connect, Duration::from_secs(5));
    assert_eq!(spec.timeouts.stream_start, Duration::from_secs(120));
    assert_eq!(spec.timeouts.idle, Duration::from_secs(600));
    assert!(spec.deployments[0].price.is_none());
    assert!(!spec.allow_plaintext && spec.tls.is_none() && spec.api_version.is_empty());
    survives(&spec);
}

#[test]
fn reads_every_field_of_a_route() {
    let route: AiRoute = spec(
        r#"
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat}
spec:
  hostnames: [ai.example.com]
  parentRefs: [{name: edge, namespace: infra, sectionName: https}]
  authentication:
    apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}
    jwt: [{issuer: "https://login.microsoftonline.com/T/v2.0", audiences: ["api://ai"],
           consumerClaim: azp, jwksURI: ""}]
    anonymous: {}
    passThrough: {}
  cors: {allowOrigins: ["https://app.example.com"]}
  rules:
  - name: chat
    outputTokens: {default: 4096, max: 8192}
    mcp: {servers: [mcp.example.com, "*.tools.example.com"]}
    matches:
    - models: ["gpt-4o", "gpt-4o-*"]
      operations: [ChatCompletions, Responses]
      headers: [{name: x-team, value: search}]
      consumers: {names: [], attributes: {team: search}}
    backendRefs:
    - {name: foundry-eu, deployment: gpt-4o-ptu}
    - {name: foundry-us, namespace: shared, deployment: gpt-4o-std, priority: 1, weight: 3}
    retry: {attempts: 1, when: [Timeout]}
    timeouts: {request: 5m, firstToken: 60s}
status:
  observedGeneration: 3
  programmed: 3/3
  conditions:
  - {type: Ready, status: "True", reason: Ready, message: "", observedGeneration: 3,
     lastTransitionTime: "2026-11-24T22:16:00Z"}
"#,
    );
    let authentication = &route.spec.authentication;
    let keys = authentication.api_keys.as_ref().unwrap();
    assert_eq!(
        keys.secret_selector.match_labels["tundish.dev/keys"],
        "chat"
    );
    assert_eq!(authentication.jwt[0].consumer_claim, "azp");
    assert!(authentication.anonymous.is_some() && authentication.pass_through.is_some());
    let cors = route.spec.cors.as_ref().unwrap();
    assert_eq!(cors.allow_origins, ["https://app.example.com"]);
    let rule = &route.spec.rules[0];
    let bounds = OutputTokens {
        default: Some(4_096),
        max: Some(8_192),
    };
    assert_eq!(rule.output_tokens, Some(bounds));
    assert_eq!(rule.matches[0].consumers.attributes["team"], "search");
    assert_eq!(
        (rule.backend_refs[0].weight, rule.backend_refs[0].priority),
        (1, 0)
    );
    assert_eq!(
        (rule.backend_refs[1].weight, rule.backend_refs[1].priority),
        (3, 1)
    );
    assert_eq!(
        rule.retry,
        Retry {
            attempts: 1,
            when: vec![RetryWhen::Timeout]
        }
    );
    assert_eq!(rule.timeouts.first_token, Some(Duration::from_secs(60)));
    survives(&route.spec);
    let status = route.status.unwrap();
    assert_eq!(
        (status.observed_generation, status.programmed.as_str()),
        (Some(3), "3/3")
    );
    assert_eq!(status.conditions[0].status, ConditionStatus::True);
    survives(&status);
}

#[test]
fn reads_what_a_rule_prefers() {
    let rule: RouteRule = serde_saphyr::from_str(
        "{name: a, backendRefs: [{name: b}], affinity: {type: Header, header: x-session}, class: Batch}",
    )
    .unwrap();
    assert_eq!(rule.affinity.type_, AffinityType::Header);
    assert_eq!(rule.affinity.header.as_deref(), Some("x-session"));
    assert_eq!(rule.class, Class::Batch);
    survives(&rule);
    let usual: RouteRule = serde_saphyr::from_str("{name: a, backendRefs: [{name: b}]}").unwrap();
    assert_eq!(usual.affinity.type_, AffinityType::Conversation);
    assert_eq!(usual.class, Class::Standard);
}

#[test]
fn reads_every_field_of_an_issuer() {
    let authentication: Authentication = serde_saphyr::from_str(
        r#"
jwt:
- issuer: https://login.microsoftonline.com/T/v2.0
  audiences: [api]
  jwksURI: https://login.microsoftonline.com/T/discovery/v2.0/keys
  consumerClaim: azp
  attributeClaims: {team: groups, role: /realm_access/roles}
  requiredScopes: [chat]
  requiredRoles: [caller]
  allowedClients: [app]
- {issuer: "https://a.example", audiences: [a, b]}
"#,
    )
    .unwrap();
    let [full, minimal] = &authentication.jwt[..] else {
        panic!("two issuers");
    };
    assert!(full.jwks_uri.ends_with("/keys"));
    assert_eq!(full.attribute_claims["role"], "/realm_access/roles");
    let required = [
        &full.required_scopes[0],
        &full.required_roles[0],
        &full.allowed_clients[0],
    ];
    assert_eq!(required, ["chat", "caller", "app"]);
    let expect = JwtIssuer {
        issuer: "https://a.example".to_owned(),
        audiences: vec!["a".to_owned(), "b".to_owned()],
        ..JwtIssuer::default()
    };
    assert_eq!(*minimal, expect);
    assert_eq!(minimal.consumer_claim, "sub");
    survives(&authentication);
}

#[test]
fn a_minimal_route_refuses_everybody_and_retries_as_documented() {
    let spec: AiRouteSpec = serde_json::from_value(json!({
        "rules": [{"name": "all", "backendRefs": [{"name": "foundry-eu"}]}],
    }))
    .unwrap();
    let authentication = &spec.authentication;
    assert!(authentication.api_keys.is_none() && authentication.jwt.is_empty());
    assert!(authentication.anonymous.is_none() && authentication.pass_through.is_none());
    let rule = &spec.rules[0];
    let backend = BackendRef {
        name: "foundry-eu".to_owned(),
        ..BackendRef::default()
    };
    assert_eq!(rule.backend_refs, [backend]);
    assert_eq!(rule.retry.attempts, 2);
    let when = [
        RetryWhen::TooManyRequests,
        RetryWhen::ServerError,
        RetryWhen::ConnectFailure,
        RetryWhen::CredentialRefused,
        RetryWhen::NotThere,
    ];
    assert_eq!(rule.retry.when, when);
    assert_eq!(rule.timeouts, RouteTimeouts::default());
    assert_eq!(rule.timeouts.request, Duration::from_secs(1_800));
    survives(&spec);
}

#[test]
fn reads_every_field_of_a_quota() {
    let quota: AiQuota = spec(
        r#"
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: chat}
spec:
  targetRefs: [{group: tundish.dev, kind: AIRoute, name: chat, sectionName: chat}]
  match: {models: [gpt-4o], namespaces: [team-a], consumers: {names: [search], attributes: {}}}
  per: [Consumer, Attribute]
  attribute: team
  mode: Shadow
  onStoreLoss: Deny
  warnAt: [80, 95]
  limits:
  - {name: minute, unit: Tokens, limit: 100000, window: Minute}
  - {name: month, unit: CostMicros, limit: 9007199254740991, window: Month, timeZone: Europe/Vienna}
  - {name: in-flight, unit: Concurrency, limit: 20}
  overrides:
  - {consumers: {names: [nightly], attributes: {team: search}}, limits: [{name: minute, limit: 0}]}
"#,
    );
    let spec = &quota.spec;
    assert_eq!(spec.target_refs[0].section_name, "chat");
    assert_eq!(spec.match_.models, ["gpt-4o"]);
    assert_eq!(spec.match_.namespaces, ["team-a"]);
    assert_eq!(spec.warn_at, [80, 95]);
    assert_eq!(spec.overrides[0].consumers.names, ["nightly"]);
    assert_eq!(spec.overrides[0].consumers.attributes["team"], "search");
    assert_eq!(spec.overrides[0].limits[0].name, "minute");
    assert_eq!(spec.overrides[0].limits[0].limit, 0);
    assert_eq!(
        (spec.mode, spec.on_store_loss),
        (QuotaMode::Shadow, StoreLoss::Deny)
    );
    assert_eq!(spec.limits[0].window, Some(Window::Minute));
    assert_eq!(spec.limits[1].limit, (1 << 53) - 1);
    assert_eq!(spec.limits[1].time_zone, "Europe/Vienna");
    assert_eq!(
        (spec.limits[2].unit, spec.limits[2].window),
        (LimitUnit::Concurrency, None)
    );
    survives(spec);
}

#[test]
fn a_minimal_quota_enforces_and_shares() {
    let spec: AiQuotaSpec = serde_json::from_value(json!({
        "limits": [{"name": "minute", "unit": "Requests", "limit": 1, "window": "Minute"}],
    }))
    .unwrap();
    assert_eq!(
        (spec.mode, spec.on_store_loss),
        (QuotaMode::Enforce, StoreLoss::Share)
    );
    assert!(spec.target_refs.is_empty() && spec.per.is_empty() && spec.attribute.is_empty());
    survives(&spec);
}

#[test]
fn a_misspelt_restriction_is_an_error_and_names_the_field() {
    let error = serde_json::from_value::<AiRouteSpec>(json!({
        "rules": [{
            "name": "all",
            "matches": [{"model": ["gpt-4o"]}],
            "backendRefs": [{"name": "foundry-eu"}],
        }],
    }))
    .unwrap_err();
    assert!(
        error.to_string().contains("unknown field `model`"),
        "{error}"
    );
}

#[test]
fn the_status_of_a_newer_operator_can_be_read() {
    let route: AiRoute = serde_json::from_value(json!({
        "apiVersion": "tundish.dev/v1alpha1",
        "kind": "AIRoute",
        "metadata": {"name": "chat", "namespace": "default"},
        "spec": {"rules": [{"name": "all", "backendRefs": [{"name": "foundry-eu"}]}]},
        "status": {
            "progress": 7,
            "conditions": [{
                "type": "Degraded", "status": "Unknown", "reason": "NotThoughtOf", "message": "",
                "lastTransitionTime": "2026-11-24T22:16:00Z",
            }],
        },
    }))
    .unwrap();
    assert_eq!(route.status.unwrap().conditions[0].reason, "NotThoughtOf");
}
