//! Namespaces with a meaning of their own.

/// The namespace of an object that names none, as for `kubectl`.
pub(crate) const DEFAULT: &str = "default";

/// The namespace of an installation, where nothing else is configured.
pub const INSTALLATION_NAMESPACE: &str = "tundish-system";
