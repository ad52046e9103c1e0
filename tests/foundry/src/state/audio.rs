//! What a model has spoken: a later prompt may name it by its id.

use super::Owned;

#[derive(Clone, Debug)]
pub(crate) struct Spoken {
    pub(crate) project: Option<String>,
}

impl Owned for Spoken {
    fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }
}
