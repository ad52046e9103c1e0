//! Secrets that a backend refers to.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::Reason;
use proxy_core::names::ObjectName;

use crate::diagnostic::Findings;
use crate::reads::{Reads, Subject};
use crate::secret::StoredSecret;

/// Secrets of the backend's namespace.
pub(crate) struct Lookup<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) secrets: &'a BTreeMap<ObjectName, Arc<StoredSecret>>,
    pub(crate) reads: &'a Reads,
}

impl Lookup<'_> {
    /// The text of one entry, or a finding why there is none.
    pub(crate) fn text(
        &self,
        secret: &str,
        entry: &str,
        field: &str,
        findings: &mut Findings,
    ) -> Option<&str> {
        let name = ObjectName::new(self.namespace, secret);
        self.reads.one(Subject::Secret, &name);
        let Some(stored) = self.secrets.get(&name) else {
            let message = format!(
                "Secret {secret} does not exist in namespace {}; create it, or name another",
                self.namespace
            );
            findings.unresolved(Reason::SecretNotFound, format!("{field}.name"), message);
            return None;
        };
        match stored.text(entry) {
            Ok(text) => Some(text),
            Err(problem) => {
                let message = format!(
                    "Secret {secret} {problem}: {entry}; put the value into this key, or name \
                     another"
                );
                findings.unresolved(Reason::SecretKeyMissing, format!("{field}.key"), message);
                None
            }
        }
    }
}
