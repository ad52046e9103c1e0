//! Conditions, and the one list of their words.
//!
//! The words are API: alerts and scripts compare them. A word is added, never renamed.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

// `type` and `reason` are text, not ConditionType and Reason, so that an object whose status a
// newer operator wrote can still be read.
/// One aspect of an object's state, as the operator last saw it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The aspect: Accepted, ResolvedRefs, Retiring, Programmed, Ready, Reconciling, Stalled or
    /// StoreUnavailable.
    #[serde(rename = "type")]
    #[schemars(
        length(min = 1, max = 316),
        regex(
            pattern = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
        )
    )]
    pub type_: String,
    /// Whether it holds: True, False, or Unknown before it was judged.
    pub status: ConditionStatus,
    /// The generation of the object that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0))]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// The reason, one word that programs may compare.
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    )]
    pub reason: String,
    /// An explanation for a reader, with the fix.
    #[schemars(length(max = 32768))]
    pub message: String,
}

/// Whether a condition holds.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It was not judged yet, or could not be.
    #[default]
    Unknown,
}

/// The aspects that the operator reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// Enough of the object is valid to take it into the table.
    Accepted,
    /// Every reference can be resolved and is permitted.
    ResolvedRefs,
    /// Present and True only from 90 days before a deployment of the AIBackend retires on.
    Retiring,
    /// The proxies have acknowledged a table that contains this generation.
    Programmed,
    /// The summary: all of the above hold. `kubectl wait` and GitOps tools use it.
    Ready,
    /// Present and True only while the object waits for another one, such as a Secret that it names.
    Reconciling,
    /// Present and True only while the object needs a fix by a person.
    Stalled,
    /// Present and True only while a proxy does not reach the shared store of counters.
    StoreUnavailable,
    /// Of a listener: another one takes the same requests.
    Conflicted,
    /// Of a GatewayClass: the installed Gateway API is one that the operator knows.
    SupportedVersion,
}

/// Why a condition has its status. Closed: one list for status, events, logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Accepted=True.
    Accepted,
    /// Accepted=False: the object contradicts itself or breaks a bound.
    Invalid,
    /// Accepted=False: an older object already has the same host and match.
    Conflicted,
    /// Accepted=False: anonymous or passThrough on a host that is not granted to the namespace.
    HostNotGranted,
    /// Accepted=False: the gateway's own identity is not granted to the namespace.
    IdentityNotGranted,
    /// Accepted=False: the installation allows no backend at this host.
    HostNotAllowed,
    /// Accepted=False: a value that this version of the operator doesn't know.
    UnsupportedValue,
    /// Accepted=False: a quota's target doesn't exist.
    TargetNotFound,
    /// Accepted=False: no listener of the Gateway allows routes of the namespace.
    NotAllowedByListeners,
    /// Accepted=False: there is no such Gateway, or it has no such listener.
    NoMatchingParent,
    /// Accepted=False: no host of the route is one of the listener's.
    NoMatchingListenerHostname,
    /// Accepted=False: the listeners of the Gateway are not served.
    NoReadyListeners,
    /// Of a Gateway: some listener is not served.
    ListenersNotValid,
    /// Of a Gateway, Accepted=False: it asks for addresses of its own.
    UnsupportedAddress,
    /// Of a Gateway or its class, Accepted=False: it names parameters, and none are known.
    InvalidParameters,
    /// Of a Gateway, Programmed=False: the Service of the proxies has no address.
    AddressNotAssigned,
    /// Of a listener, Accepted=False: the proxies do not serve the port.
    PortUnavailable,
    /// Of a listener, Accepted=False: the proxies do not serve the protocol.
    UnsupportedProtocol,
    /// Of a listener, ResolvedRefs=False: the certificate is none that the proxies have.
    InvalidCertificateRef,
    /// Of a listener, ResolvedRefs=False: it allows routes that are no AIRoutes.
    InvalidRouteKinds,
    /// Of a listener, Conflicted=True: another has the same port and host.
    HostnameConflict,
    /// Of a listener, Conflicted=False.
    NoConflicts,
    /// Of a GatewayClass, SupportedVersion=True.
    SupportedVersion,
    /// Of a GatewayClass, SupportedVersion=False: the installed Gateway API is not known.
    UnsupportedVersion,
    /// Accepted=False: a quota limits cost, and a deployment that it reaches has no price.
    PriceMissing,
    /// Accepted=True, but the certificate of the backend is not checked.
    VerificationSkipped,
    /// Accepted=True, but a part of the object was left out.
    PartiallyInvalid,
    /// ResolvedRefs=True.
    ResolvedRefs,
    /// ResolvedRefs=False: no ReferenceGrant permits it, whether or not the target exists.
    RefNotPermitted,
    /// ResolvedRefs=False: the AIBackend doesn't exist.
    BackendNotFound,
    /// ResolvedRefs=False: the AIBackend exists, but has no such deployment.
    DeploymentNotFound,
    /// ResolvedRefs=False: the Secret doesn't exist.
    SecretNotFound,
    /// ResolvedRefs=False: the Secret exists, but has no such key.
    SecretKeyMissing,
    /// Retiring=True: the next deployment retires within 90 days.
    RetiresWithinQuarter,
    /// Retiring=True: the next deployment retires within 30 days.
    RetiresWithinMonth,
    /// Retiring=True: the next deployment retires within 7 days.
    RetiresWithinWeek,
    /// Retiring=True: the date of a deployment has come.
    Retired,
    /// Programmed=True.
    Programmed,
    /// Programmed=False: published, and not yet acknowledged by every proxy.
    ProxiesBehind,
    /// Programmed=False: a proxy refused the table and keeps serving its last good one.
    Rejected,
    /// Ready=True.
    Ready,
    /// Ready=True, but a person should read the message.
    HasWarnings,
    /// Ready=False: a proxy has no token of Entra for the AIBackend.
    NoToken,
    /// Ready=False: the AIBackend refuses the gateway's credential, at every deployment.
    CredentialRefused,
    /// Ready=False: no deployment of the AIBackend that a rule uses is there.
    NotThere,
    /// Ready=False: the installation allows no backend at the address of the AIBackend.
    OutOfReach,
    /// Ready=False: every deployment of the AIBackend that a rule uses fails.
    Failing,
    /// Ready=False: calls wait for the AIBackend, and no byte comes.
    Silent,
    /// Programmed=False: the object is not in the table.
    NotReady,
    /// Programmed=False: no proxy is connected. Ready=Unknown: no operator has seen the object yet.
    Pending,
    /// StoreUnavailable=True: each limit does what `onStoreLoss` says.
    StoreUnavailable,
    /// Of an Event alone: a counter of a quota has reached a level of `warnAt`.
    QuotaWarning,
    /// Of an Event alone: the key in a Secret admits no caller.
    KeyUnusable,
}

// === impl ConditionStatus ===

impl ConditionStatus {
    /// The word in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

// === impl ConditionType ===

impl ConditionType {
    /// Every type, in the order in which a status lists them.
    pub const ALL: [Self; 10] = [
        Self::Accepted,
        Self::ResolvedRefs,
        Self::Retiring,
        Self::Programmed,
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
        Self::StoreUnavailable,
        Self::Conflicted,
        Self::SupportedVersion,
    ];

    /// The word in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Retiring => "Retiring",
            Self::Programmed => "Programmed",
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::StoreUnavailable => "StoreUnavailable",
            Self::Conflicted => "Conflicted",
            Self::SupportedVersion => "SupportedVersion",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Reason ===

impl Reason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 53] = [
        Self::Accepted,
        Self::Invalid,
        Self::Conflicted,
        Self::HostNotGranted,
        Self::IdentityNotGranted,
        Self::HostNotAllowed,
        Self::UnsupportedValue,
        Self::TargetNotFound,
        Self::NotAllowedByListeners,
        Self::NoMatchingParent,
        Self::NoMatchingListenerHostname,
        Self::NoReadyListeners,
        Self::ListenersNotValid,
        Self::UnsupportedAddress,
        Self::InvalidParameters,
        Self::AddressNotAssigned,
        Self::PortUnavailable,
        Self::UnsupportedProtocol,
        Self::InvalidCertificateRef,
        Self::InvalidRouteKinds,
        Self::HostnameConflict,
        Self::NoConflicts,
        Self::SupportedVersion,
        Self::UnsupportedVersion,
        Self::PriceMissing,
        Self::VerificationSkipped,
        Self::PartiallyInvalid,
        Self::ResolvedRefs,
        Self::RefNotPermitted,
        Self::BackendNotFound,
        Self::DeploymentNotFound,
        Self::SecretNotFound,
        Self::SecretKeyMissing,
        Self::RetiresWithinQuarter,
        Self::RetiresWithinMonth,
        Self::RetiresWithinWeek,
        Self::Retired,
        Self::Programmed,
        Self::ProxiesBehind,
        Self::Rejected,
        Self::Ready,
        Self::HasWarnings,
        Self::NoToken,
        Self::CredentialRefused,
        Self::NotThere,
        Self::OutOfReach,
        Self::Failing,
        Self::Silent,
        Self::NotReady,
        Self::Pending,
        Self::StoreUnavailable,
        Self::QuotaWarning,
        Self::KeyUnusable,
    ];

    /// The word in the status, the event, the log and the metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Invalid => "Invalid",
            Self::Conflicted => "Conflicted",
            Self::HostNotGranted => "HostNotGranted",
            Self::IdentityNotGranted => "IdentityNotGranted",
            Self::HostNotAllowed => "HostNotAllowed",
            Self::UnsupportedValue => "UnsupportedValue",
            Self::TargetNotFound => "TargetNotFound",
            Self::NotAllowedByListeners => "NotAllowedByListeners",
            Self::NoMatchingParent => "NoMatchingParent",
            Self::NoMatchingListenerHostname => "NoMatchingListenerHostname",
            Self::NoReadyListeners => "NoReadyListeners",
            Self::ListenersNotValid => "ListenersNotValid",
            Self::UnsupportedAddress => "UnsupportedAddress",
            Self::InvalidParameters => "InvalidParameters",
            Self::AddressNotAssigned => "AddressNotAssigned",
            Self::PortUnavailable => "PortUnavailable",
            Self::UnsupportedProtocol => "UnsupportedProtocol",
            Self::InvalidCertificateRef => "InvalidCertificateRef",
            Self::InvalidRouteKinds => "InvalidRouteKinds",
            Self::HostnameConflict => "HostnameConflict",
            Self::NoConflicts => "NoConflicts",
            Self::SupportedVersion => "SupportedVersion",
            Self::UnsupportedVersion => "UnsupportedVersion",
            Self::PriceMissing => "PriceMissing",
            Self::VerificationSkipped => "VerificationSkipped",
            Self::PartiallyInvalid => "PartiallyInvalid",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::RefNotPermitted => "RefNotPermitted",
            Self::BackendNotFound => "BackendNotFound",
            Self::DeploymentNotFound => "DeploymentNotFound",
            Self::SecretNotFound => "SecretNotFound",
            Self::SecretKeyMissing => "SecretKeyMissing",
            Self::RetiresWithinQuarter => "RetiresWithinQuarter",
            Self::RetiresWithinMonth => "RetiresWithinMonth",
            Self::RetiresWithinWeek => "RetiresWithinWeek",
            Self::Retired => "Retired",
            Self::Programmed => "Programmed",
            Self::ProxiesBehind => "ProxiesBehind",
            Self::Rejected => "Rejected",
            Self::Ready => "Ready",
            Self::HasWarnings => "HasWarnings",
            Self::NoToken => "NoToken",
            Self::CredentialRefused => "CredentialRefused",
            Self::NotThere => "NotThere",
            Self::OutOfReach => "OutOfReach",
            Self::Failing => "Failing",
            Self::Silent => "Silent",
            Self::NotReady => "NotReady",
            Self::Pending => "Pending",
            Self::StoreUnavailable => "StoreUnavailable",
            Self::QuotaWarning => "QuotaWarning",
            Self::KeyUnusable => "KeyUnusable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
