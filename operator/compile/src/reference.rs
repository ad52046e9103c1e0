//! References from a rule to the deployments of backends.
//!
//! The grants of another namespace are checked before any look-up there, so that a route's author
//! cannot find out what exists in it.

use crds::{AiBackendSpec, AuthType, BackendRef, Reason};
use proxy_core::names::ObjectName;
use proxy_core::table::Target;

use crate::backend::Backends;
use crate::bounds::{is_label, is_model, is_subdomain};
use crate::diagnostic::Findings;
use crate::grant::Permissions;

/// Largest weight; the schema has the same bound.
const MAX_WEIGHT: i32 = 1_000_000;
/// Largest priority; the schema has the same bound.
const MAX_PRIORITY: i32 = 15;

/// The facts that resolve references.
pub(crate) struct References<'a> {
    pub(crate) backends: &'a Backends<'a>,
    pub(crate) permissions: &'a Permissions<'a>,
    /// Whether ReferenceGrants exist here.
    pub(crate) grants_served: bool,
}

/// The place of a reference.
pub(crate) struct Place<'a> {
    /// The namespace of the AIRoute.
    pub(crate) namespace: &'a str,
    /// Whether the AIRoute sends its callers' own credentials upstream.
    pub(crate) pass_through: bool,
    /// `spec.rules[i].backendRefs[j]`
    pub(crate) field: String,
}

impl References<'_> {
    /// The target of `reference`; `None` if it cannot be resolved, which `findings` then reports.
    pub(crate) fn resolve(
        &self,
        reference: &BackendRef,
        place: &Place<'_>,
        findings: &mut Findings,
    ) -> Option<Target> {
        let numbers = numbers(reference, place, findings);
        let backend = self.permitted(reference, place, findings)?;
        let spec = self.existing(&backend, reference, place, findings)?;
        credentials_match(spec, place, findings);
        let (weight, priority) = numbers?;
        Some(Target {
            backend,
            deployment: (!reference.deployment.is_empty())
                .then(|| reference.deployment.as_str().into()),
            weight,
            priority,
        })
    }

    fn permitted(
        &self,
        reference: &BackendRef,
        place: &Place<'_>,
        findings: &mut Findings,
    ) -> Option<ObjectName> {
        let namespace = if reference.namespace.is_empty() {
            place.namespace
        } else {
            &reference.namespace
        };
        if !is_subdomain(&reference.name) {
            let message = "must be the name of an AIBackend: lower-case letters, digits, '-', '.'";
            findings.invalid(format!("{}.name", place.field), message);
            return None;
        }
        if !is_label(namespace) {
            let message = "must be the name of a namespace: lower-case letters, digits and '-'";
            findings.invalid(format!("{}.namespace", place.field), message);
            return None;
        }
        let target = ObjectName::new(namespace, reference.name.as_str());
        if namespace == place.namespace {
            return Some(target);
        }
        if self.grants_served && self.permissions.permit(place.namespace, &target) {
            return Some(target);
        }
        let message = if self.grants_served {
            format!(
                "no ReferenceGrant in namespace {namespace} permits it; ask the owner of that \
                 namespace for one from AIRoute in {} to AIBackend",
                place.namespace
            )
        } else {
            "references into other namespaces need the ReferenceGrant kind of Gateway API, which \
             is not installed here; install it, or use an AIBackend of this namespace"
                .to_owned()
        };
        findings.unresolved(
            Reason::RefNotPermitted,
            format!("{}.namespace", place.field),
            message,
        );
        None
    }

    fn existing(
        &self,
        backend: &ObjectName,
        reference: &BackendRef,
        place: &Place<'_>,
        findings: &mut Findings,
    ) -> Option<&AiBackendSpec> {
        let Some(known) = self.backends.find(backend) else {
            let message = format!("AIBackend {backend} does not exist; create it or name another");
            let field = format!("{}.name", place.field);
            findings.unresolved(Reason::BackendNotFound, field, message);
            return None;
        };
        let Some(spec) = known.spec.filter(|_| known.is_usable()) else {
            let message = format!(
                "AIBackend {backend} is in error and can't be used; see its conditions and mend it"
            );
            let field = format!("{}.name", place.field);
            findings.unresolved(Reason::BackendNotFound, field, message);
            return None;
        };
        let wanted = reference.deployment.as_str();
        if wanted.is_empty() || spec.deployments.iter().any(|d| d.name == wanted) {
            return Some(spec);
        }
        let field = format!("{}.deployment", place.field);
        if !is_model(wanted) {
            let message = "must be the name of a deployment: letters, digits and '._:/@+-'";
            findings.invalid(field, message);
            return None;
        }
        let message = if backend.namespace() == place.namespace {
            let names: Vec<&str> = spec.deployments.iter().map(|d| d.name.as_str()).collect();
            format!(
                "AIBackend {backend} has no deployment {wanted:?}; it has {}",
                names.join(", ")
            )
        } else {
            // A status must not show the contents of another namespace.
            format!("AIBackend {backend} has no deployment {wanted:?}; ask its owner for the name")
        };
        findings.unresolved(Reason::DeploymentNotFound, field, message);
        None
    }
}

/// A caller's credential goes upstream exactly where both the route and the backend say so:
/// otherwise the backend would see a key of the gateway, or the gateway's own credential would
/// serve unauthenticated callers.
fn credentials_match(spec: &AiBackendSpec, place: &Place<'_>, findings: &mut Findings) {
    let backend_passes = spec.auth.type_ == AuthType::PassThrough;
    let message = match (place.pass_through, backend_passes) {
        (true, false) => {
            "a route with authentication.passThrough needs backends with auth.type PassThrough, or \
             callers whom nobody judged would use the gateway's own credential; change one of them"
        }
        (false, true) => {
            "a backend with auth.type PassThrough needs a route with authentication.passThrough, or \
             the gateway's keys would be sent upstream; change one of them"
        }
        (true, true) | (false, false) => return,
    };
    findings.invalid(format!("{}.name", place.field), message);
}

fn numbers(
    reference: &BackendRef,
    place: &Place<'_>,
    findings: &mut Findings,
) -> Option<(u32, u8)> {
    let weight = u32::try_from(reference.weight).ok();
    let weight = weight.filter(|_| reference.weight <= MAX_WEIGHT);
    if weight.is_none() {
        let message = format!("must be 0 to {MAX_WEIGHT}");
        findings.invalid(format!("{}.weight", place.field), message);
    }
    let priority = u8::try_from(reference.priority).ok();
    let priority = priority.filter(|_| reference.priority <= MAX_PRIORITY);
    if priority.is_none() {
        let message = format!("must be 0 to {MAX_PRIORITY}; lower numbers are used first");
        findings.invalid(format!("{}.priority", place.field), message);
    }
    weight.zip(priority)
}
