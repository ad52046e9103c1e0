//! The table in force, with everything that is looked up once per table instead of per request.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use proxy_api::Billing;
use proxy_core::auth::{Caller, CallerKind};
use proxy_core::balance::RetryBudget;
use proxy_core::names::{Attributes, ObjectName, Operation};
use proxy_core::overload::Classes;
use proxy_core::quota::{LimitName, Per, Unit};
use proxy_core::route::Match;
use proxy_core::table::{FlatLimit, FlatRule, FlatTarget, Route, Table};
use proxy_identity::NoToken;
use proxy_identity::caller::Verifier;
use proxy_ledger::{Counters, EnforcedLimit};

use crate::endpoint::{Endpoints, Place, Placed};
use crate::kept::ResourceId;
use crate::metrics::{ConsumerCounters, Metrics, RuleMetrics};
use crate::sizes::{RuleSizes, Sizes};

#[cfg(test)]
mod tests;

/// A rule without a timeout: Azure lets a call last 29 minutes.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Callers by token of one rule that are looked up once, and have series of their own: an issuer may know as
/// many people as it likes. Further ones are looked up by each request.
const TOKEN_ACCOUNTS: usize = 1_000;

/// Models of one account that are looked up once, since callers choose the names that a pattern
/// matches. Further models are looked up by each request.
const MODELS_PER_ACCOUNT: usize = 64;

/// A published table. Requests hold the one that they began with until they end.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) table: Arc<Table>,
    /// Parallel to the table's rules.
    rules: Vec<Arc<LiveRule>>,
    /// Those of the rules.
    pub(crate) classes: Classes,
    /// The longest time that any rule lets a request take.
    pub(crate) longest: Duration,
    /// The routes that reach several resources.
    spread: HashSet<ObjectName, foldhash::fast::RandomState>,
    /// The resources in which some rule lets callers make vector stores.
    store_makers: HashSet<ResourceId, foldhash::fast::RandomState>,
    /// The judge of callers' tokens; `None` if no route lists an issuer.
    pub(crate) verifier: Option<Arc<Verifier>>,
    /// Every limit, by name.
    limits: HashMap<LimitName, Arc<EnforcedLimit>, foldhash::fast::RandomState>,
    /// How many replicas share them.
    replicas: u64,
}

/// A rule, with what is counted of its requests.
#[derive(Debug)]
pub(crate) struct LiveRule {
    pub(crate) route: Arc<Route>,
    pub(crate) metrics: RuleMetrics,
    /// What earlier tables observed of the same rule is kept.
    pub(crate) sizes: Arc<RuleSizes>,
    /// What may apply.
    pub(crate) limits: Vec<Arc<EnforcedLimit>>,
    /// One of them counts money.
    pub(crate) counts_money: bool,
    /// What of a request's model decides which of them apply and how they count.
    by_model: ByModel,
    /// Stands for the model where it does not matter, or no deployment serves it.
    no_model: Arc<str>,
    /// Where it goes, as declared.
    pub(crate) targets: Vec<LiveTarget>,
    /// How many tries may be added to its requests.
    pub(crate) retries: RetryBudget,
    /// Of callers with a Secret, by the address of their entry in the table.
    accounts: RwLock<HashMap<usize, KnownAccount, foldhash::fast::RandomState>>,
    /// Of callers with a token, by their full names.
    by_token: RwLock<HashMap<Arc<str>, TokenAccount, foldhash::fast::RandomState>>,
    /// Of all callers with a credential that has no Secret.
    strangers: OnceLock<Arc<Account>>,
    /// Of callers without a credential.
    anonymous: OnceLock<Arc<Account>>,
}

/// What of a request's model decides which counters it charges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByModel {
    /// The name that the client gives, and the deployment that it finds.
    Named,
    /// The deployed model alone.
    Deployed,
    /// Nothing.
    Any,
}

/// What a rule looks up once for a caller.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) tokens: ConsumerCounters,
    /// Of one caller.
    end_user: OnceLock<Arc<str>>,
    /// The counters of one caller, by [`LiveRule::counted_model`].
    counters: RwLock<HashMap<Arc<str>, Arc<Counters>, foldhash::fast::RandomState>>,
}

/// The account of a caller with a Secret, whose address stays the caller's while this is kept.
#[derive(Debug)]
struct KnownAccount {
    caller: Arc<Caller>,
    account: Arc<Account>,
}

/// The account of a caller with a token. The next token may have other attributes, by which other limits
/// apply.
#[derive(Debug)]
struct TokenAccount {
    attributes: Attributes,
    account: Arc<Account>,
}

/// A target with the live parts of its endpoints.
#[derive(Debug)]
pub(crate) struct LiveTarget {
    pub(crate) flat: FlatTarget,
    /// Parallel to the target's endpoints.
    endpoints: Vec<Placed>,
}

// === impl Live ===

impl Live {
    /// Prepares a table for a gateway of `replicas` replicas without a shared store. Rules and limits of
    /// `before` that did not change go on with what they know. It has no verifier.
    pub(crate) fn after(
        before: Option<&Self>,
        (table, replicas): (&Arc<Table>, u64),
        metrics: &Metrics,
        sizes: &Sizes,
        endpoints: &Endpoints,
    ) -> Self {
        // What a limit allows here depends on the number.
        let before = before.filter(|before| before.replicas == replicas);
        let mut limits: HashMap<LimitName, Arc<EnforcedLimit>, _> = HashMap::default();
        // Made where it is first needed, so that no rule can miss one.
        let mut handle = |flat: &Arc<FlatLimit>| {
            let known = before.and_then(|before| before.limits.get(&flat.name));
            let known = known.filter(|known| Arc::ptr_eq(&known.flat, flat));
            let made = || Arc::new(EnforcedLimit::new(flat, replicas, &metrics.ledger));
            let entry = limits.entry(flat.name.clone());
            Arc::clone(entry.or_insert_with(|| known.map_or_else(made, Arc::clone)))
        };
        let known: HashMap<*const FlatRule, &Arc<LiveRule>, foldhash::fast::RandomState> = before
            .into_iter()
            .flat_map(|before| before.table.rules().iter().zip(&before.rules))
            .map(|(flat, live)| (Arc::as_ptr(flat), live))
            .collect();
        let rules: Vec<Arc<LiveRule>> = endpoints.publish(&table.contents().backends, |registry| {
            let mut target = |flat: &FlatTarget| LiveTarget {
                endpoints: flat
                    .endpoints()
                    .map(|declared| registry.placed(declared, metrics))
                    .collect(),
                flat: flat.clone(),
            };
            let mut rule = |flat: &Arc<FlatRule>| match known.get(&Arc::as_ptr(flat)) {
                Some(known) => Arc::clone(known),
                None => {
                    let own = flat.limits.iter().map(&mut handle).collect();
                    let targets = flat.targets.iter().map(&mut target).collect();
                    let shared = (metrics.rule(&flat.route, &flat.rule), sizes);
                    Arc::new(LiveRule::new(flat, own, targets, shared))
                }
            };
            table.rules().iter().map(&mut rule).collect()
        });
        table.limits().iter().for_each(|flat| drop(handle(flat)));
        if let Some(before) = before
            && !before.table.has_keys_of(table)
        {
            rules.iter().for_each(|rule| rule.forget_callers());
        }
        let times = table.rules().iter();
        let times = times.map(|flat| flat.rule.request_timeout.unwrap_or(DEFAULT_TIMEOUT));
        Self {
            table: Arc::clone(table),
            classes: Classes::of(table.rules().iter().map(|flat| &*flat.rule)),
            longest: times.max().unwrap_or(DEFAULT_TIMEOUT),
            spread: spread(&rules),
            store_makers: store_makers(table, &rules),
            verifier: None,
            rules,
            limits,
            replicas,
        }
    }

    /// The rule at `index` of the table.
    pub(crate) fn rule(&self, index: usize) -> Option<&Arc<LiveRule>> {
        self.rules.get(index)
    }

    /// The endpoints that rules use; one of several rules comes several times.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Placed> {
        let targets = self.rules.iter().flat_map(|rule| &rule.targets);
        targets.flat_map(|target| &target.endpoints)
    }

    /// What makes the tokens for a backend, `namespace/name`, if it is shown any. Looks at every rule.
    pub(crate) fn identity(&self, backend: &str) -> Option<&proxy_identity::Credential> {
        let targets = self.rules.iter().flat_map(|rule| &rule.targets);
        let mut placed = targets.flat_map(|target| &target.endpoints);
        let found = placed.find(|placed| &*placed.endpoint.backend == backend)?;
        found.place.origin.as_ref()?.identity()
    }

    /// The backends without a token at `now`, sorted, each with the reason and what to do.
    pub(crate) fn tokenless(&self, now: Instant) -> Vec<(ObjectName, String)> {
        let targets = self.rules.iter().flat_map(|rule| &rule.targets);
        let found = targets.filter_map(|target| {
            let origin = target.endpoints.first()?.place.origin.as_ref()?;
            let trouble = origin.identity()?.trouble(now)?;
            let is_known = trouble != NoToken::Pending;
            let reason = || format!("{}; {}", trouble.word(), trouble.advice());
            is_known.then(|| (target.flat.backend.name.clone(), reason()))
        });
        let mut found: Vec<_> = found.collect();
        found.sort();
        found.dedup();
        found
    }

    /// Whether the route of a rule reaches several resources, each of which keeps what is its own.
    pub(crate) fn is_spread(&self, rule: &LiveRule) -> bool {
        self.spread.contains(&rule.route.name)
    }

    /// Whether the vector stores that a rule reaches belong to all of its callers: no rule lets any of them make
    /// one there.
    pub(crate) fn shares_stores(&self, rule: &LiveRule) -> bool {
        let mut resources = rule.targets.iter().filter_map(LiveTarget::resource);
        !resources.any(|resource| self.store_makers.contains(&resource))
    }

    /// A limit of the table.
    pub(crate) fn limit(&self, name: &LimitName) -> Option<&Arc<EnforcedLimit>> {
        self.limits.get(name)
    }
}

fn spread(rules: &[Arc<LiveRule>]) -> HashSet<ObjectName, foldhash::fast::RandomState> {
    let mut first: HashMap<&ObjectName, ResourceId, foldhash::fast::RandomState> =
        HashMap::default();
    let mut spread = HashSet::default();
    for rule in rules {
        for resource in rule.targets.iter().filter_map(LiveTarget::resource) {
            if *first.entry(&rule.route.name).or_insert(resource) != resource {
                spread.insert(rule.route.name.clone());
            }
        }
    }
    spread
}

fn store_makers(
    table: &Table,
    rules: &[Arc<LiveRule>],
) -> HashSet<ResourceId, foldhash::fast::RandomState> {
    let serves = |one: &Match| {
        one.operations.is_empty() || one.operations.contains(&Operation::VectorStores)
    };
    let rules = table.rules().iter().zip(rules);
    let makers = rules.filter(|(flat, _)| {
        let matches = &flat.rule.matches;
        matches.is_empty() || matches.iter().any(serves)
    });
    let targets = makers.flat_map(|(_, live)| &live.targets);
    targets.filter_map(LiveTarget::resource).collect()
}

// === impl LiveRule ===

impl LiveRule {
    fn new(
        flat: &FlatRule,
        limits: Vec<Arc<EnforcedLimit>>,
        targets: Vec<LiveTarget>,
        (metrics, sizes): (RuleMetrics, &Sizes),
    ) -> Self {
        Self {
            route: Arc::clone(&flat.route),
            metrics,
            sizes: sizes.rule(&flat.route.name, &flat.rule.name),
            limits,
            counts_money: flat
                .limits
                .iter()
                .any(|one| one.limit.unit == Unit::CostMicros),
            by_model: ByModel::of(&flat.limits),
            no_model: Arc::default(),
            targets,
            retries: RetryBudget::default(),
            accounts: RwLock::default(),
            by_token: RwLock::default(),
            strangers: OnceLock::new(),
            anonymous: OnceLock::new(),
        }
    }

    /// Forgets the callers that no table has any more.
    fn forget_callers(&self) {
        let mut accounts = self.accounts.write();
        accounts.retain(|_, known| Arc::strong_count(&known.caller) > 1);
    }

    /// The account of a caller of this table. Callers without a Secret share one, or a stranger could
    /// make as many series as it likes.
    pub(crate) fn account(&self, caller: &Arc<Caller>) -> Arc<Account> {
        let account = |name: &str| Arc::new(Account::new(self.metrics.tokens(name)));
        let shared = match caller.kind {
            CallerKind::Unknown => self.strangers.get_or_init(|| account("pass-through")),
            CallerKind::Anonymous => self.anonymous.get_or_init(|| account("anonymous")),
            CallerKind::Token(_) => return self.account_by_token(caller, account),
            CallerKind::Known(_) => {
                let address = Arc::as_ptr(caller).addr();
                if let Some(known) = self.accounts.read().get(&address) {
                    return Arc::clone(&known.account);
                }
                let mut accounts = self.accounts.write();
                let made = accounts.entry(address).or_insert_with(|| KnownAccount {
                    caller: Arc::clone(caller),
                    account: account(&caller.full_name),
                });
                return Arc::clone(&made.account);
            }
        };
        Arc::clone(shared)
    }

    fn account_by_token(
        &self,
        caller: &Caller,
        make: impl Fn(&str) -> Arc<Account>,
    ) -> Arc<Account> {
        let fits = |one: &&TokenAccount| one.attributes == caller.attributes;
        if let Some(known) = self.by_token.read().get(&caller.full_name).filter(fits) {
            return Arc::clone(&known.account);
        }
        let mut accounts = self.by_token.write();
        if accounts.len() >= TOKEN_ACCOUNTS && !accounts.contains_key(&caller.full_name) {
            return make("token");
        }
        let account = make(&caller.full_name);
        let made = TokenAccount {
            attributes: caller.attributes.clone(),
            account: Arc::clone(&account),
        };
        accounts.insert(Arc::clone(&caller.full_name), made);
        account
    }

    /// Where a model's first deployment stands, if one serves it; the same as
    /// [`FlatRule::first_endpoint`].
    pub(crate) fn place(&self, model: &str) -> Option<&Place> {
        let targets = self.targets.iter();
        let mut usable = targets.filter(|target| target.flat.weight > 0);
        let placed = usable.find_map(|target| target.endpoint(model))?;
        Some(&placed.place)
    }

    /// The context window of that deployment's model, if it is known.
    pub(crate) fn window(&self, model: &str) -> Option<u64> {
        self.place(model)?.window
    }

    /// Whether one of its targets is of this resource.
    pub(crate) fn reaches(&self, resource: ResourceId) -> bool {
        let mut targets = self.targets.iter();
        targets.any(|target| target.resource() == Some(resource))
    }

    /// Equal for models whose requests charge the same counters, and no more of them than needed: clients
    /// name models at will.
    pub(crate) fn counted_model<'a>(&'a self, model: &'a Arc<str>) -> &'a Arc<str> {
        match self.by_model {
            ByModel::Named => model,
            ByModel::Deployed => self
                .place(model)
                .map_or(&self.no_model, |place| &place.declared.deployment.model),
            ByModel::Any => &self.no_model,
        }
    }
}

// === impl ByModel ===

impl ByModel {
    fn of(limits: &[Arc<FlatLimit>]) -> Self {
        if limits.iter().any(|limit| !limit.quota.models.is_empty()) {
            Self::Named
        } else if limits.iter().any(|one| one.quota.per.contains(&Per::Model)) {
            Self::Deployed
        } else {
            Self::Any
        }
    }
}

// === impl Account ===

impl Account {
    fn new(tokens: ConsumerCounters) -> Self {
        Self {
            tokens,
            end_user: OnceLock::new(),
            counters: RwLock::default(),
        }
    }

    /// The name by which backends know the caller as an end user.
    pub(crate) fn end_user(&self, caller: &Caller) -> Arc<str> {
        if caller.kind == CallerKind::Unknown {
            // Strangers share an account.
            return caller.pseudonym().into();
        }
        let made = || caller.pseudonym().into();
        Arc::clone(self.end_user.get_or_init(made))
    }

    /// The counters that a request of `caller` for `model` charges.
    pub(crate) fn counters(
        &self,
        caller: &Caller,
        model: &Arc<str>,
        billing: Billing,
        find: impl FnOnce() -> Counters,
    ) -> Arc<Counters> {
        match billing {
            Billing::Free => return Arc::default(),
            // Too rare to be kept.
            Billing::Request | Billing::Priced => return Arc::new(find().of_requests()),
            Billing::Metered | Billing::MeteredInEvents | Billing::Unmetered | Billing::Batch => {}
        }
        if caller.kind == CallerKind::Unknown {
            // Each stranger has its own.
            return Arc::new(find());
        }
        if let Some(known) = self.counters.read().get(model) {
            return Arc::clone(known);
        }
        let found = Arc::new(find());
        let mut counters = self.counters.write();
        if counters.len() < MODELS_PER_ACCOUNT {
            counters.insert(Arc::clone(model), Arc::clone(&found));
        }
        found
    }
}

// === impl LiveTarget ===

impl LiveTarget {
    /// The endpoint for a model that the client named.
    pub(crate) fn endpoint(&self, model: &str) -> Option<&Placed> {
        self.endpoints.get(self.flat.place(model)?)
    }

    /// An endpoint of its backend, for a request that names no model.
    pub(crate) fn any_endpoint(&self) -> Option<&Placed> {
        self.endpoints.first()
    }

    fn resource(&self) -> Option<ResourceId> {
        let origin = self.any_endpoint()?.place.origin.as_deref()?;
        Some(origin.resource)
    }
}
