//! Matches that AIRoute and AIQuota share.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::patterns::CONSUMER;

/// The rule for a list of model patterns, and its message.
pub(crate) const MODEL_PATTERN_RULE: (&str, &str) = (
    "self.all(m, m.indexOf('*') < 0 || m.indexOf('*') == size(m) - 1)",
    "models: '*' may only be the last character of a name, as in gpt-4o-*; write the name without \
     it or move it to the end",
);

/// The calling consumer. The fields are AND-ed; an empty field matches everybody.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsumerMatch {
    /// Names of consumers, one of which must be the caller's. A bare name means a consumer of this
    /// object's own namespace, or `anonymous`; write `namespace/name` for one of another. Empty: any
    /// consumer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 253), regex(pattern = CONSUMER))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Vec<String>,
    /// Attributes that the caller must all have, with these values. An attribute is a
    /// label of the consumer's Secret under `attributes.tundish.dev/`, or what `attributeClaims` of the token's
    /// issuer names, which may have several values. Empty: any caller.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "attributes_schema")]
    pub attributes: BTreeMap<String, String>,
}

/// Attributes that are labels have at most 63 characters, claims 256.
fn attributes_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 256},
    })
}
