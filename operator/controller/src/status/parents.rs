//! What the Gateways of a route say of it, in its status. Pure.

use crds::{Condition, RouteParentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use operator_compile::gateway::CONTROLLER_NAME;
use operator_compile::{Judgement, ParentVerdict};

use crate::text::cut;

#[cfg(test)]
mod tests;

/// Longest stored message, in bytes: the fix comes first.
const MESSAGE: usize = 1_024;

/// What one Gateway says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedParent {
    parent: crds::ParentRef,
    conditions: Vec<Judgement>,
}

// === impl WantedParent ===

impl WantedParent {
    pub(crate) fn new(verdict: &ParentVerdict) -> Self {
        let cut = |one: &Judgement| Judgement {
            message: cut(&one.message, MESSAGE),
            ..one.clone()
        };
        Self {
            parent: verdict.parent.clone(),
            conditions: verdict.conditions.iter().map(cut).collect(),
        }
    }
}

/// Whether anything but a time differs from what is stored.
pub(crate) fn differ(
    wanted: &[WantedParent],
    stored: &[RouteParentStatus],
    generation: i64,
) -> bool {
    let same = |(wanted, stored): (&WantedParent, &RouteParentStatus)| {
        wanted.parent == stored.parent_ref
            && stored.controller_name == CONTROLLER_NAME
            && are_stored(&wanted.conditions, &stored.conditions, generation)
    };
    wanted.len() != stored.len() || !wanted.iter().zip(stored).all(same)
}

/// What is stored then.
pub(crate) fn stored(
    wanted: &[WantedParent],
    before: &[RouteParentStatus],
    generation: i64,
    now: Timestamp,
) -> Vec<RouteParentStatus> {
    let stored = |one: &WantedParent| {
        let mut before = before.iter();
        let before = before.find(|before| before.parent_ref == one.parent);
        let before = before.map_or(&[][..], |before| &before.conditions);
        RouteParentStatus {
            parent_ref: one.parent.clone(),
            controller_name: CONTROLLER_NAME.to_owned(),
            conditions: conditions(&one.conditions, before, generation, now),
        }
    };
    wanted.iter().map(stored).collect()
}

/// Whether these conditions are stored. Others may be another controller's.
pub(crate) fn are_stored(wanted: &[Judgement], stored: &[Condition], generation: i64) -> bool {
    let same = |one: &Judgement| {
        let mut stored = stored.iter();
        let stored = stored.find(|stored| stored.type_ == one.condition.as_str());
        stored.is_some_and(|stored| {
            stored.status == one.holds.into()
                && stored.reason == one.reason.as_str()
                && stored.message == one.message
                && stored.observed_generation == Some(generation)
        })
    };
    wanted.iter().all(same)
}

/// Conditions as they are stored. Only one whose status flipped gets a new time.
pub(crate) fn conditions(
    wanted: &[Judgement],
    before: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |one: &Judgement| {
        let mut before = before.iter();
        let kept = before
            .find(|stored| {
                stored.type_ == one.condition.as_str() && stored.status == one.holds.into()
            })
            .map(|stored| stored.last_transition_time.clone());
        Condition {
            type_: one.condition.as_str().to_owned(),
            status: one.holds.into(),
            observed_generation: Some(generation),
            last_transition_time: kept.unwrap_or(Time(now)),
            reason: one.reason.as_str().to_owned(),
            message: one.message.clone(),
        }
    };
    wanted.iter().map(condition).collect()
}
