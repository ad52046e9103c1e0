//! What the resource keeps between requests: responses, conversations, files and what is made of them. Another
//! resource, which is another simulator, knows nothing of it.

use std::collections::{HashMap, VecDeque};

pub(crate) mod audio;
pub(crate) mod batch;
pub(crate) mod container;
pub(crate) mod conversation;
pub(crate) mod draft;
pub(crate) mod file;
pub(crate) mod response;
pub(crate) mod vector_store;

/// More objects of a kind push out the oldest, so that a long run does not fill the memory.
const MAX_OBJECTS: usize = 100_000;

/// An object that belongs to a project, or to the resource itself.
pub(crate) trait Owned {
    fn project(&self) -> Option<&str>;
}

/// Objects by id.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    objects: HashMap<String, T>,
    ages: VecDeque<String>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self {
            objects: HashMap::new(),
            ages: VecDeque::new(),
        }
    }
}

impl<T: Owned> Shelf<T> {
    pub(crate) fn insert(&mut self, id: &str, object: T) {
        if self.objects.insert(id.to_owned(), object).is_none() {
            self.ages.push_back(id.to_owned());
        }
        while self.ages.len() > MAX_OBJECTS {
            let Some(oldest) = self.ages.pop_front() else {
                break;
            };
            self.objects.remove(&oldest);
        }
    }

    /// The object of that id; those of other projects are unknown.
    pub(crate) fn get(&self, id: &str, project: Option<&str>) -> Option<&T> {
        self.objects
            .get(id)
            .filter(|object| object.project() == project)
    }

    pub(crate) fn get_mut(&mut self, id: &str, project: Option<&str>) -> Option<&mut T> {
        self.objects
            .get_mut(id)
            .filter(|object| object.project() == project)
    }

    pub(crate) fn remove(&mut self, id: &str, project: Option<&str>) -> Option<T> {
        self.get(id, project)?;
        self.ages.retain(|other| other != id);
        self.objects.remove(id)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.objects.values()
    }
}
