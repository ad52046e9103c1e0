//! What is found out about an object, in words.

use std::fmt;

use crds::{ConditionType, Reason};

use crate::object::ObjectRef;

/// How many problems a condition's message spells out; the diagnostics have them all.
const TOLD: usize = 4;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A part of the object, or all of it, isn't in force.
    Error,
    /// The object is in force, but probably not as its author thinks.
    Warning,
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The object.
    pub object: ObjectRef,
    /// How bad it is.
    pub severity: Severity,
    /// The condition that it bears on.
    pub condition: ConditionType,
    /// Why, in one word.
    pub reason: Reason,
    /// Where, for example `spec.rules[0].backendRefs[1].name`; empty for the whole object.
    pub field: String,
    /// What is wrong and how to mend it, in one sentence without a full stop.
    pub message: String,
}

/// One condition of an object, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Which condition.
    pub condition: ConditionType,
    /// Whether it holds.
    pub holds: bool,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, and what to do, for people. Empty if there is nothing to say.
    pub message: String,
}

/// Everything that was found out about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The generation that was judged; 0 if unknown.
    pub generation: i64,
    /// `Accepted`, and for backends and routes `ResolvedRefs`. `Accepted` holds with reason
    /// `PartiallyInvalid` if a part of the object was left out.
    pub conditions: Vec<Judgement>,
    /// What is wrong, in the order in which it was found.
    pub diagnostics: Vec<Diagnostic>,
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
        write!(f, "{}: {} {}: ", self.severity, self.object, self.reason)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

// === impl Verdict ===

impl Verdict {
    /// The judgement of this condition.
    #[must_use]
    pub fn condition(&self, condition: ConditionType) -> Option<&Judgement> {
        self.conditions.iter().find(|j| j.condition == condition)
    }
}

/// Collects what is wrong with one object.
#[derive(Debug)]
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

    /// A reference that leads nowhere.
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

    /// The first error that bears on `condition`.
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

    /// Judges `conditions` by what was found. `partial`: a part of the object was left out.
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
                message: tell(self.errors(condition)),
            },
            None => self.holding(condition, partial),
        };
        Verdict {
            generation,
            conditions: conditions.iter().map(judge).collect(),
            diagnostics: self.diagnostics,
        }
    }

    fn holding(&self, condition: ConditionType, partial: bool) -> Judgement {
        let accepted = condition == ConditionType::Accepted;
        let (reason, message) = if accepted && partial {
            let left_out = self
                .diagnostics
                .iter()
                .filter(|d| d.severity == Severity::Error || d.reason == Reason::PartiallyInvalid);
            (Reason::PartiallyInvalid, tell(left_out))
        } else {
            let own = self.diagnostics.iter().filter(|d| d.condition == condition);
            let reason = if accepted {
                Reason::Accepted
            } else {
                Reason::ResolvedRefs
            };
            (reason, tell(own))
        };
        Judgement {
            condition,
            holds: true,
            reason,
            message,
        }
    }
}

fn tell<'a>(diagnostics: impl Iterator<Item = &'a Diagnostic>) -> String {
    let mut told = String::new();
    let mut count = 0usize;
    for diagnostic in diagnostics {
        count = count.saturating_add(1);
        if count > TOLD {
            continue;
        }
        if count > 1 {
            told.push_str("; ");
        }
        if !diagnostic.field.is_empty() {
            told.push_str(&diagnostic.field);
            told.push_str(": ");
        }
        told.push_str(&diagnostic.message);
    }
    if count > TOLD {
        told.push_str(&format!("; and {} more", count.saturating_sub(TOLD)));
    }
    told
}

#[cfg(test)]
mod tests;
