//! Values of the domain that travel as one word or one number.
//!
//! The words are the contract: the match arms below, not the names of Rust variants.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use pem::{EncodeConfig, LineEnding, Pem};
use proxy_core::auth::KeyDigest;
use proxy_core::names::{ConsumerName, ModelPattern, ObjectName, Operation, Secret};
use proxy_core::quota::{
    LimitName, Mode, OnStoreLoss, Per, Period, StoreState, SubjectKey, TimeZone, Unit,
};
use proxy_core::route::HostPattern;
use proxy_core::table::{BackendKind, StreamUsage};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that travels as a word.
pub(super) trait Word: Sized {
    /// Its name in an error.
    const WHAT: &'static str;
    fn write(&self) -> Cow<'_, str>;
    fn read(word: &str) -> Option<Self>;
}

/// Carries a [`Word`] through serde.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text<T>(pub(super) T);

/// A duration in whole milliseconds, which is the resolution of Kubernetes' durations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Millis(pub(super) Duration);

/// A credential. The only type that writes one.
#[derive(Clone)]
pub(super) struct Credential(pub(super) Secret);

/// Certificates: DER in the domain, one PEM text on the wire.
#[derive(Clone)]
pub(super) struct Certificates(pub(super) Arc<[Arc<[u8]>]>);

/// Wraps every element of a list.
pub(super) fn texts<T: Word + Clone>(list: &[T]) -> Vec<Text<T>> {
    list.iter().cloned().map(Text).collect()
}

/// Unwraps every element of a list.
pub(super) fn values<T>(list: Vec<Text<T>>) -> Vec<T> {
    list.into_iter().map(|Text(value)| value).collect()
}

impl<T: Word> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.write())
    }
}

impl<'de, T: Word> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let value = T::read(&word)
            .ok_or_else(|| D::Error::custom(format_args!("{word:?} is not a valid {}", T::WHAT)))?;
        Ok(Self(value))
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX))
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(|millis| Self(Duration::from_millis(millis)))
    }
}

impl Serialize for Credential {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for Credential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|value| Self(Secret::new(value)))
    }
}

impl Serialize for Certificates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
        let armoured = self.0.iter().map(|der| {
            let certificate = Pem::new("CERTIFICATE", &**der);
            pem::encode_config(&certificate, config)
        });
        serializer.serialize_str(&armoured.collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Certificates {
    /// Errors quote nothing: the text of a Secret may hold a private key too.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let certificates: Result<Vec<Arc<[u8]>>, _> =
            CertificateDer::pem_slice_iter(text.as_bytes())
                .map(|der| der.map(|der| Arc::from(&*der)))
                .collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(Self(certificates.into())),
            Ok(_) => Err(D::Error::custom("no certificate in the PEM text")),
            Err(_) => Err(D::Error::custom("a certificate with damaged PEM")),
        }
    }
}

impl Word for ObjectName {
    const WHAT: &'static str = "namespace/name";

    fn write(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }

    fn read(word: &str) -> Option<Self> {
        Self::parse(word)
    }
}

impl Word for HostPattern {
    const WHAT: &'static str = "host pattern";

    fn write(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }

    fn read(word: &str) -> Option<Self> {
        Self::parse(word)
    }
}

impl Word for ModelPattern {
    const WHAT: &'static str = "model pattern";

    fn write(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }

    fn read(word: &str) -> Option<Self> {
        Self::parse(word)
    }
}

impl Word for ConsumerName {
    const WHAT: &'static str = "namespace/consumer";

    fn write(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }

    fn read(word: &str) -> Option<Self> {
        Self::parse(word)
    }
}

impl Word for HeaderName {
    const WHAT: &'static str = "header name";

    fn write(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.as_str())
    }

    fn read(word: &str) -> Option<Self> {
        word.parse().ok()
    }
}

impl Word for KeyDigest {
    const WHAT: &'static str = "SHA-256 in hex";

    fn write(&self) -> Cow<'_, str> {
        Cow::Owned(hex::encode(self.as_bytes()))
    }

    fn read(word: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(word, &mut bytes).ok()?;
        Some(Self::from_bytes(bytes))
    }
}

impl Word for LimitName {
    const WHAT: &'static str = "namespace/quota/limit";

    fn write(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }

    fn read(word: &str) -> Option<Self> {
        Self::parse(word)
    }
}

impl Word for SubjectKey {
    const WHAT: &'static str = "subject's key in hex";

    fn write(&self) -> Cow<'_, str> {
        Cow::Owned(hex::encode(self.0))
    }

    fn read(word: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(word, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl Word for TimeZone {
    const WHAT: &'static str = "IANA time zone";

    fn write(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.name())
    }

    fn read(word: &str) -> Option<Self> {
        Self::named(word)
    }
}

impl Word for Operation {
    const WHAT: &'static str = "operation";

    fn write(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.as_str())
    }

    fn read(word: &str) -> Option<Self> {
        Self::parse(word)
    }
}

impl Word for Unit {
    const WHAT: &'static str = "unit";

    fn write(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.as_str())
    }

    fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == word)
    }
}

/// A closed list of words.
macro_rules! words {
    ($type:ty, $what:literal, $($variant:ident = $word:literal),+) => {
        impl Word for $type {
            const WHAT: &'static str = $what;

            fn write(&self) -> Cow<'_, str> {
                Cow::Borrowed(match self {
                    $(Self::$variant => $word,)+
                })
            }

            fn read(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

words!(
    BackendKind,
    "kind of backend",
    Foundry = "Foundry",
    OpenAiCompatible = "OpenAICompatible"
);
words!(StreamUsage, "streamUsage", Auto = "Auto", Never = "Never");
words!(
    Period,
    "period",
    Hour = "Hour",
    Day = "Day",
    Week = "Week",
    Month = "Month"
);
words!(Mode, "mode", Enforce = "Enforce", Shadow = "Shadow");
words!(
    OnStoreLoss,
    "onStoreLoss",
    Share = "Share",
    Deny = "Deny",
    Allow = "Allow"
);
words!(
    StoreState,
    "state of the store",
    None = "none",
    Ok = "ok",
    Lost = "lost"
);
words!(
    Per,
    "per",
    Namespace = "Namespace",
    Consumer = "Consumer",
    Model = "Model",
    Route = "Route",
    Attribute = "Attribute"
);

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
pub(super) fn is_false(flag: &bool) -> bool {
    !*flag
}
