//! Values that an object need not store.

/// True for a value that serde may leave out, since it reads back as the default.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
