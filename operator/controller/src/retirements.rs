//! Says by one Kubernetes Event each that a deployment retires in 90, 30 and 7 days, and that it has.
//!
//! The stored condition shows which were said: an Event comes before the status that has its warning, and is
//! not written again by another leader or after a restart.

use crds::{ConditionType, Reason};
use operator_compile::{Diagnostic, ObjectRef, Verdict, is_known};

use crate::event_writer::Notice;
use crate::stored_status::StoredObject;

#[cfg(test)]
mod tests;

/// The events that are due before the status of this verdict is written.
pub(crate) fn notices(object: &ObjectRef, verdict: &Verdict, stored: &StoredObject) -> Vec<Notice> {
    let Some(wanted) = verdict.condition(ConditionType::Retiring) else {
        return Vec::new();
    };
    let before = stored.status.condition(ConditionType::Retiring.as_str());
    let before = before.map_or("", |condition| &condition.message);
    let warnings = verdict.diagnostics.iter();
    // What the condition has no room for would be said again and again.
    let due = warnings
        .filter(|one| one.condition == ConditionType::Retiring && is_known(one, &wanted.message))
        .filter(|one| !is_known(one, before));
    due.map(|one| notice(object, stored, one)).collect()
}

fn notice(object: &ObjectRef, stored: &StoredObject, warning: &Diagnostic) -> Notice {
    let reason: Reason = warning.reason;
    // Without the days that are left: the status may have to be written again tomorrow.
    let subject = warning.message.split(", in ").next();
    let id = Notice::id_of((&stored.uid, reason, subject));
    Notice {
        object: object.clone(),
        uid: stored.uid.clone(),
        reason,
        action: "Compile",
        note: warning.located(),
        id,
    }
}
