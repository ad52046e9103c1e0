//! The issuers of a route, each validated by itself. One in error is left out, and rejects the route.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crds::{AiRouteSpec, JwtIssuer};
use proxy_core::auth::{Issuer, Mapping, Required, Source, Trust};
use url::{Host, Url};

use crate::bounds::{duplicate, is_attribute, is_graphic};
use crate::diagnostic::Findings;

/// The field that lists them.
pub(super) const FIELD: &str = "spec.authentication.jwt";

// The schema has the same bounds.
const MOST_ISSUERS: usize = 8;
const MOST_AUDIENCES: usize = 16;
const MOST_ATTRIBUTES: usize = 16;
const MOST_REQUIRED: usize = 16;
const MOST_CLIENTS: usize = 64;
const LONGEST_URL: usize = 512;
const LONGEST_CLAIM: usize = 128;
const LONGEST_VALUE: usize = 256;

/// The applications that tokens for Foundry may name as their audience: Azure AI services, and Azure Machine
/// Learning, which `https://ai.azure.com` belongs to.
const FOUNDRY_APPLICATIONS: [&str; 2] = [
    "7d312290-28c8-473c-a0ed-8e53749b6d6d",
    "18a66f5f-dbdf-4c17-9dd7-1634712a9cbe",
];
/// What tokens for Foundry are for, in each cloud: these hosts with one of these endings.
const FOUNDRY_HOSTS: [&str; 3] = [
    "https://ai.azure.",
    "https://ml.azure.",
    "https://cognitiveservices.azure.",
];
const CLOUDS: [&str; 3] = ["com", "us", "cn"];

/// An issuer, and its place among the declared ones.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct DraftIssuer {
    pub(super) declared: usize,
    pub(super) issuer: Issuer,
}

/// What a route has of its issuers beside the other routes.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Trusted {
    /// Those whose tokens are good.
    pub(super) issuers: Vec<Issuer>,
    /// What belongs to another route: fields and messages.
    pub(super) losses: Vec<(String, String)>,
}

/// Validates the issuers of a route.
pub(super) fn compile(spec: &AiRouteSpec, findings: &mut Findings) -> Vec<DraftIssuer> {
    let declared = &spec.authentication.jwt;
    if declared.len() > MOST_ISSUERS {
        findings.invalid(
            FIELD,
            format!("has more than {MOST_ISSUERS} issuers; remove some"),
        );
    }
    if let Some((i, _)) = duplicate(declared.iter().map(|one| one.issuer.as_str())) {
        let message = "is there twice; make one entry of both";
        findings.invalid(format!("{FIELD}[{i}].issuer"), message);
    }
    let each = declared.iter().enumerate();
    let each = each.filter_map(|(i, one)| {
        let field = format!("{FIELD}[{i}]");
        let is_good = judge(one, &field, findings);
        is_good.then(|| DraftIssuer {
            declared: i,
            issuer: issuer(one),
        })
    });
    // The first of two entries counts; the route is rejected for the second one.
    let mut known = BTreeSet::new();
    let is_first = |one: &DraftIssuer| known.insert(Arc::clone(&one.issuer.trust.source.issuer));
    let mut issuers: Vec<DraftIssuer> = each.collect();
    issuers.retain(is_first);
    issuers.sort_by(|a, b| a.issuer.trust.source.cmp(&b.issuer.trust.source));
    issuers
}

/// Notes what of the issuers has no effect beside other ways to authenticate.
pub(super) fn note(spec: &AiRouteSpec, findings: &mut Findings) {
    let declared = &spec.authentication;
    if declared.jwt.is_empty() {
        return;
    }
    if declared.pass_through.is_some() {
        let message = "beside passThrough these admit no caller, and their tokens go to no backend: the keys of \
                       Entra's issuers prove whose other tokens are; give callers with these a route of their own";
        findings.note(FIELD, message);
    } else if declared.anonymous.is_some() {
        for (i, one) in declared.jwt.iter().enumerate() {
            let requires = !one.required_scopes.is_empty()
                || !one.required_roles.is_empty()
                || !one.allowed_clients.is_empty();
            if requires {
                let message = "beside anonymous every caller is admitted, so what this requires of tokens has \
                               no effect; remove anonymous, or requiredScopes, requiredRoles and allowedClients";
                findings.note(format!("{FIELD}[{i}]"), message);
            }
        }
    } else {
        note_attributes(spec, findings);
    }
}

/// Notes attributes that rules match and no token has, on a route that tokens alone open.
fn note_attributes(spec: &AiRouteSpec, findings: &mut Findings) {
    let declared = &spec.authentication;
    if declared.api_keys.is_some() {
        return;
    }
    let has = |name: &String| {
        let mut issuers = declared.jwt.iter();
        issuers.any(|issuer| issuer.attribute_claims.contains_key(name))
    };
    for (i, rule) in spec.rules.iter().enumerate() {
        for (j, alternative) in rule.matches.iter().enumerate() {
            let unknown = alternative.consumers.attributes.keys();
            for name in unknown.filter(|name| !has(name)) {
                let field = format!("spec.rules[{i}].matches[{j}].consumers.attributes.{name}");
                let message = "no issuer of the route has this in its attributeClaims, so the match admits no \
                               caller; name its claim there, or correct it";
                findings.note(field, message);
            }
        }
    }
}

/// Whether the entry can be used.
fn judge(declared: &JwtIssuer, field: &str, findings: &mut Findings) -> bool {
    let mut is_good = true;
    let mut wrong = |member: String, message: String| {
        findings.invalid(format!("{field}.{member}"), message);
        is_good = false;
    };
    if !is_place(&declared.issuer, false) {
        let message = "must be an https:// URL without a query, exactly as in the iss claim of the tokens; \
                       http:// is only for this machine";
        wrong("issuer".to_owned(), message.to_owned());
    }
    if !declared.jwks_uri.is_empty() && !is_place(&declared.jwks_uri, true) {
        let message =
            "must be an https:// URL, or empty to discover it; http:// is only for this machine";
        wrong("jwksURI".to_owned(), message.to_owned());
    }
    if declared.audiences.is_empty() {
        let message = "is empty; name the audience of your API, as in the aud claim of the tokens";
        wrong("audiences".to_owned(), message.to_owned());
    }
    for (i, audience) in declared.audiences.iter().enumerate() {
        if is_of_foundry(audience) {
            let message = format!(
                "a token for {audience} is for Foundry itself, and as good there without the gateway; list the \
                 audience of an API of your own; passThrough takes such tokens"
            );
            wrong(format!("audiences[{i}]"), message);
        }
    }
    if !is_claim(&declared.consumer_claim) {
        wrong("consumerClaim".to_owned(), NO_CLAIM.to_owned());
    }
    for (attribute, claim) in &declared.attribute_claims {
        if !is_attribute(attribute) {
            let message = format!(
                "{attribute:?} is no attribute; use letters, digits, '-', '_' and '.', at most 63 characters"
            );
            wrong("attributeClaims".to_owned(), message);
        }
        if !is_claim(claim) {
            wrong(format!("attributeClaims.{attribute}"), NO_CLAIM.to_owned());
        }
    }
    if declared.attribute_claims.len() > MOST_ATTRIBUTES {
        let message = format!("has more than {MOST_ATTRIBUTES} attributes; remove some");
        wrong("attributeClaims".to_owned(), message);
    }
    for (member, list, most) in [
        ("audiences", &declared.audiences, MOST_AUDIENCES),
        ("requiredScopes", &declared.required_scopes, MOST_REQUIRED),
        ("requiredRoles", &declared.required_roles, MOST_REQUIRED),
        ("allowedClients", &declared.allowed_clients, MOST_CLIENTS),
    ] {
        if list.len() > most {
            wrong(
                member.to_owned(),
                format!("has more than {most} entries; remove some"),
            );
        }
        let fits = |one: &String| is_graphic(one) && one.len() <= LONGEST_VALUE;
        if let Some(i) = list.iter().position(|one| !fits(one)) {
            let message =
                format!("must be 1 to {LONGEST_VALUE} printable ASCII characters without spaces");
            wrong(format!("{member}[{i}]"), message);
        }
    }
    is_good
}

const NO_CLAIM: &str = "is no claim; write its name, or a JSON pointer such as /realm_access/roles, with at most \
                        128 printable characters without spaces";

fn issuer(declared: &JwtIssuer) -> Issuer {
    let jwks_uri = &declared.jwks_uri;
    let attributes = declared.attribute_claims.iter();
    Issuer {
        trust: Trust {
            source: Source {
                issuer: declared.issuer.as_str().into(),
                jwks_uri: (!jwks_uri.is_empty()).then(|| jwks_uri.as_str().into()),
            },
            audiences: sorted(&declared.audiences),
            mapping: Mapping {
                consumer: declared.consumer_claim.as_str().into(),
                attributes: attributes
                    .map(|(attribute, claim)| (attribute.as_str().into(), claim.as_str().into()))
                    .collect(),
            },
        },
        required: Required {
            scopes: sorted(&declared.required_scopes),
            roles: sorted(&declared.required_roles),
            clients: sorted(&declared.allowed_clients),
        },
    }
}

fn sorted(all: &[String]) -> Vec<Arc<str>> {
    let mut sorted: Vec<Arc<str>> = all.iter().map(|one| one.as_str().into()).collect();
    sorted.sort();
    sorted.dedup();
    sorted
}

/// Where keys may come from: what is fetched in the clear could be anybody's.
fn is_place(text: &str, with_query: bool) -> bool {
    let Ok(url) = Url::parse(text) else {
        return false;
    };
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address == Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(address)) => address == Ipv6Addr::LOCALHOST,
        None => return false,
    };
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
        && (with_query || url.query().is_none());
    // Others would be another text in the claim than in the parser.
    let is_safe = text.starts_with("https://") || (text.starts_with("http://") && is_here);
    is_safe && is_plain && !text.contains('\\') && is_graphic(text) && text.len() <= LONGEST_URL
}

/// A name, or a JSON pointer without empty parts.
fn is_claim(text: &str) -> bool {
    let is_part = |part: &str| {
        let mut escapes = part.split('~').skip(1);
        !part.is_empty() && escapes.all(|rest| rest.starts_with(['0', '1']))
    };
    let is_well_formed = match text.strip_prefix('/') {
        Some(pointer) => pointer.split('/').all(is_part),
        None => true,
    };
    is_graphic(text) && text.len() <= LONGEST_CLAIM && is_well_formed
}

/// Whether Foundry itself takes tokens for this audience.
fn is_of_foundry(audience: &str) -> bool {
    let audience = audience.to_ascii_lowercase();
    let bare = audience.strip_suffix(".default").unwrap_or(&audience);
    let bare = bare.trim_end_matches('/');
    let has_cloud = |rest: &str| CLOUDS.contains(&rest);
    let mut hosts = FOUNDRY_HOSTS.iter();
    FOUNDRY_APPLICATIONS.contains(&bare)
        || hosts.any(|host| bare.strip_prefix(host).is_some_and(has_cloud))
}

#[cfg(test)]
mod tests;
