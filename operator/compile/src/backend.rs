//! AIBackends. One in error is left out of the table; the routes that refer to it report it.

use std::sync::Arc;
use std::time::Duration;

use crds::{
    AiBackend, AiBackendSpec, BackendType, CapacityType, ConditionType, Reason, StreamUsage,
};
use proxy_core::balance::HealthSettings;
use proxy_core::names::ObjectName;
use proxy_core::table::{self, List};
use url::Url;

use crate::auth;
use crate::bounds::{duplicate, is_api_version, is_graphic, is_model, is_subdomain};
use crate::certificates::{self, InvalidCertificates};
use crate::day::Day;
use crate::diagnostic::{Findings, Verdict};
use crate::index::{Index, Stored};
use crate::lookup::Lookup;
use crate::object::{Kind, ObjectRef};
use crate::price;
use crate::reads::{Reads, Subject};
use crate::settings::Settings;

const CONDITIONS: [ConditionType; 2] = [ConditionType::Accepted, ConditionType::ResolvedRefs];

/// Every AIBackend, usable or not.
#[derive(Clone, Copy)]
pub(crate) struct Backends<'a> {
    index: &'a Index,
    /// Those that can be used, sorted by name.
    usable: &'a List<table::Backend>,
    reads: &'a Reads,
}

/// One AIBackend.
pub(crate) struct Validated<'a> {
    /// Its spec; `None` if the object is undecodable.
    pub(crate) spec: Option<&'a AiBackendSpec>,
    is_usable: bool,
}

// === impl Backends ===

impl<'a> Backends<'a> {
    pub(crate) const fn new(
        index: &'a Index,
        usable: &'a List<table::Backend>,
        reads: &'a Reads,
    ) -> Self {
        Self {
            index,
            usable,
            reads,
        }
    }

    pub(crate) fn find(&self, name: &ObjectName) -> Option<Validated<'a>> {
        let is_usable = self.usable(name).is_some();
        let stored = self.index.backends.get(name)?;
        Some(Validated {
            spec: stored.decoded().map(|backend| &backend.spec),
            is_usable,
        })
    }

    /// The compiled backend, if it can be used.
    pub(crate) fn usable(&self, name: &ObjectName) -> Option<&'a table::Backend> {
        self.reads.one(Subject::Backend, name);
        self.usable.find(name).map(|backend| &**backend)
    }
}

impl Validated<'_> {
    pub(crate) const fn is_usable(&self) -> bool {
        self.is_usable
    }
}

/// Compiles one AIBackend; nothing if it is in error.
pub(crate) fn compile(
    name: &ObjectName,
    stored: &Stored<AiBackend>,
    (index, settings): (&Index, &Settings),
    reads: &Reads,
) -> (Option<table::Backend>, Verdict) {
    let mut findings = Findings::new(ObjectRef::new(Kind::AiBackend, name.clone()));
    let lookup = Lookup {
        namespace: name.namespace(),
        secrets: &index.secrets,
        reads,
    };
    let (compiled, generation) = match stored {
        Stored::Decoded(backend) => (
            validate(name, backend, (&lookup, settings), &mut findings),
            backend.metadata.generation.unwrap_or(0),
        ),
        Stored::Undecodable {
            generation,
            message,
            ..
        } => {
            findings.invalid("", format!("the object can't be read: {message}"));
            findings.unresolved(Reason::Invalid, "", "the object can't be read");
            (None, *generation)
        }
    };
    (compiled, findings.verdict(generation, &CONDITIONS, false))
}

fn validate(
    name: &ObjectName,
    backend: &AiBackend,
    (lookup, settings): (&Lookup<'_>, &Settings),
    findings: &mut Findings,
) -> Option<table::Backend> {
    let spec = &backend.spec;
    let endpoint = endpoint(spec, settings, findings);
    if !is_api_version(&spec.api_version) {
        let message = "must be a date, as in 2024-10-21 or 2025-04-01-preview, or a word of lower-case letters, digits, \
                       '.' and '-', as in preview";
        findings.invalid("spec.apiVersion", message);
    }
    let auth = auth::compile(&spec.auth, lookup, settings, findings);
    let deployments = deployments(spec, findings);
    let tls = tls(spec, lookup, findings);
    let health = &spec.health;
    if health.consecutive_failures < 1 {
        let message = "must be at least 1; remove it for the default of 5";
        findings.invalid("spec.health.consecutiveFailures", message);
    }
    for (name, least, what) in [
        (
            "maxEjection",
            health.max_ejection,
            "a deployment that fails is tried all the time",
        ),
        (
            "suspectAfter",
            health.suspect_after,
            "one that thinks is taken for silent",
        ),
    ] {
        if least.as_std() < Duration::from_secs(1) {
            let message = format!("is {least}: {what}; raise it to a second or more");
            findings.note(format!("spec.health.{name}"), message);
        }
    }
    if CONDITIONS
        .into_iter()
        .any(|condition| findings.has_errors(condition))
    {
        return None;
    }
    Some(table::Backend {
        name: name.clone(),
        kind: match spec.type_ {
            BackendType::Foundry => table::BackendKind::Foundry,
            BackendType::OpenAiCompatible => table::BackendKind::OpenAiCompatible,
        },
        endpoint: endpoint?,
        api_version: non_empty(&spec.api_version),
        auth: auth?,
        deployments,
        ca: tls.ca,
        server_name: tls.server_name,
        skips_verification: tls.skips_verification,
        connect_timeout: spec.timeouts.connect.as_std(),
        stream_start_timeout: spec.timeouts.stream_start.as_std(),
        idle_timeout: spec.timeouts.idle.as_std(),
        health: HealthSettings {
            consecutive_failures: u32::try_from(health.consecutive_failures).unwrap_or(1),
            max_ejection: health.max_ejection.as_std(),
            suspect_after: health.suspect_after.as_std(),
        },
    })
}

fn non_empty(text: &str) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}

// === endpoint ===

fn endpoint(
    spec: &AiBackendSpec,
    settings: &Settings,
    findings: &mut Findings,
) -> Option<Arc<str>> {
    const FIELD: &str = "spec.endpoint";
    let text = spec.endpoint.as_str();
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let url = rest
        .filter(|rest| is_graphic(text) && !rest.starts_with(['/', '\\']))
        .and_then(|_| Url::parse(text).ok())
        .filter(|url| url.host_str().is_some_and(|host| !host.is_empty()));
    let Some(url) = url else {
        let message = "must be an absolute URL, for example https://contoso.services.ai.azure.com";
        findings.invalid(FIELD, message);
        return None;
    };
    let mut fine = true;
    let mut refuse = |field: &str, message: &str| {
        findings.invalid(field, message);
        fine = false;
    };
    if text.contains('@') {
        let message = "must not contain a user or password; remove everything up to '@' and use \
                       auth";
        refuse(FIELD, message);
    }
    if text.contains(['?', '#']) {
        let message = "must not have a query or a fragment; remove it, and pin a version by \
                       apiVersion";
        refuse(FIELD, message);
    }
    if url.scheme() == "http" {
        if !spec.allow_plaintext {
            let message = "must begin with https://; set allowPlaintext: true only if the network \
                           between the gateway and this backend is trusted";
            refuse(FIELD, message);
        }
        if spec.tls.is_some() {
            let message = "has no effect on an http:// endpoint; use https:// or remove tls";
            refuse("spec.tls", message);
        }
    }
    fine &= is_allowed(&url, settings, findings);
    fine.then(|| url.as_str().trim_end_matches('/').into())
}

/// Whether the installation lets backends be at this host, as far as the host itself tells.
fn is_allowed(url: &Url, settings: &Settings, findings: &mut Findings) -> bool {
    let host = url.host_str().unwrap_or_default();
    let name = host.trim_end_matches('.');
    let message = if !settings.allows_host(name) {
        let allowed: Vec<String> = settings
            .backend_hosts
            .iter()
            .map(ToString::to_string)
            .collect();
        format!(
            "{host} is no host that this installation allows, which are {}; use one of these, or have the \
             platform team add it to backends.allowedHosts (--backend-host)",
            allowed.join(", ")
        )
    } else if let Err(closed) = settings.reach.judge_host(host) {
        format!(
            "{closed}; use another host, or have the platform team add it to backends.reach (--backend-reach)"
        )
    } else {
        return true;
    };
    let reason = Reason::HostNotAllowed;
    findings.error(ConditionType::Accepted, reason, "spec.endpoint", message);
    false
}

// === deployments ===

fn deployments(spec: &AiBackendSpec, findings: &mut Findings) -> Vec<table::Deployment> {
    const FIELD: &str = "spec.deployments";
    if spec.deployments.is_empty() {
        findings.invalid(FIELD, "is empty; name at least one deployment");
    }
    if let Some((i, name)) = duplicate(spec.deployments.iter().map(|d| d.name.as_str())) {
        let message = format!("{name:?} is there twice; remove one");
        findings.invalid(format!("{FIELD}[{i}].name"), message);
    }
    let foundry = spec.type_ == BackendType::Foundry;
    let mut compiled = Vec::with_capacity(spec.deployments.len());
    for (i, deployment) in spec.deployments.iter().enumerate() {
        if !is_model(&deployment.name) {
            let message = "must be 1 to 128 letters, digits and '._:/@+-', beginning with a letter \
                           or digit";
            findings.invalid(format!("{FIELD}[{i}].name"), message);
        } else if foundry && deployment.name.contains(['/', ':', '@', '+']) {
            let message = "a Foundry deployment has only letters, digits, '.', '_' and '-'; use the \
                           deployment's name from the Foundry portal, and put the model into model";
            findings.invalid(format!("{FIELD}[{i}].name"), message);
        }
        if !deployment.model.is_empty() && !is_model(&deployment.model) {
            let message = "must be 1 to 128 letters, digits and '._:/@+-', or empty";
            findings.invalid(format!("{FIELD}[{i}].model"), message);
        }
        let capacity = deployment.capacity.as_ref();
        let tokens = capacity.and_then(|capacity| capacity.tokens_per_minute);
        let tokens_per_minute = tokens.and_then(|tokens| u64::try_from(tokens).ok());
        let tokens_per_minute = tokens_per_minute.filter(|tokens| *tokens > 0);
        if tokens.is_some() && tokens_per_minute.is_none() {
            let field = format!("{FIELD}[{i}].capacity.tokensPerMinute");
            findings.invalid(field, "must be at least 1; remove it if unknown");
        }
        let is_provisioned =
            capacity.is_some_and(|capacity| capacity.type_ == CapacityType::Provisioned);
        if tokens_per_minute.is_some() && !is_provisioned {
            let field = format!("{FIELD}[{i}].capacity.tokensPerMinute");
            let message = "has an effect with type Provisioned only; set that, or remove it";
            findings.note(field, message);
        }
        let retires = deployment.retires.as_deref();
        if retires.is_some_and(|text| Day::parse(text).is_none()) {
            let message = "is no day; write it as 2027-10-01";
            findings.invalid(format!("{FIELD}[{i}].retires"), message);
        }
        compiled.push(table::Deployment {
            name: deployment.name.as_str().into(),
            model: deployment.model_or_name().into(),
            price: deployment.price.as_ref().map(|declared| {
                let field = format!("{FIELD}[{i}].price");
                price::compile(declared, deployment.model_or_name(), &field, findings)
            }),
            stream_usage: match deployment.stream_usage {
                StreamUsage::Auto => table::StreamUsage::Auto,
                StreamUsage::Never => table::StreamUsage::Never,
            },
            capacity: table::Capacity {
                is_provisioned,
                tokens_per_minute,
            },
        });
    }
    compiled
}

// === tls ===

/// What of a backend is for its certificate.
#[derive(Default)]
struct Tls {
    ca: Option<table::Certificates>,
    server_name: Option<Arc<str>>,
    skips_verification: bool,
}

fn tls(spec: &AiBackendSpec, lookup: &Lookup<'_>, findings: &mut Findings) -> Tls {
    let Some(tls) = &spec.tls else {
        return Tls::default();
    };
    let skips_verification = tls.danger_insecure_skip_verify;
    if skips_verification && tls.ca_certificate_ref.is_some() {
        let message = "has no effect with dangerInsecureSkipVerify; remove one of them";
        findings.invalid("spec.tls.caCertificateRef", message);
    }
    if skips_verification {
        findings.warning(
            ConditionType::Accepted,
            Reason::VerificationSkipped,
            "spec.tls.dangerInsecureSkipVerify",
            "the backend's certificate is not checked, so prompts and credentials are open to whatever is \
             between; trust its authority by caCertificateRef instead",
        );
    }
    if !tls.server_name.is_empty() && !is_subdomain(&tls.server_name) {
        let message = "must be a host name in lower case, for example foundry.internal";
        findings.invalid("spec.tls.serverName", message);
    }
    let ca = tls.ca_certificate_ref.as_ref().and_then(|reference| {
        const FIELD: &str = "spec.tls.caCertificateRef";
        let pem = lookup.text(&reference.name, &reference.key, FIELD, findings)?;
        let (name, key) = (&reference.name, &reference.key);
        let invalid = match certificates::parse(pem) {
            Ok(ca) => return Some(ca),
            Err(invalid) => invalid,
        };
        let message = match invalid {
            InvalidCertificates::Absent => format!(
                "Secret {name} holds no PEM certificate there: {key}; put the authorities' \
                 certificates into this key"
            ),
            InvalidCertificates::Damaged { number } => format!(
                "Secret {name} holds a damaged certificate there: {key}, certificate {number}; copy \
                 the authority's certificate in PEM into this key again"
            ),
        };
        findings.unresolved(Reason::SecretKeyMissing, format!("{FIELD}.key"), message);
        None
    });
    Tls {
        ca,
        server_name: non_empty(&tls.server_name),
        skips_verification,
    }
}

#[cfg(test)]
mod tests;
