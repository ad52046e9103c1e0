//! A table and its verdicts as readable text. Every field is named, so a new one does not compile until
//! it is rendered. Credentials are not rendered.

use operator_compile::{Compiled, GatewayVerdicts, Judgement};
use proxy_core::auth::{Issuer, Key, Mapping, Required, Source, Trust};
use proxy_core::balance::HealthSettings;
use proxy_core::quota::{Limit, Window};
use proxy_core::table::{
    Authentication, Backend, BackendAuth, Capacity, Contents, Cors, Deployment, Override,
    Principal, Quota, Route, Scope,
};
use proxy_core::tokens::{LongContext, Price, Rates};

use self::rule::rule;
use self::text::{consumer_match, line, list, pairs};

mod rule;
mod text;

/// The table.
#[must_use]
pub fn contents(contents: &Contents) -> String {
    let Contents {
        backends,
        routes,
        quotas,
        keys,
    } = contents;
    let mut out = String::new();
    for each in backends {
        backend(&mut out, each);
    }
    for each in routes {
        route(&mut out, each);
    }
    for each in quotas {
        quota(&mut out, each);
    }
    for each in keys {
        key(&mut out, each);
    }
    if out.is_empty() {
        line(&mut out, 0, "nothing");
    }
    out
}

fn judgements(out: &mut String, depth: usize, judgements: &[Judgement]) {
    for judgement in judgements {
        let holds = if judgement.holds { "True" } else { "False" };
        line(
            out,
            depth,
            format_args!("{}={holds} {}", judgement.condition, judgement.reason),
        );
        if !judgement.message.is_empty() {
            line(out, depth + 1, &judgement.message);
        }
    }
}

fn gateways(out: &mut String, verdicts: &GatewayVerdicts) {
    let GatewayVerdicts { class, gateways } = verdicts;
    if let Some(class) = class {
        line(
            out,
            0,
            format_args!("GatewayClass generation {}", class.generation),
        );
        judgements(out, 1, &class.conditions);
    }
    for (name, gateway) in gateways {
        line(
            out,
            0,
            format_args!("Gateway {name} generation {}", gateway.generation),
        );
        judgements(out, 1, std::slice::from_ref(&gateway.accepted));
        for listener in &gateway.listeners {
            line(
                out,
                1,
                format_args!(
                    "listener {} takes routes {} attached {}",
                    listener.name, listener.takes_routes, listener.attached
                ),
            );
            judgements(out, 2, &listener.conditions);
        }
    }
}

/// The conditions and the diagnostics of every object.
#[must_use]
pub fn verdicts(compiled: &Compiled) -> String {
    let mut out = String::new();
    for (object, verdict) in compiled.verdicts.iter() {
        line(
            &mut out,
            0,
            format_args!("{object} generation {}", verdict.generation),
        );
        judgements(&mut out, 1, &verdict.conditions);
        for diagnostic in &verdict.diagnostics {
            assert_eq!(&diagnostic.object, object, "a diagnostic of another object");
            line(
                &mut out,
                1,
                format_args!(
                    "{} {} {} at {:?}",
                    diagnostic.severity, diagnostic.condition, diagnostic.reason, diagnostic.field
                ),
            );
            line(&mut out, 2, &diagnostic.message);
        }
        for parent in &verdict.parents {
            let listeners = parent.listeners.join(", ");
            line(
                &mut out,
                1,
                format_args!("parent {} attached to [{listeners}]", parent.gateway),
            );
            judgements(&mut out, 2, &parent.conditions);
        }
    }
    gateways(&mut out, &compiled.gateways);
    out
}

fn backend(out: &mut String, backend: &Backend) {
    let Backend {
        name,
        kind,
        endpoint,
        api_version,
        auth,
        deployments,
        ca,
        server_name,
        skips_verification,
        connect_timeout,
        stream_start_timeout,
        idle_timeout,
        health,
    } = backend;
    line(out, 0, format_args!("backend {name}"));
    line(
        out,
        1,
        format_args!("{kind:?} at {endpoint}, api version {api_version:?}"),
    );
    let auth = match auth {
        BackendAuth::ApiKey(_) => "API key".to_owned(),
        BackendAuth::PassThrough => "pass through".to_owned(),
        BackendAuth::None => "none".to_owned(),
        BackendAuth::Identity(identity) => match &identity.principal {
            Principal::Workload { tenant_id, .. } => format!("{identity}, tenant {tenant_id:?}"),
            Principal::Managed { .. } => identity.to_string(),
            Principal::Application { tenant_id, .. } => format!("{identity}, tenant {tenant_id}"),
        },
    };
    line(out, 1, format_args!("auth: {auth}"));
    if *skips_verification {
        line(out, 1, format_args!("tls: the certificate is not checked"));
    }
    if ca.is_some() || server_name.is_some() {
        let roots = ca.iter().flat_map(|ca| ca.iter());
        let roots: usize = roots.map(|certificate| certificate.len()).sum();
        line(
            out,
            1,
            format_args!("tls: {roots} bytes of roots, server name {server_name:?}"),
        );
    }
    line(
        out,
        1,
        format_args!(
            "timeouts: connect {connect_timeout:?}, stream start {stream_start_timeout:?}, idle \
             {idle_timeout:?}"
        ),
    );
    if *health != HealthSettings::default() {
        line(out, 1, format_args!("health: {health:?}"));
    }
    for one in deployments {
        deployment(out, one);
    }
}

fn deployment(out: &mut String, deployment: &Deployment) {
    let Deployment {
        name,
        model,
        price,
        stream_usage,
        capacity,
    } = deployment;
    line(
        out,
        1,
        format_args!("deployment {name}: {model}, stream usage {stream_usage:?}"),
    );
    let Capacity {
        is_provisioned,
        tokens_per_minute,
    } = capacity;
    if *is_provisioned || tokens_per_minute.is_some() {
        let kind = if *is_provisioned {
            "provisioned"
        } else {
            "standard"
        };
        line(
            out,
            2,
            format_args!("capacity {kind}, {tokens_per_minute:?} a minute"),
        );
    }
    match price {
        Some(price) => self::price(out, price),
        None => line(out, 2, "price unknown"),
    }
}

fn price(out: &mut String, price: &Price) {
    let Price {
        rates,
        long_context,
        routed,
    } = price;
    line(out, 2, format_args!("price {}", self::rates(*rates)));
    if let Some(LongContext {
        above_input_tokens,
        rates,
    }) = long_context
    {
        let rates = self::rates(*rates);
        line(out, 2, format_args!("above {above_input_tokens}: {rates}"));
    }
    for (model, rates) in &**routed {
        line(
            out,
            2,
            format_args!("routed to {model}: {}", self::rates(*rates)),
        );
    }
}

fn rates(rates: Rates) -> String {
    let Rates {
        input,
        cached_input,
        cache_write,
        audio_input,
        image_input,
        output,
        audio_output,
        image_output,
        second,
    } = rates;
    format!(
        "in {input} cached {cached_input} written {cache_write} audio {audio_input} image \
         {image_input}, out {output} audio {audio_output} image {image_output}, second {second}"
    )
}

fn route(out: &mut String, route: &Route) {
    let Route {
        name,
        created_s,
        hostnames,
        authentication,
        cors,
        rejected,
        rules,
    } = route;
    line(out, 0, format_args!("route {name}"));
    line(
        out,
        1,
        format_args!("created {created_s}, hosts: {}", list(hostnames)),
    );
    let Authentication {
        keys,
        issuers,
        anonymous,
        pass_through,
        unreadable,
    } = authentication;
    let keys = if keys.is_empty() {
        "none".to_owned()
    } else {
        list(keys.iter())
    };
    line(
        out,
        1,
        format_args!("keys: {keys}; anonymous: {anonymous}; pass through: {pass_through}"),
    );
    for each in issuers {
        issuer(out, each);
    }
    if *unreadable {
        line(out, 1, "others of the namespace: unknown");
    }
    if let Some(Cors { allow_origins }) = cors {
        line(out, 1, format_args!("cors: {}", allow_origins.join(", ")));
    }
    if let Some(why) = rejected {
        line(out, 1, format_args!("rejected: {why}"));
    }
    for each in rules {
        rule(out, each);
    }
}

fn issuer(out: &mut String, issuer: &Issuer) {
    let Issuer { trust, required } = issuer;
    let Trust {
        source: Source { issuer, jwks_uri },
        audiences,
        mapping,
    } = trust;
    let keys = jwks_uri.as_deref().unwrap_or("discovered");
    line(out, 1, format_args!("issuer {issuer}, keys: {keys}"));
    let Mapping {
        consumer,
        attributes,
    } = mapping;
    let attributes = attributes.iter();
    let attributes: Vec<String> = attributes
        .map(|(attribute, claim)| format!(", {attribute}: {claim}"))
        .collect();
    line(
        out,
        2,
        format_args!(
            "audiences: {}; consumer: {consumer}{}",
            list(audiences),
            attributes.concat()
        ),
    );
    let Required {
        scopes,
        roles,
        clients,
    } = required;
    for (what, wanted) in [("scopes", scopes), ("roles", roles), ("clients", clients)] {
        if !wanted.is_empty() {
            line(out, 2, format_args!("required {what}: {}", list(wanted)));
        }
    }
}

fn quota(out: &mut String, quota: &Quota) {
    let Quota {
        name,
        scope,
        models,
        consumers,
        per,
        attribute,
        mode,
        on_store_loss,
        warn_at,
        limits,
        overrides,
        unsupported: _,
    } = quota;
    line(out, 0, format_args!("quota {name}"));
    let scope = match scope {
        Scope::Gateway => "the gateway".to_owned(),
        Scope::Namespace(namespace) => format!("namespace {namespace}"),
        Scope::Namespaces(all) => format!("namespaces {}", list(all)),
        Scope::Targets(targets) => list(
            targets
                .iter()
                .map(|(route, section)| format!("{route}#{}", section.as_deref().unwrap_or("*"))),
        ),
    };
    line(
        out,
        1,
        format_args!(
            "covers {scope}; models: {}; {}",
            list(models),
            consumer_match(consumers)
        ),
    );
    line(
        out,
        1,
        format_args!(
            "per {per:?} attribute {attribute:?}; {mode:?}; without store: {on_store_loss:?}"
        ),
    );
    if !warn_at.levels().is_empty() {
        let levels = warn_at.levels().iter().map(|level| format!("{level}%"));
        line(out, 1, format_args!("warns at {}", list(levels)));
    }
    for limit in limits {
        let Limit {
            name,
            unit,
            amount,
            window,
        } = limit;
        let window = match window {
            Window::Second => "any second".to_owned(),
            Window::Minute => "any minute".to_owned(),
            Window::Calendar(period, zone) => format!("{period:?} in {}", zone.name()),
            Window::Held => "at once".to_owned(),
        };
        line(
            out,
            1,
            format_args!("limit {name}: {amount} {} {window}", unit.as_str()),
        );
    }
    for Override { consumers, amounts } in overrides {
        let amounts = amounts
            .iter()
            .map(|(name, amount)| format!("{name}={amount}"));
        line(
            out,
            1,
            format_args!("override {}; {}", consumer_match(consumers), list(amounts)),
        );
    }
}

fn key(out: &mut String, key: &Key) {
    let Key {
        secret,
        consumer,
        digest,
        attributes,
        expires_ms,
    } = key;
    line(out, 0, format_args!("key {secret}"));
    line(
        out,
        1,
        format_args!(
            "{} is {consumer}; attributes: {}; expires {expires_ms:?}",
            digest.fingerprint(),
            pairs(attributes)
        ),
    );
}
