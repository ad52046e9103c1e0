//! How callers authenticate.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// How callers authenticate.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = (
    "!(has(self.anonymous) && has(self.passThrough))",
    "authentication.anonymous and authentication.passThrough exclude each other: one asks for no \
     credential, the other needs the client's; remove one"
))]
pub struct Authentication {
    /// Keys that the gateway knows, from Secrets of the route's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ApiKeys")]
    pub api_keys: Option<ApiKeys>,
    /// Issuers whose JSON Web Tokens are accepted, at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["issuer".into()]))]
    pub jwt: Vec<JwtIssuer>,
    /// Write `anonymous: {}` to serve callers without any credential. Where several namespaces have
    /// routes, the installation must grant the hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Anonymous")]
    pub anonymous: Option<Anonymous>,
    /// Write `passThrough: {}` to send the client's own Foundry key or Entra token upstream and
    /// let Foundry judge it. Every backend of the route then needs auth.type PassThrough. A key of the
    /// gateway is never sent. The consumer is `key-` and a fingerprint of the key, or, once Foundry has
    /// accepted a token, `entra-OBJECT@TENANT`. Where several namespaces have routes, the installation must grant the
    /// hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PassThrough")]
    pub pass_through: Option<PassThrough>,
}

/// Keys that the gateway knows.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKeys {
    /// Selects the Secrets, in the namespace of the AIRoute. Each is one consumer's key, as `tundish key
    /// new` makes it: `data.bound-sha256` holds the SHA-256 of `NAMESPACE/KEY` in hex. Of keys made otherwise
    /// `data.sha256` holds the SHA-256, or `data.key` the key itself. The consumer's name is the annotation
    /// `tundish.dev/consumer`, else the Secret's name.
    pub secret_selector: SecretSelector,
}

/// Selects Secrets by their labels.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretSelector {
    /// Labels that a Secret must have, all of them, 1 to 8.
    #[schemars(schema_with = "labels_schema")]
    #[x_kube(validation = (
        "size(self) > 0",
        "secretSelector.matchLabels must name at least one label, or every Secret of the namespace \
         would be a key; add one, for example tundish.dev/keys: chat"
    ))]
    pub match_labels: BTreeMap<String, String>,
}

/// An issuer of JSON Web Tokens.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtIssuer {
    /// The issuer, exactly as in the token's `iss`, for example
    /// `https://login.microsoftonline.com/TENANT/v2.0`.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[!-~]+$"))]
    #[x_kube(validation = (
        "self.startsWith('https://') && isURL(self)",
        "jwt issuer must be an https:// URL, exactly as in the iss claim of the tokens"
    ))]
    pub issuer: String,
    /// The audiences, one of which must be in the token's `aud`, 1 to 16.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 256), regex(pattern = r"^[!-~]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub audiences: Vec<String>,
    /// The claim whose value is the consumer's name, for example `azp` (the calling
    /// application) or `oid`. Default: `sub`.
    #[serde(
        default = "default_consumer_claim",
        skip_serializing_if = "is_default_claim"
    )]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9_.:/-]+$"))]
    pub consumer_claim: String,
    /// Where the issuer's keys are. Empty: found through the issuer's
    /// `/.well-known/openid-configuration`.
    #[serde(rename = "jwksURI", default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512), regex(pattern = r"^[!-~]*$"))]
    #[x_kube(validation = (
        "self == '' || (isURL(self) \
         && self.matches('^(https://|http://(localhost|127[.]0[.]0[.]1)[:/])'))",
        "jwksURI must be an https:// URL (http:// only on localhost), or empty to discover it"
    ))]
    pub jwks_uri: String,
}

/// Callers without any credential are served. Has no fields.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[schemars(transform = drop_additional_properties)]
#[serde(deny_unknown_fields)]
pub struct Anonymous {}

/// The client's own credential goes upstream. Has no fields.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[schemars(transform = drop_additional_properties)]
#[serde(deny_unknown_fields)]
pub struct PassThrough {}

// === defaults ===

impl Default for JwtIssuer {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            consumer_claim: default_consumer_claim(),
            jwks_uri: String::new(),
        }
    }
}

fn default_consumer_claim() -> String {
    "sub".to_owned()
}

fn is_default_claim(claim: &String) -> bool {
    claim == "sub"
}

// === schemas ===

/// Labels: a value has at most 63 characters.
fn labels_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": {"type": "string", "maxLength": 63},
    })
}

/// A structural schema must not say `additionalProperties: false`; the API server prunes instead.
fn drop_additional_properties(schema: &mut Schema) {
    schema.remove("additionalProperties");
}
