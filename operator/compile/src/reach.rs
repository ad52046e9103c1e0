//! The deployments that the requests of a rule may be sent to.
//!
//! Judges by models alone: another rule may take a request before, and a header or a consumer may
//! keep it away. So it names too many deployments rather than too few.

use proxy_core::names::{ModelPattern, ObjectName};
use proxy_core::table::{Backend, Deployment, Rule, Target};

use crate::backend::Backends;

/// A deployment that requests may be sent to.
#[derive(Clone, Copy)]
pub(crate) struct Reached<'a> {
    pub(crate) backend: &'a ObjectName,
    pub(crate) deployment: &'a Deployment,
    /// Whether the rule names the deployment; else the model of the request finds it.
    pub(crate) named: bool,
}

/// The deployments that requests of `rule` may be sent to, as far as their model is among `models`
/// (empty = any): as the client names it, or as the deployment has it. Only those that are `wanted`,
/// which costs less to judge.
pub(crate) fn reached<'a>(
    rule: &'a Rule,
    models: &'a [ModelPattern],
    backends: &'a Backends<'_>,
    wanted: fn(&Deployment) -> bool,
) -> impl Iterator<Item = Reached<'a>> {
    let targets = rule.targets.iter().filter(|target| target.weight > 0);
    let usable = targets.filter_map(|target| Some((target, backends.usable(&target.backend)?)));
    usable.flat_map(move |(target, backend)| {
        let deployments = backend.deployments.iter().filter(move |one| wanted(one));
        let found = deployments.filter(move |deployment| match &target.deployment {
            Some(wanted) => {
                *wanted == deployment.name
                    && (overlap(rule, models) || covers(models, &deployment.model))
            }
            None => found_by(backend, deployment)
                .into_iter()
                .flatten()
                .any(|asked| {
                    admits(rule, asked)
                        && (covers(models, asked) || covers(models, &deployment.model))
                }),
        });
        found.map(|deployment| reach(target, backend, deployment))
    })
}

fn reach<'a>(target: &Target, backend: &'a Backend, deployment: &'a Deployment) -> Reached<'a> {
    Reached {
        backend: &backend.name,
        deployment,
        named: target.deployment.is_some(),
    }
}

/// The models that find a deployment of a backend, as [`FlatTarget::place`] looks it up: its name,
/// and its underlying model unless that finds another one first.
///
/// [`FlatTarget::place`]: proxy_core::table::FlatTarget::place
fn found_by<'a>(backend: &Backend, deployment: &'a Deployment) -> [Option<&'a str>; 2] {
    let model = &*deployment.model;
    let is_named = backend
        .deployments
        .iter()
        .any(|other| *other.name == *model);
    let mut of_model = backend.deployments.iter();
    let first = of_model.find(|other| *other.model == *model);
    let is_first = first.is_some_and(|first| first.name == deployment.name);
    [
        Some(&*deployment.name),
        (is_first && !is_named).then_some(model),
    ]
}

/// Whether the rule takes requests for this model.
fn admits(rule: &Rule, model: &str) -> bool {
    rule.matches.is_empty() || rule.matches.iter().any(|one| covers(&one.models, model))
}

fn covers(models: &[ModelPattern], model: &str) -> bool {
    models.is_empty() || models.iter().any(|one| one.matches(model))
}

/// Whether the rule takes requests for one of these models.
fn overlap(rule: &Rule, models: &[ModelPattern]) -> bool {
    let either_matches = |one: &ModelPattern, other: &ModelPattern| match (one, other) {
        (ModelPattern::Exact(name), other) => other.matches(name),
        (one, ModelPattern::Exact(name)) => one.matches(name),
        (ModelPattern::Prefix(one), ModelPattern::Prefix(other)) => {
            one.starts_with(&**other) || other.starts_with(&**one)
        }
    };
    rule.matches.is_empty()
        || models.is_empty()
        || rule.matches.iter().any(|alternative| {
            let mut asked = alternative.models.iter();
            alternative.models.is_empty()
                || asked.any(|asked| models.iter().any(|one| either_matches(asked, one)))
        })
}
