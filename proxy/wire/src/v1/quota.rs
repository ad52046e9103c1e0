//! Quotas as they travel.

use std::sync::Arc;

use proxy_core::names::{ModelPattern, ObjectName};
use proxy_core::quota::{self, Mode, OnStoreLoss, Per, Period, TimeZone, Unit, WarnAt};
use proxy_core::table;
use serde::{Deserialize, Serialize};

use super::fields::{Text, texts, values};
use super::object::ConsumerMatch;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Quota {
    scope: Scope,
    /// Of a scope `Gateway`: only the routes of these namespaces. A proxy that overlooks it counts and
    /// refuses the others too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    namespaces: Vec<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    models: Vec<Text<ModelPattern>>,
    #[serde(default, skip_serializing_if = "ConsumerMatch::is_empty")]
    consumers: ConsumerMatch,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    per: Vec<Text<Per>>,
    attribute: Arc<str>,
    mode: Text<Mode>,
    on_store_loss: Text<OnStoreLoss>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warn_at: Vec<u8>,
    limits: Vec<Limit>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    overrides: Vec<Override>,
}

#[derive(Serialize, Deserialize)]
struct Override {
    consumers: ConsumerMatch,
    limits: Vec<Amount>,
}

#[derive(Serialize, Deserialize)]
struct Amount {
    name: Arc<str>,
    amount: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Scope {
    Gateway,
    Namespace { namespace: Arc<str> },
    Targets { targets: Vec<Target> },
}

#[derive(Serialize, Deserialize)]
pub(super) struct Target {
    route: Text<ObjectName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Limit {
    name: Arc<str>,
    unit: Text<Unit>,
    amount: u64,
    window: Window,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Window {
    Second,
    Minute,
    #[serde(rename_all = "camelCase")]
    Calendar {
        period: Text<Period>,
        time_zone: Text<TimeZone>,
    },
    Held,
}

impl From<&table::Quota> for Quota {
    fn from(quota: &table::Quota) -> Self {
        Self {
            scope: Scope::from(&quota.scope),
            namespaces: match &quota.scope {
                table::Scope::Namespaces(all) => all.clone(),
                table::Scope::Gateway | table::Scope::Namespace(_) | table::Scope::Targets(_) => {
                    Vec::new()
                }
            },
            models: texts(&quota.models),
            consumers: ConsumerMatch::from(&quota.consumers),
            per: texts(&quota.per),
            attribute: Arc::clone(&quota.attribute),
            mode: Text(quota.mode),
            on_store_loss: Text(quota.on_store_loss),
            warn_at: quota.warn_at.levels().to_vec(),
            limits: quota.limits.iter().map(Limit::from).collect(),
            overrides: quota.overrides.iter().map(Override::from).collect(),
        }
    }
}

impl Quota {
    pub(super) fn into_core(self, name: ObjectName) -> table::Quota {
        table::Quota {
            name,
            scope: self.scope.into_core(self.namespaces),
            models: values(self.models),
            consumers: self.consumers.into_core(),
            per: values(self.per),
            attribute: self.attribute,
            mode: self.mode.0,
            on_store_loss: self.on_store_loss.0,
            warn_at: WarnAt::new(self.warn_at),
            limits: self.limits.into_iter().map(Limit::into_core).collect(),
            overrides: self
                .overrides
                .into_iter()
                .map(Override::into_core)
                .collect(),
            unsupported: None,
        }
    }
}

impl From<&table::Override> for Override {
    fn from(one: &table::Override) -> Self {
        let amount = |(name, amount): &(Arc<str>, u64)| Amount {
            name: Arc::clone(name),
            amount: *amount,
        };
        Self {
            consumers: ConsumerMatch::from(&one.consumers),
            limits: one.amounts.iter().map(amount).collect(),
        }
    }
}

impl Override {
    fn into_core(self) -> table::Override {
        let amounts = self.limits.into_iter();
        table::Override {
            consumers: self.consumers.into_core(),
            amounts: amounts.map(|one| (one.name, one.amount)).collect(),
        }
    }
}

impl From<&table::Scope> for Scope {
    fn from(scope: &table::Scope) -> Self {
        match scope {
            table::Scope::Gateway | table::Scope::Namespaces(_) => Self::Gateway,
            table::Scope::Namespace(namespace) => Self::Namespace {
                namespace: Arc::clone(namespace),
            },
            table::Scope::Targets(targets) => {
                let target = |(route, rule): &(ObjectName, Option<Arc<str>>)| Target {
                    route: Text(route.clone()),
                    rule: rule.clone(),
                };
                Self::Targets {
                    targets: targets.iter().map(target).collect(),
                }
            }
        }
    }
}

impl Scope {
    pub(super) fn into_core(self, namespaces: Vec<Arc<str>>) -> table::Scope {
        match self {
            Self::Gateway if namespaces.is_empty() => table::Scope::Gateway,
            Self::Gateway => table::Scope::Namespaces(namespaces),
            Self::Namespace { namespace } => table::Scope::Namespace(namespace),
            Self::Targets { targets } => {
                let target = |target: Target| (target.route.0, target.rule);
                table::Scope::Targets(targets.into_iter().map(target).collect())
            }
        }
    }
}

impl From<&quota::Limit> for Limit {
    fn from(limit: &quota::Limit) -> Self {
        Self {
            name: Arc::clone(&limit.name),
            unit: Text(limit.unit),
            amount: limit.amount,
            window: match &limit.window {
                quota::Window::Second => Window::Second,
                quota::Window::Minute => Window::Minute,
                quota::Window::Calendar(period, zone) => Window::Calendar {
                    period: Text(*period),
                    time_zone: Text(zone.clone()),
                },
                quota::Window::Held => Window::Held,
            },
        }
    }
}

impl Limit {
    pub(super) fn into_core(self) -> quota::Limit {
        quota::Limit {
            name: self.name,
            unit: self.unit.0,
            amount: self.amount,
            window: match self.window {
                Window::Second => quota::Window::Second,
                Window::Minute => quota::Window::Minute,
                Window::Calendar { period, time_zone } => {
                    quota::Window::Calendar(period.0, time_zone.0)
                }
                Window::Held => quota::Window::Held,
            },
        }
    }
}
