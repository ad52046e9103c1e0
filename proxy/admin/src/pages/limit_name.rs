//! A limit's name in JSON: `namespace/quota/limit`.

use proxy_core::quota::LimitName;
use serde::{Deserialize, Deserializer, Serializer, de};

pub(super) fn serialize<S: Serializer>(name: &LimitName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<LimitName, D::Error> {
    let text = String::deserialize(deserializer)?;
    LimitName::parse(&text)
        .ok_or_else(|| de::Error::custom(format!("{text:?} is not namespace/quota/limit")))
}

/// The same for a name that may be absent.
pub(super) mod option {
    use super::{Deserialize, Deserializer, LimitName, Serializer};

    #[derive(Deserialize)]
    struct Name(#[serde(with = "super")] LimitName);

    pub(in super::super) fn serialize<S: Serializer>(
        name: &Option<LimitName>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match name {
            Some(name) => super::serialize(name, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<LimitName>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(|Name(name)| name))
    }
}
