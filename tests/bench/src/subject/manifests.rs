//! The objects of the gateway under test: one backend, one consumer, limits that no load reaches.

use std::net::SocketAddr;

use tests_foundry::API_URI;

use crate::certificate::NAME;

/// The header line with the consumer's key.
pub(super) const KEY: &str = "authorization: Bearer ann-key";

const OBJECTS: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: sim}
spec:
  type: Foundry
  endpoint: ENDPOINT
  TRANSPORT
  auth: {type: APIKey, apiKey: {secretRef: {name: sim, key: api-key}}}
  deployments: [{name: gpt-4o, model: gpt-4o}]
---
apiVersion: v1
kind: Secret
metadata: {name: sim}
stringData: {api-key: sim-key}
---
apiVersion: v1
kind: Secret
metadata: {name: ann, labels: {tundish.dev/keys: chat}}
stringData: {key: ann-key}
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat}
spec:
  authentication: AUTHENTICATION
  rules:
  - name: chat
    matches: [{models: ['gpt-*'], operations: [ChatCompletions]}]
    backendRefs: [{name: sim}]
---
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: wide}
spec:
  targetRefs: [{name: chat}]
  per: [Consumer]
  limits: LIMITS
";

/// The limits, the first of them where fewer are asked for.
pub(crate) const LIMITS: [(&str, &str); 10] = [
    ("Tokens", "Minute"),
    ("Requests", "Minute"),
    ("Tokens", "Day"),
    ("InputTokens", "Minute"),
    ("OutputTokens", "Minute"),
    ("Requests", "Second"),
    ("Tokens", "Hour"),
    ("Tokens", "Month"),
    ("Requests", "Day"),
    ("OutputTokens", "Week"),
];

/// A limit that no load reaches, as a YAML flow mapping.
pub(crate) fn limit((unit, window): (&str, &str)) -> String {
    let name = format!("{unit}-{window}").to_ascii_lowercase();
    format!("{{name: {name}, unit: {unit}, limit: 9000000000000, window: {window}}}")
}

/// The objects, with a backend over TLS if there is an authority to trust, and with callers by token if there is
/// an issuer.
pub(super) fn text(
    backend: SocketAddr,
    authority: Option<&str>,
    issuer: Option<&str>,
    limits: usize,
) -> String {
    let limits: Vec<String> = LIMITS.into_iter().take(limits).map(limit).collect();
    let limits = format!("[{}]", limits.join(", "));
    let (endpoint, transport, secret) = match authority {
        None => (
            format!("http://{backend}"),
            "allowPlaintext: true".to_owned(),
            String::new(),
        ),
        Some(pem) => {
            let pem: Vec<String> = pem.lines().map(|line| format!("    {line}")).collect();
            (
                format!("https://{backend}"),
                format!("tls: {{caCertificateRef: {{name: authority}}, serverName: {NAME}}}"),
                format!(
                    "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: authority}}\nstringData:\n  \
                     ca.crt: |\n{}\n",
                    pem.join("\n")
                ),
            )
        }
    };
    let authentication = issuer.map_or_else(
        || "{apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}}".to_owned(),
        |issuer| {
            format!(
                "{{jwt: [{{issuer: '{issuer}', audiences: ['{API_URI}'], consumerClaim: azp}}]}}"
            )
        },
    );
    let objects = OBJECTS
        .replace("AUTHENTICATION", &authentication)
        .replace("ENDPOINT", &endpoint)
        .replace("TRANSPORT", &transport)
        .replace("LIMITS", &limits);
    format!("{objects}{secret}")
}
