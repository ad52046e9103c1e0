//! Problems of objects, and the conditions that follow from them.

use std::fmt;

use crds::{ConditionType, ParentRef, Reason};
use proxy_core::names::ObjectName;

use crate::object::ObjectRef;

/// Most problems in the message of a condition. More would not be read; the diagnostics have all.
const LISTED: usize = 4;

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A part of the object, or all of it, has no effect.
    Error,
    /// The object has an effect, but probably not the intended one.
    Warning,
}

/// One problem of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The object that has it.
    pub object: ObjectRef,
    /// Its severity.
    pub severity: Severity,
    /// The condition that it affects.
    pub condition: ConditionType,
    /// The reason word.
    pub reason: Reason,
    /// The place, for example `spec.rules[0].backendRefs[1].name`; empty for the whole object.
    pub field: String,
    /// The problem and its fix, in one sentence without a full stop.
    pub message: String,
}

/// One condition of an object, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The condition.
    pub condition: ConditionType,
    /// Whether it holds.
    pub holds: bool,
    /// The reason word.
    pub reason: Reason,
    /// The explanation and the fix. May be empty.
    pub message: String,
}

/// The result of the validation of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The generation that was judged; 0 if unknown.
    pub generation: i64,
    /// `Accepted`, and for backends and routes `ResolvedRefs`. `Accepted` holds with reason
    /// `PartiallyInvalid` if a part of the object was left out.
    pub conditions: Vec<Judgement>,
    /// Its problems, in the order in which they were found.
    pub diagnostics: Vec<Diagnostic>,
    /// Of a route: what each of its Gateways says, in the order of `parentRefs`.
    pub parents: Vec<ParentVerdict>,
}

/// What a Gateway says of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentVerdict {
    /// The Gateway, as the route names it.
    pub parent: ParentRef,
    /// The Gateway.
    pub gateway: ObjectName,
    /// The listeners to which the route is attached.
    pub listeners: Vec<String>,
    /// `Accepted` and `ResolvedRefs`.
    pub conditions: Vec<Judgement>,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            severity,
            object,
            reason,
            ..
        } = self;
        write!(f, "{severity}: {object} {reason}: {}", self.located())
    }
}

// === impl Diagnostic ===

impl Diagnostic {
    /// The message after its field, if it has one.
    #[must_use]
    pub fn located(&self) -> String {
        if self.field.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.field, self.message)
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// The judgement on this condition.
    #[must_use]
    pub fn condition(&self, condition: ConditionType) -> Option<&Judgement> {
        self.conditions.iter().find(|j| j.condition == condition)
    }
}

/// Collects the problems of one object.
#[derive(Clone, Debug)]
pub(crate) struct Findings {
    object: ObjectRef,
    diagnostics: Vec<Diagnostic>,
}

impl Findings {
    pub(crate) const fn new(object: ObjectRef) -> Self {
        Self {
            object,
            diagnostics: Vec::new(),
        }
    }

    /// The object breaks a bound or contradicts itself.
    pub(crate) fn invalid(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.error(ConditionType::Accepted, Reason::Invalid, field, message);
    }

    /// A value that this version does not know.
    pub(crate) fn unsupported(&mut self, field: impl Into<String>, message: impl Into<String>) {
        let reason = Reason::UnsupportedValue;
        self.error(ConditionType::Accepted, reason, field, message);
    }

    /// A reference that cannot be resolved.
    pub(crate) fn unresolved(
        &mut self,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.error(ConditionType::ResolvedRefs, reason, field, message);
    }

    pub(crate) fn error(
        &mut self,
        condition: ConditionType,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.add(
            Severity::Error,
            condition,
            reason,
            field.into(),
            message.into(),
        );
    }

    pub(crate) fn warning(
        &mut self,
        condition: ConditionType,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.add(
            Severity::Warning,
            condition,
            reason,
            field.into(),
            message.into(),
        );
    }

    /// A part of the object has no effect, or hardly the intended one; all of it is accepted.
    pub(crate) fn note(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.warning(ConditionType::Accepted, Reason::Accepted, field, message);
    }

    fn add(
        &mut self,
        severity: Severity,
        condition: ConditionType,
        reason: Reason,
        field: String,
        message: String,
    ) {
        self.diagnostics.push(Diagnostic {
            object: self.object.clone(),
            severity,
            condition,
            reason,
            field,
            message,
        });
    }

    /// The first error that affects `condition`.
    pub(crate) fn first_error(&self, condition: ConditionType) -> Option<&Diagnostic> {
        self.errors(condition).next()
    }

    pub(crate) fn has_errors(&self, condition: ConditionType) -> bool {
        self.first_error(condition).is_some()
    }

    fn errors(&self, condition: ConditionType) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics
            .iter()
            .filter(move |d| d.severity == Severity::Error && d.condition == condition)
    }

    /// Judges `conditions`. `partial`: a part of the object was left out.
    pub(crate) fn verdict(
        self,
        generation: i64,
        conditions: &[ConditionType],
        partial: bool,
    ) -> Verdict {
        let judge = |&condition| match self.first_error(condition) {
            Some(first) => Judgement {
                condition,
                holds: false,
                reason: first.reason,
                message: list(self.errors(condition)),
            },
            None => self.holding(condition, partial),
        };
        Verdict {
            generation,
            conditions: conditions.iter().map(judge).collect(),
            diagnostics: self.diagnostics,
            parents: Vec::new(),
        }
    }

    fn holding(&self, condition: ConditionType, partial: bool) -> Judgement {
        let accepted = condition == ConditionType::Accepted;
        let (reason, message) = if accepted && partial {
            let left_out = self
                .diagnostics
                .iter()
                .filter(|d| d.severity == Severity::Error || d.reason == Reason::PartiallyInvalid);
            (Reason::PartiallyInvalid, list(left_out))
        } else {
            let own = self.diagnostics.iter().filter(|d| d.condition == condition);
            let skips = own.clone().any(|d| d.reason == Reason::VerificationSkipped);
            let reason = match (accepted, skips) {
                (true, true) => Reason::VerificationSkipped,
                (true, false) => Reason::Accepted,
                (false, _) => Reason::ResolvedRefs,
            };
            (reason, list(own))
        };
        Judgement {
            condition,
            holds: true,
            reason,
            message,
        }
    }
}

fn list<'a>(diagnostics: impl Iterator<Item = &'a Diagnostic>) -> String {
    let mut text = String::new();
    let mut count = 0usize;
    for diagnostic in diagnostics {
        count = count.saturating_add(1);
        if count > LISTED {
            continue;
        }
        if count > 1 {
            text.push_str("; ");
        }
        text.push_str(&diagnostic.located());
    }
    if count > LISTED {
        text.push_str(&format!("; and {} more", count.saturating_sub(LISTED)));
    }
    text
}

#[cfg(test)]
mod tests;
