//! How callers authenticate.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::patterns::CLAIM;

/// How callers authenticate.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = (
    "!(has(self.anonymous) && has(self.passThrough))",
    "authentication.anonymous and authentication.passThrough exclude each other: one asks for no \
     credential, the other needs the client's; remove one"
))]
#[x_kube(validation = (
    "!has(self.jwt) || self.jwt.all(j, j.audiences.all(a, !a.matches(\
     '(?i)^(https://(ai|cognitiveservices)[.]azure[.](com|us|cn)/?/?([.]default)?\
     |7d312290-28c8-473c-a0ed-8e53749b6d6d)$')))",
    "authentication.jwt: a token for this audience is for Foundry itself, and as good there without the \
     gateway; list the audience of an API of your own; passThrough takes such tokens"
))]
pub struct Authentication {
    /// Keys that the gateway knows, from Secrets of the route's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ApiKeys")]
    pub api_keys: Option<ApiKeys>,
    /// Issuers whose JSON Web Tokens (as `Authorization: Bearer` or as an API key) are accepted, at most 8
    /// with different issuers. A good token makes its caller a consumer of the route's namespace. Where
    /// several namespaces have routes, the installation must grant the hosts, and on each host one namespace
    /// alone has the tokens of an issuer for an audience. Beside passThrough they admit no caller, and the keys
    /// of Entra's issuers prove whose other tokens are, which go upstream.
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

/// An issuer of JSON Web Tokens, and what its tokens must have.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtIssuer {
    /// The issuer, exactly as in the token's `iss`. Entra has one for each version of its tokens:
    /// `https://login.microsoftonline.com/TENANT/v2.0`, and `https://sts.windows.net/TENANT/` of version 1.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[!-~]+$"))]
    #[x_kube(validation = (
        "isURL(self) && self.matches('^(https://[^/?#@]+\
         |http://(localhost|127[.]0[.]0[.]1|[[]::1[]])(:[0-9]{1,5})?)(/[^?#]*)?$')",
        "jwt issuer must be an https:// URL without a query (http:// only for this machine), exactly as in \
         the iss claim of the tokens"
    ))]
    pub issuer: String,
    /// The audiences, one of which must be in the token's `aud`, to the letter, 1 to 16. Of Entra: the
    /// client id of your API in tokens of version 2; in those of version 1 also its identifier URI, such as
    /// `api://ai`.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 256), regex(pattern = r"^[!-~]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub audiences: Vec<String>,
    /// Where the issuer's keys are. Empty: found through the issuer's
    /// `/.well-known/openid-configuration`.
    #[serde(rename = "jwksURI", default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512), regex(pattern = r"^[!-~]*$"))]
    #[x_kube(validation = (
        "self == '' || (isURL(self) && self.matches('^(https://[^/?#@]+\
         |http://(localhost|127[.]0[.]0[.]1|[[]::1[]])(:[0-9]{1,5})?)([/?][^#]*)?$'))",
        "jwksURI must be an https:// URL (http:// only for this machine), or empty to discover it"
    ))]
    pub jwks_uri: String,
    /// The claim whose value is the consumer's name, for example `oid`, or `azp` for the calling application,
    /// which is `appid` in Entra's tokens of version 1: either name finds it. A consumer is `namespace/value`, and the same as one of this name with
    /// a key. A claim is a name, or a JSON pointer if it begins with a slash. A token without the claim, or
    /// with more than one value there, is refused. Default: `sub`.
    #[serde(
        default = "default_consumer_claim",
        skip_serializing_if = "is_default_claim"
    )]
    #[schemars(length(min = 1, max = 128), regex(pattern = CLAIM))]
    pub consumer_claim: String,
    /// Attributes of the consumer, each with the claim that has its values, for example
    /// `{team: groups, role: roles, namespace: /kubernetes.io/namespace}`, at most 16. Rules and quotas match
    /// them by `consumers.attributes`. A list is as many values, of which any may match; they are sorted, and
    /// where a quota splits by the attribute the first one counts. A claim that the token lacks gives none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "claims_schema")]
    pub attribute_claims: BTreeMap<String, String>,
    /// Scopes that a token must have, all of them, at most 16: words of its `scp` or `scope`. Tokens that
    /// an application has for itself have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 256), regex(pattern = r"^[!-~]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub required_scopes: Vec<String>,
    /// Roles that a token must have, all of them, at most 16, of its `roles`. For other roles in each rule,
    /// make an attribute of them and match it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 256), regex(pattern = r"^[!-~]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub required_roles: Vec<String>,
    /// Applications, one of which the token must have been made for, at most 64: its `azp`, `appid` or
    /// `client_id`. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 256), regex(pattern = r"^[!-~]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_clients: Vec<String>,
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
            attribute_claims: BTreeMap::new(),
            required_scopes: Vec::new(),
            required_roles: Vec::new(),
            allowed_clients: Vec::new(),
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

fn claims_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "type": "string", "minLength": 1, "maxLength": 128, "pattern": CLAIM,
        },
    })
}

/// A structural schema must not say `additionalProperties: false`; the API server prunes instead.
fn drop_additional_properties(schema: &mut Schema) {
    schema.remove("additionalProperties");
}
