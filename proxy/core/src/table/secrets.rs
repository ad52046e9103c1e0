//! Lists of Secrets that routes share: many select the same ones.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::names::ObjectName;

/// Names of Secrets, sorted. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Option<Arc<Vec<ObjectName>>>);

// === impl Secrets ===

impl Secrets {
    /// No Secret.
    pub const NONE: Self = Self(None);

    /// The same for all copies of one list.
    #[must_use]
    pub fn address(&self) -> *const Vec<ObjectName> {
        self.0.as_ref().map_or(std::ptr::null(), Arc::as_ptr)
    }
}

impl Deref for Secrets {
    type Target = Vec<ObjectName>;

    fn deref(&self) -> &Self::Target {
        self.0.as_deref().unwrap_or(const { &Vec::new() })
    }
}

/// Copies the names first if another copy of the list is in use.
impl DerefMut for Secrets {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.address(), other.address()) || **self == **other
    }
}

impl Eq for Secrets {}

/// By the ends of the list: it may be long.
impl Hash for Secrets {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.len(), self.first(), self.last()).hash(state);
    }
}

impl From<Vec<ObjectName>> for Secrets {
    fn from(names: Vec<ObjectName>) -> Self {
        Self((!names.is_empty()).then(|| Arc::new(names)))
    }
}

impl FromIterator<ObjectName> for Secrets {
    fn from_iter<I: IntoIterator<Item = ObjectName>>(names: I) -> Self {
        Vec::from_iter(names).into()
    }
}
