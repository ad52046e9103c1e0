//! Patterns and bounds that several kinds share. RE2 syntax, as the API server reads them.

/// A Kubernetes object name (DNS-1123 subdomain), at most 253 characters.
pub(crate) const OBJECT_NAME: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A name inside an object: rule, limit, section (DNS-1123 label), at most 63 characters.
pub(crate) const LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// [`LABEL`] or nothing.
pub(crate) const OPTIONAL_LABEL: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$";
/// A DNS subdomain (API group, host, section of a gateway), or nothing.
pub(crate) const OPTIONAL_SUBDOMAIN: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$";
/// A kind, or nothing.
pub(crate) const OPTIONAL_KIND: &str = r"^([a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?)?$";
/// A key of a Secret's data.
pub(crate) const SECRET_KEY: &str = r"^[-._a-zA-Z0-9]+$";
/// A host name, or one wildcard label and a host name.
pub(crate) const HOSTNAME: &str =
    r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A deployment or model name. No segment begins with a dot, so that a name never walks a path.
pub(crate) const MODEL: &str = r"^[A-Za-z0-9][A-Za-z0-9._:@+-]*(/[A-Za-z0-9][A-Za-z0-9._:@+-]*)*$";
/// [`MODEL`] or nothing.
pub(crate) const OPTIONAL_MODEL: &str =
    r"^([A-Za-z0-9][A-Za-z0-9._:@+-]*(/[A-Za-z0-9][A-Za-z0-9._:@+-]*)*)?$";
/// The characters of a model pattern; where `*` may stand is a rule of its own.
pub(crate) const MODEL_PATTERN: &str = r"^[A-Za-z0-9._:/@+*-]+$";
/// A consumer's name: printable ASCII without spaces (object names, claims, e-mail addresses).
pub(crate) const CONSUMER: &str = r"^[!-~]+$";
/// The name of a consumer attribute, or nothing: what follows `attributes.tundish.dev/`.
pub(crate) const OPTIONAL_ATTRIBUTE: &str = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";
/// A claim of a token: a name, or a JSON pointer (RFC 6901) without empty parts.
pub(crate) const CLAIM: &str = r"^([!-.0-~][!-~]*|(/([!-.0-}]|~[01])+)+)$";
/// An HTTP field name (RFC 9110 token).
pub(crate) const HEADER_NAME: &str = r"^[A-Za-z0-9!#$%&'*+.^_|~`-]+$";
/// An HTTP field value without control characters.
pub(crate) const HEADER_VALUE: &str = r"^[ -~]+$";
/// A UUID, or nothing.
pub(crate) const OPTIONAL_UUID: &str =
    r"^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})?$";
/// A UUID.
pub(crate) const UUID: &str =
    r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$";
/// An Entra tenant (UUID or verified domain), or nothing.
pub(crate) const OPTIONAL_TENANT: &str = r"^([0-9A-Za-z]([-0-9A-Za-z.]*[0-9A-Za-z])?)?$";
/// An Entra tenant: UUID or verified domain.
pub(crate) const TENANT: &str = r"^[0-9A-Za-z]([-0-9A-Za-z.]*[0-9A-Za-z])?$";
/// An IANA time zone name, or nothing.
pub(crate) const OPTIONAL_TIME_ZONE: &str =
    r"^([A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9][A-Za-z0-9_+-]*){0,2})?$";
/// An Azure API version (`2024-10-21`, `2025-04-01-preview`, `preview`), or nothing.
pub(crate) const OPTIONAL_API_VERSION: &str = r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$";

/// A date as in RFC 3339, `2027-10-01`.
pub(crate) const DATE: &str = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$";

/// The largest integer that JSON readers keep exact: 2^53 - 1.
pub(crate) const MAX_SAFE_INTEGER: i64 = 9_007_199_254_740_991;
/// The largest bound on output tokens: far above what any model answers, and far below a slip of
/// units.
pub(crate) const MAX_OUTPUT_TOKENS: i64 = 10_000_000;
