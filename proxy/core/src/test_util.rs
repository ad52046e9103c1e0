//! Builders of a table's contents for tests: each fills every field with a plain value, so that a
//! test sets only what it is about.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Key, KeyDigest};
use crate::balance::HealthSettings;
use crate::names::{Class, ConsumerMatch, ConsumerName, ObjectName, Usage};
use crate::quota::{Cost, Limit, Mode, OnStoreLoss, Unit, WarnAt, Window};
use crate::table::{
    Affinity, Authentication, Backend, BackendAuth, BackendKind, Capacity, Deployment,
    OutputTokens, Quota, Retry, Route, Rule, Scope, StreamUsage, Target,
};

/// The object `namespace/name`, or `ns/name` for a text without a slash.
#[must_use]
pub fn object(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap_or_else(|| ObjectName::new("ns", text))
}

/// The consumer `namespace/name`, or `ns/name` for a text without a slash.
#[must_use]
pub fn consumer(text: &str) -> ConsumerName {
    ConsumerName::parse(text).unwrap_or_else(|| ConsumerName::new("ns", text))
}

/// A Foundry resource that needs no credential and has no deployment.
#[must_use]
pub fn backend(name: &str) -> Backend {
    let timeout = Duration::from_secs(5);
    Backend {
        name: object(name),
        kind: BackendKind::Foundry,
        endpoint: "https://foundry.example".into(),
        api_version: None,
        auth: BackendAuth::None,
        deployments: Vec::new(),
        ca: None,
        server_name: None,
        skips_verification: false,
        connect_timeout: timeout,
        stream_start_timeout: timeout,
        idle_timeout: timeout,
        health: HealthSettings::default(),
    }
}

/// A deployment of `model` that costs nothing.
#[must_use]
pub fn deployment(name: &str, model: &str) -> Deployment {
    Deployment {
        name: name.into(),
        model: model.into(),
        price: Some(Arc::default()),
        stream_usage: StreamUsage::Auto,
        capacity: Capacity::default(),
    }
}

/// A route for every host that admits no caller.
#[must_use]
pub fn route(name: &str, rules: Vec<Rule>) -> Route {
    Route {
        name: object(name),
        created_s: 0,
        hostnames: Vec::new(),
        authentication: Authentication::default(),
        cors: None,
        rejected: None,
        rules: rules.into_iter().map(Arc::new).collect(),
    }
}

/// A rule for every request, without retries.
#[must_use]
pub fn rule(name: &str, targets: Vec<Target>) -> Rule {
    Rule {
        name: name.into(),
        matches: Vec::new(),
        targets,
        output_tokens: OutputTokens::default(),
        retry: Retry::default(),
        request_timeout: None,
        first_token_timeout: None,
        allows_unmetered: false,
        shows_backend: false,
        names_end_user: false,
        mcp_servers: None,
        affinity: Affinity::default(),
        class: Class::default(),
    }
}

/// A backend with whatever deployment fits the model.
#[must_use]
pub fn target(backend: &str) -> Target {
    Target {
        backend: object(backend),
        deployment: None,
        weight: 1,
        priority: 0,
    }
}

/// A quota that enforces `limits` on every request of the gateway, with one counter each.
#[must_use]
pub fn quota(name: &str, limits: Vec<Limit>) -> Quota {
    Quota {
        name: object(name),
        scope: Scope::Gateway,
        models: Vec::new(),
        consumers: ConsumerMatch::default(),
        per: Vec::new(),
        attribute: "".into(),
        mode: Mode::Enforce,
        on_store_loss: OnStoreLoss::Share,
        warn_at: WarnAt::default(),
        limits,
        overrides: Vec::new(),
        unsupported: None,
    }
}

/// A limit per minute, or of what runs at once if it counts `Concurrency`.
#[must_use]
pub fn limit(name: &str, unit: Unit, amount: u64) -> Limit {
    Limit {
        name: name.into(),
        unit,
        amount,
        window: match unit {
            Unit::Concurrency => Window::Held,
            Unit::Requests
            | Unit::InputTokens
            | Unit::OutputTokens
            | Unit::Tokens
            | Unit::CostMicros => Window::Minute,
        },
    }
}

/// The key of a consumer that is named like its Secret; the credential is that name too.
#[must_use]
pub fn key(secret: &str) -> Key {
    let secret = object(secret);
    Key {
        consumer: secret.name().into(),
        digest: KeyDigest::of(secret.name()),
        secret,
        attributes: Vec::new(),
        expires_ms: None,
    }
}

/// The cost of input tokens alone, at no price.
#[must_use]
pub fn input_cost(tokens: u64) -> Cost {
    Cost {
        usage: Usage {
            input_tokens: tokens,
            ..Usage::default()
        },
        cost_micros: 0,
    }
}
