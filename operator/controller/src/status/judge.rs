//! The status that an object should have. Pure.

use crds::{Condition, ConditionStatus, ConditionType, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use operator_compile::{Kind, ObjectRef, Severity, Verdict};
use operator_publish::{Fleet, Replica};
use proxy_core::names::{EntryName, ObjectName};
use serde_json::{Value, json};

use super::parents::{self, WantedParent};
use super::service::Service;
use crate::stored_status::{StoredObject, StoredStatus};
use crate::text::cut;

/// Longest stored message, in bytes. The schema allows 32 KiB, which is more than anybody reads.
const MESSAGE: usize = 4_096;

/// Longest part of a proxy's error in a message, in bytes: enough for its first sentences.
const REFUSAL: usize = 512;

/// The fleet's progress with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// Whether the published table has an entry for it.
    published: bool,
    /// Replicas that serve its present form.
    have: usize,
    /// Replicas that should be there.
    of: usize,
    /// What is known of a replica that does not have it and is silent.
    silent: Option<String>,
    /// A replica that refused it, and its error.
    refused: Option<(String, String)>,
    /// A replica that cannot enforce it, and the features that it lacks.
    lacking: Option<(String, String)>,
    /// A replica does not reach the shared store of counters.
    store_lost: bool,
}

/// What the fleet says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// How far it is with an AIRoute or an AIQuota.
    Progress(Acknowledged),
    /// How an AIBackend serves, and why a proxy has no token for it, if one has none.
    Service(Service, Option<String>),
    /// Nothing.
    Nothing,
}

/// A status to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    generation: i64,
    conditions: Vec<Draft>,
    /// `all` or `k/n`, for the kinds that have the field.
    programmed: Option<String>,
    /// `k/n serving`, for an AIBackend.
    deployments: Option<String>,
    /// What the Gateways of a route say.
    parents: Vec<WantedParent>,
}

/// A condition without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Draft {
    condition: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: String,
}

// === impl Heard ===

impl Heard {
    /// That a backend serves so, and whether some proxy has no token for it. Without the name of the proxy: each
    /// that comes and goes would be another write.
    pub(crate) fn of_backend(name: &ObjectName, service: Service, fleet: &Fleet) -> Self {
        let mut reasons = fleet.replicas.iter();
        let reason = reasons.find_map(|replica| replica.tokenless.get(name));
        let no_token = reason.map(|reason| {
            let reason = cut(reason, REFUSAL);
            format!("a proxy has no token of Entra to show to the backend: {reason}")
        });
        Self::Service(service, no_token)
    }
}

// === impl Acknowledged ===

impl Acknowledged {
    /// Counts the replicas that applied the publication of `sequence` or a newer one, and that support
    /// everything that `entry` needs.
    pub(crate) fn count(entry: &EntryName, sequence: Option<u64>, fleet: &Fleet) -> Self {
        let Some(sequence) = sequence else {
            return Self {
                published: false,
                have: 0,
                of: fleet.replicas.len(),
                silent: None,
                refused: None,
                lacking: None,
                store_lost: false,
            };
        };
        let applied = |replica: &Replica| replica.acked.is_some_and(|acked| acked >= sequence);
        let supports = |replica: &Replica| !replica.unsupported.contains_key(entry);
        let behind = fleet.replicas.iter().filter(|one| !applied(one));
        let silent = silence(behind.clone());
        let mut refusals = behind.filter_map(|replica| {
            let (at, error) = replica.refused.as_ref()?;
            (*at >= sequence).then(|| (replica.name().to_owned(), cut(error, REFUSAL)))
        });
        let mut current = fleet.replicas.iter().filter(|one| applied(one));
        let have = current.clone().filter(|one| supports(one)).count();
        let lacking = current.find_map(|replica| {
            let features = replica.unsupported.get(entry)?.join(", ");
            Some((replica.name().to_owned(), cut(&features, REFUSAL)))
        });
        Self {
            published: true,
            have,
            of: fleet.replicas.len(),
            silent,
            refused: refusals.next(),
            lacking,
            store_lost: fleet.replicas.iter().any(|one| one.store_lost),
        }
    }

    /// `all`, else `k/n`.
    fn share(&self) -> String {
        let Self { have, of, .. } = self;
        if self.published && have == of && *of > 0 {
            "all".to_owned()
        } else {
            format!("{have}/{of}")
        }
    }

    fn draft(&self) -> Draft {
        let Self { have, of, .. } = self;
        let (holds, reason, message) = match (&self.refused, &self.lacking) {
            _ if !self.published => (
                false,
                Reason::NotReady,
                "the object is not in the table; see Accepted".to_owned(),
            ),
            _ if *of == 0 => (false, Reason::Pending, "no proxy is connected".to_owned()),
            (Some((replica, error)), _) => (
                false,
                Reason::Rejected,
                format!("proxy {replica} refused the table and keeps its last good one: {error}"),
            ),
            (None, Some((replica, features))) => (
                false,
                Reason::ProxiesBehind,
                format!(
                    "in force on {have} of {of} proxies; proxy {replica} is too old for {features} \
                     and refuses the requests that need it"
                ),
            ),
            (None, None) if have < of => {
                let silent = self.silent.as_ref();
                let silent = silent.map_or_else(String::new, |silent| format!("; {silent}"));
                (
                    false,
                    Reason::ProxiesBehind,
                    format!("in force on {have} of {of} proxies{silent}"),
                )
            }
            // Without their number: each arrival and departure would be another write of every object.
            (None, None) => (
                true,
                Reason::Programmed,
                "in force on every proxy".to_owned(),
            ),
        };
        Draft {
            condition: ConditionType::Programmed,
            status: holds.into(),
            reason,
            message,
        }
    }
}

// === impl Wanted ===

impl Wanted {
    pub(crate) fn new(object: &ObjectRef, verdict: &Verdict, heard: &Heard) -> Self {
        let (acknowledged, service, no_token) = match heard {
            Heard::Progress(acknowledged) => (Some(acknowledged), None, None),
            Heard::Service(service, no_token) => (None, Some(service), no_token.as_ref()),
            Heard::Nothing => (None, None, None),
        };
        let no_token = no_token.map(|why| (Reason::NoToken, why.clone()));
        let of_no_use = no_token.or_else(|| service.and_then(|one| one.outage.clone()));
        let judged = verdict.conditions.iter().map(|judgement| Draft {
            condition: judgement.condition,
            status: judgement.holds.into(),
            reason: judgement.reason,
            message: cut(&judgement.message, MESSAGE),
        });
        let mut conditions: Vec<Draft> = judged.collect();
        let sound = conditions.iter().all(Draft::holds);
        conditions.extend(acknowledged.map(Acknowledged::draft));
        conditions.push(ready(&conditions, of_no_use));
        // An object that works in part neither waits nor is stalled.
        if !sound {
            conditions.extend(obstacle(verdict));
        }
        // Without the number of proxies: each arrival and departure would be another write.
        if object.kind == Kind::AiQuota && acknowledged.is_some_and(|fleet| fleet.store_lost) {
            conditions.push(Draft {
                condition: ConditionType::StoreUnavailable,
                status: ConditionStatus::True,
                reason: Reason::StoreUnavailable,
                message:
                    "a proxy does not reach the shared store of counters; until it does, each \
                          limit there does what onStoreLoss says"
                        .to_owned(),
            });
        }
        let programmed = acknowledged.map(Acknowledged::share);
        Self {
            generation: verdict.generation,
            conditions,
            programmed,
            deployments: service.map(|service| service.deployments.clone()),
            parents: verdict.parents.iter().map(WantedParent::new).collect(),
        }
    }

    /// Keeps a stored `Programmed=True` of this generation while some replicas have not subscribed
    /// yet.
    pub(crate) fn keep_programmed(&mut self, stored: &StoredStatus) {
        let was = stored.condition(ConditionType::Programmed.as_str());
        let Some(was) = was.filter(|was| {
            was.status == ConditionStatus::True && was.observed_generation == Some(self.generation)
        }) else {
            return;
        };
        let mut drafts = self.conditions.iter_mut();
        let draft = drafts.find(|draft| {
            draft.condition == ConditionType::Programmed
                && matches!(draft.reason, Reason::Pending | Reason::ProxiesBehind)
        });
        let Some(draft) = draft else { return };
        draft.status = ConditionStatus::True;
        draft.reason = Reason::Programmed;
        draft.message.clone_from(&was.message);
        self.programmed = Some(stored.programmed.clone());
        self.conditions
            .retain(|draft| draft.condition != ConditionType::Ready);
        let mut drafts = self.conditions.iter();
        let obstacle = drafts.position(|draft| draft.condition > ConditionType::Ready);
        let at = obstacle.unwrap_or(self.conditions.len());
        let of = self.conditions.get(..at).unwrap_or_default();
        let ready = ready(of, None);
        self.conditions.insert(at, ready);
    }

    /// Whether anything but a time differs from the stored status.
    pub(crate) fn differs(&self, stored: &StoredStatus) -> bool {
        let same = |draft: &Draft| {
            stored
                .condition(draft.condition.as_str())
                .is_some_and(|one| {
                    one.status == draft.status
                        && one.reason == draft.reason.as_str()
                        && one.message == draft.message
                        && one.observed_generation == Some(self.generation)
                })
        };
        let left_over = ConditionType::ALL.iter().any(|condition| {
            stored.condition(condition.as_str()).is_some()
                && self
                    .conditions
                    .iter()
                    .all(|draft| draft.condition != *condition)
        });
        let (programmed, deployments) = (self.programmed.as_ref(), self.deployments.as_ref());
        stored.observed_generation != Some(self.generation)
            || left_over
            || !self.conditions.iter().all(same)
            || programmed.is_some_and(|wanted| *wanted != stored.programmed)
            || deployments.is_some_and(|wanted| *wanted != stored.deployments)
            || parents::differ(&self.parents, &stored.parents, self.generation)
    }

    /// The patch that stores it. Only a condition whose status flipped gets a new time.
    pub(crate) fn patch(&self, object: &ObjectRef, before: &StoredObject, now_ms: i64) -> Value {
        // Whole seconds, as is the custom in Kubernetes.
        let now = Timestamp::from_second(now_ms.div_euclid(1_000)).unwrap_or_default();
        let conditions: Vec<Condition> = self
            .conditions
            .iter()
            .map(|draft| {
                let stored = before.status.condition(draft.condition.as_str());
                let kept = stored.filter(|stored| stored.status == draft.status);
                Condition {
                    type_: draft.condition.as_str().to_owned(),
                    status: draft.status,
                    observed_generation: Some(self.generation),
                    last_transition_time: kept
                        .map_or(Time(now), |stored| stored.last_transition_time.clone()),
                    reason: draft.reason.as_str().to_owned(),
                    message: draft.message.clone(),
                }
            })
            .collect();
        let mut status = json!({
            "observedGeneration": self.generation,
            "conditions": conditions,
        });
        let texts = [
            ("programmed", &self.programmed),
            ("deployments", &self.deployments),
        ];
        for (field, text) in texts {
            let text = text.as_ref().filter(|text| !text.is_empty());
            if let (Some(text), Some(fields)) = (text, status.as_object_mut()) {
                fields.insert(field.to_owned(), Value::from(text.as_str()));
            }
        }
        if let (false, Some(fields)) = (self.parents.is_empty(), status.as_object_mut()) {
            let stored = &before.status.parents;
            let parents = parents::stored(&self.parents, stored, self.generation, now);
            fields.insert("parents".to_owned(), json!(parents));
        }
        json!({
            "apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION),
            "kind": object.kind.as_str(),
            // With the uid the write cannot hit a new object of the same name.
            "metadata": {
                "name": object.name.name(),
                "namespace": object.name.namespace(),
                "uid": before.uid,
            },
            "status": status,
        })
    }
}

/// What people have to know of silent replicas. The time does not move, or each second would be a write.
fn silence<'a>(behind: impl Iterator<Item = &'a Replica>) -> Option<String> {
    let mut silent = behind.filter_map(|one| Some((one.silent_since_ms?, one.name())));
    let (since_ms, name) = silent.next()?;
    let since = Timestamp::from_second(since_ms.div_euclid(1_000)).unwrap_or_default();
    let others = match silent.count() {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    Some(format!("proxy {name}{others} silent since {since}"))
}

// === impl Draft ===

impl Draft {
    fn holds(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// What an object that is not in order waits for: another object, or a person. Tools that deploy give up on
/// what is stalled, so that is only what no other object can mend.
fn obstacle(verdict: &Verdict) -> Option<Draft> {
    let errors = || {
        let found = verdict.diagnostics.iter();
        found.filter(|found| found.severity == Severity::Error)
    };
    let lasting = errors().find(|error| !waits_for_others(error.reason));
    let (condition, error) = match lasting {
        Some(error) => (ConditionType::Stalled, error),
        None => (ConditionType::Reconciling, errors().next()?),
    };
    Some(Draft {
        condition,
        status: ConditionStatus::True,
        reason: error.reason,
        message: cut(&error.located(), MESSAGE),
    })
}

/// Whether another object that is applied or changed later can mend it.
fn waits_for_others(reason: Reason) -> bool {
    match reason {
        Reason::TargetNotFound
        | Reason::NoMatchingParent
        | Reason::NoReadyListeners
        | Reason::NotAllowedByListeners
        | Reason::PriceMissing
        | Reason::RefNotPermitted
        | Reason::BackendNotFound
        | Reason::DeploymentNotFound
        | Reason::SecretNotFound
        | Reason::SecretKeyMissing => true,
        Reason::Accepted
        | Reason::Invalid
        | Reason::Conflicted
        | Reason::HostNotGranted
        | Reason::IdentityNotGranted
        | Reason::HostNotAllowed
        | Reason::UnsupportedValue
        | Reason::NoMatchingListenerHostname
        | Reason::ListenersNotValid
        | Reason::UnsupportedAddress
        | Reason::InvalidParameters
        | Reason::AddressNotAssigned
        | Reason::PortUnavailable
        | Reason::UnsupportedProtocol
        | Reason::InvalidCertificateRef
        | Reason::InvalidRouteKinds
        | Reason::HostnameConflict
        | Reason::NoConflicts
        | Reason::SupportedVersion
        | Reason::UnsupportedVersion
        | Reason::VerificationSkipped
        | Reason::PartiallyInvalid
        | Reason::ResolvedRefs
        | Reason::RetiresWithinQuarter
        | Reason::RetiresWithinMonth
        | Reason::RetiresWithinWeek
        | Reason::Retired
        | Reason::Programmed
        | Reason::ProxiesBehind
        | Reason::Rejected
        | Reason::Ready
        | Reason::HasWarnings
        | Reason::NoToken
        | Reason::CredentialRefused
        | Reason::NotThere
        | Reason::OutOfReach
        | Reason::Failing
        | Reason::Silent
        | Reason::NotReady
        | Reason::Pending
        | Reason::StoreUnavailable
        | Reason::QuotaWarning
        | Reason::KeyUnusable => false,
    }
}

/// The summary of `conditions`, and of what keeps an object that is in order from being of use. Columns show
/// its reason and message, so it takes those of the condition that says most.
fn ready(conditions: &[Draft], of_no_use: Option<(Reason, String)>) -> Draft {
    let failing = conditions.iter().find(|draft| !draft.holds());
    let (holds, reason, message) = match (failing, of_no_use) {
        (Some(draft), _) => {
            let message = format!("{}: {}", draft.condition, draft.message);
            (false, draft.reason, cut(&message, MESSAGE))
        }
        (None, Some((reason, message))) => (false, reason, message),
        (None, None) => {
            let warning = conditions.iter().find_map(warning);
            let (reason, message) =
                warning.unwrap_or_else(|| (Reason::Ready, "the object is in force".to_owned()));
            (true, reason, message)
        }
    };
    Draft {
        condition: ConditionType::Ready,
        status: holds.into(),
        reason,
        message,
    }
}

/// What a person should know of an object that is in force.
fn warning(draft: &Draft) -> Option<(Reason, String)> {
    let is_plain = matches!(draft.reason, Reason::Accepted | Reason::ResolvedRefs);
    let reason = match draft.condition {
        ConditionType::Accepted | ConditionType::ResolvedRefs if is_plain => {
            if draft.message.is_empty() {
                return None;
            }
            Reason::HasWarnings
        }
        ConditionType::Accepted | ConditionType::ResolvedRefs => draft.reason,
        ConditionType::Retiring => draft.reason,
        ConditionType::Programmed
        | ConditionType::Ready
        | ConditionType::Reconciling
        | ConditionType::Stalled
        | ConditionType::StoreUnavailable
        | ConditionType::Conflicted
        | ConditionType::SupportedVersion => return None,
    };
    Some((reason, draft.message.clone()))
}
