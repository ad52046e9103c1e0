//! proxy-admin.
