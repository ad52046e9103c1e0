//! The header fields of a request that decide about it, found in one pass over all of them: a look-up by name
//! hashes the name each time.

use http::HeaderMap;
use http::header::HeaderValue;

#[cfg(test)]
mod tests;

/// How often a field is there, and its first value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    #[default]
    Absent,
    Once(&'a HeaderValue),
    Repeated(&'a HeaderValue),
}

/// The fields that are looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields<'a> {
    pub(crate) host: Field<'a>,
    pub(crate) content_encoding: Field<'a>,
    pub(crate) content_length: Field<'a>,
    pub(crate) content_type: Field<'a>,
    pub(crate) transfer_encoding: Field<'a>,
    pub(crate) api_key: Field<'a>,
    pub(crate) x_api_key: Field<'a>,
    pub(crate) authorization: Field<'a>,
    pub(crate) request_id: Field<'a>,
    pub(crate) origin: Field<'a>,
    pub(crate) user_agent: Field<'a>,
}

// === impl Field ===

impl<'a> Field<'a> {
    /// The first value, if there is one.
    pub(crate) const fn first(self) -> Option<&'a HeaderValue> {
        match self {
            Self::Absent => None,
            Self::Once(value) | Self::Repeated(value) => Some(value),
        }
    }

    /// The first value; empty if there is none.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.first().map_or(&[], HeaderValue::as_bytes)
    }

    fn add(&mut self, value: &'a HeaderValue) {
        *self = match *self {
            Self::Absent => Self::Once(value),
            Self::Once(first) | Self::Repeated(first) => Self::Repeated(first),
        };
    }
}

// === impl Fields ===

impl<'a> Fields<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers {
            let field = match name.as_str() {
                "host" => &mut fields.host,
                "content-encoding" => &mut fields.content_encoding,
                "content-length" => &mut fields.content_length,
                "content-type" => &mut fields.content_type,
                "transfer-encoding" => &mut fields.transfer_encoding,
                "api-key" => &mut fields.api_key,
                "x-api-key" => &mut fields.x_api_key,
                "authorization" => &mut fields.authorization,
                "x-request-id" => &mut fields.request_id,
                "origin" => &mut fields.origin,
                "user-agent" => &mut fields.user_agent,
                _ => continue,
            };
            field.add(value);
        }
        fields
    }
}
