//! The judge of tokens by the issuers of one table.
//!
//! A good token is remembered by its digest until it ends, so that the next request with it costs what a
//! key costs.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_admin::reminder::Reminder;
use proxy_core::admit::{Denial, Vouched};
use proxy_core::auth::{self, Caller, KeyDigest, Source, Token};
use proxy_core::names::{Code, Moment};
use proxy_core::table::{Home, Table};
use tracing::warn;

use super::claims::Claims;
use super::keys::Keys;
use super::mapping::consumer;
use super::token::{self, Expectation, Rejected};
use crate::address::Address;
use crate::metrics::TokenOutcomes;

#[cfg(test)]
mod tests;

/// Tokens in each of two halves. One takes about a kilobyte.
const HALF: usize = 4_096;
/// A token is judged again after this time, in milliseconds, and when its issuer has other keys.
const REMEMBERED_MS: i64 = 60 * 60 * 1_000;
/// Longest wait of a request for the keys of an issuer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The judge of tokens by the issuers of one table.
#[derive(Debug)]
pub struct Verifier {
    /// Entra's host.
    authority: Address,
    issuers: HashMap<Arc<str>, Vec<Issuer>, RandomState>,
    known: Mutex<Halves>,
}

/// An issuer by one place of its keys, with all that routes say of it.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) declared: Declared,
    pub(super) keys: Arc<Keys>,
    pub(super) outcomes: TokenOutcomes,
    /// A good token is for any of these, whoever lists it.
    expectation: Expectation,
    lacks_groups: Reminder,
}

/// What routes say of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) source: Source,
    /// Who lists it, and for which audiences.
    pub(super) listings: Vec<Listing>,
    /// Who its tokens are of, by namespace.
    pub(super) homes: Vec<Home>,
}

/// An issuer in the routes of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) namespace: Arc<str>,
    pub(super) audiences: Vec<Arc<str>>,
}

/// Tokens that are good. When the younger half is full, the older one is forgotten.
#[derive(Debug, Default)]
struct Halves {
    young: Half,
    old: Half,
}

type Half = HashMap<KeyDigest, Arc<Good>, RandomState>;

/// A token that is good.
#[derive(Debug)]
struct Good {
    token: Arc<Token>,
    callers: Vec<(Home, Result<Arc<Caller>, Denial>)>,
    /// The namespaces that list its issuer and audience.
    namespaces: Vec<Arc<str>>,
    ends_unix_ms: i64,
    keys: Arc<Keys>,
    /// Of the keys that proved it.
    edition: u64,
}

// === impl Issuer ===

impl Issuer {
    pub(super) fn new(declared: Declared, keys: Arc<Keys>, outcomes: TokenOutcomes) -> Self {
        let listed = declared.listings.iter();
        let audiences = listed.flat_map(|one| &one.audiences).cloned();
        Self {
            expectation: Expectation {
                issuer: Arc::clone(&declared.source.issuer),
                audiences: audiences.collect(),
            },
            declared,
            keys,
            outcomes,
            lacks_groups: Reminder::default(),
        }
    }

    /// What a token of this issuer stands for.
    fn good(&self, claims: &Claims, edition: u64, now: Moment) -> Good {
        let source = &self.declared.source;
        let token = Arc::new(claims.token(source));
        let about = |home: &&Home| home.trust.is_about(&token);
        let homes = self.declared.homes.iter().filter(about);
        let callers = homes.map(|home| (home.clone(), self.caller(home, claims, &token)));
        let callers = callers.collect();
        let namespaces = self.listing(claims).map(|one| Arc::clone(&one.namespace));
        let latest = now.unix_ms.saturating_add(REMEMBERED_MS);
        Good {
            callers,
            namespaces: namespaces.collect(),
            ends_unix_ms: token::ends_unix_ms(claims).min(latest),
            keys: Arc::clone(&self.keys),
            edition,
            token,
        }
    }

    /// Who lists the issuer with an audience of these claims.
    fn listing<'a>(&'a self, claims: &'a Claims) -> impl Iterator<Item = &'a Listing> {
        let listings = self.declared.listings.iter();
        listings.filter(|one| {
            let is_listed = |claimed: &str| one.audiences.iter().any(|listed| **listed == *claimed);
            claims.audiences().any(is_listed)
        })
    }

    fn caller(
        &self,
        home: &Home,
        claims: &Claims,
        token: &Arc<Token>,
    ) -> Result<Arc<Caller>, Denial> {
        let mapping = &home.trust.mapping;
        let consumer = consumer(mapping, claims).map_err(|_unmapped| {
            let message = format!(
                "the token names no consumer: its claim {} is missing, or no name",
                mapping.consumer
            );
            Denial::new(Code::InvalidCredential, message)
        })?;
        if consumer.lacks_groups && self.lacks_groups.is_due(clock::instant()) {
            warn!(
                issuer = %home.trust.source.issuer,
                consumer = %format_args!("{}/{}", home.namespace, consumer.name),
                "a token has too many groups to list them, so attributes made of groups are missing; have \
                 the issuer send those of the application alone, or roles"
            );
        }
        let token = Arc::clone(token);
        let caller = Caller::by_token(&home.namespace, consumer.name, consumer.attributes, token);
        Ok(Arc::new(caller))
    }
}

// === impl Verifier ===

impl Verifier {
    pub(super) fn new(issuers: Vec<Issuer>, authority: Address) -> Self {
        let mut by_name: HashMap<_, Vec<Issuer>, _> = HashMap::default();
        for issuer in issuers {
            let name = Arc::clone(&issuer.declared.source.issuer);
            by_name.entry(name).or_default().push(issuer);
        }
        Self {
            authority,
            issuers: by_name,
            known: Mutex::default(),
        }
    }

    /// Whether these are its issuers.
    pub(super) fn is_of(&self, declared: &[Declared]) -> bool {
        let own = self.issuers.values().map(Vec::len).sum::<usize>();
        let has = |one: &Declared| {
            let named = self.issuers.get(&one.source.issuer);
            named.is_some_and(|all| all.iter().any(|issuer| issuer.declared == *one))
        };
        own == declared.len() && declared.iter().all(has)
    }

    /// What the issuers of `table` say of a credential on `host` that has the form of a token. Waits for their
    /// keys, but not for long.
    pub async fn vouch(
        &self,
        table: &Table,
        host: &str,
        digest: &KeyDigest,
        credential: &str,
        now: Instant,
    ) -> Vouched {
        let moment = clock::moment(now);
        if let Some(good) = self.remembered(digest, moment) {
            let vouched = good.vouched(table, host);
            // Another issuer of that name may be known here.
            if !matches!(vouched, Vouched::No) {
                return vouched;
            }
        }
        let Some(claims) = token::unproved(credential) else {
            // It has the form of a token, and no backend shall try what cannot be judged.
            return Vouched::Failed(refused(Rejected::Malformed));
        };
        let Some(issuers) = claims.issuer().and_then(|name| self.issuers.get(name)) else {
            return Vouched::No;
        };
        let mut failed = None;
        let mut elsewhere = false;
        for issuer in issuers {
            let mut listing = issuer.listing(&claims);
            if !listing.any(|one| table.takes_tokens(host, &one.namespace)) {
                continue;
            }
            let judged = issuer
                .keys
                .judge(credential, &issuer.expectation, now + PATIENCE);
            let judged = judged.await;
            issuer
                .outcomes
                .count(judged.as_ref().err().map(|why| why.label()));
            match judged {
                Ok((claims, edition)) => {
                    let good = Arc::new(issuer.good(&claims, edition, moment));
                    let vouched = good.vouched(table, host);
                    elsewhere = true;
                    if matches!(vouched, Vouched::Caller(_) | Vouched::Failed(_)) {
                        self.remember(*digest, good);
                        return vouched;
                    }
                }
                Err(why) => failed = Some(why),
            }
        }
        match failed {
            _ if elsewhere => Vouched::Elsewhere,
            Some(why) => Vouched::Failed(refused(why)),
            None => Vouched::No,
        }
    }

    /// Whether Entra has signed a token for this tenant, whatever it is for, by the keys of an issuer that is
    /// `listed`. Any other issuer could sign for any tenant.
    pub async fn proves_entra(
        &self,
        listed: &[auth::Issuer],
        tenant: &str,
        credential: &str,
        now: Instant,
    ) -> bool {
        let Some(claims) = token::unproved(credential) else {
            return false;
        };
        let sources = listed.iter().map(|issuer| &issuer.trust.source);
        let mut sources = sources.filter(|one| claims.issuer() == Some(&*one.issuer));
        let Some(source) = sources.find(|one| self.is_entra(one, tenant)) else {
            return false;
        };
        let named = self.issuers.get(&source.issuer).into_iter().flatten();
        let expectation = Expectation {
            issuer: Arc::clone(&source.issuer),
            audiences: claims.audiences().map(Arc::from).collect(),
        };
        for issuer in named.filter(|issuer| issuer.declared.source == *source) {
            let judged = issuer.keys.judge(credential, &expectation, now + PATIENCE);
            let judged = judged.await;
            let failure = judged.as_ref().err().map(|why| why.label());
            issuer.outcomes.count(failure);
            if judged.is_ok() {
                return true;
            }
        }
        false
    }

    /// Whether this is Entra for a tenant, in one of its two versions, by the keys that it publishes.
    fn is_entra(&self, source: &Source, tenant: &str) -> bool {
        let authority = &self.authority;
        let scheme = if authority.is_tls { "https" } else { "http" };
        let own = format!("{scheme}://{}{}", authority.authority, authority.path);
        // Version 1 has a name of its own in each cloud.
        let first = match authority.host.as_str() {
            "login.microsoftonline.com" | "login.microsoftonline.us" => "https://sts.windows.net",
            "login.chinacloudapi.cn" | "login.partner.microsoftonline.cn" => {
                "https://sts.chinacloudapi.cn"
            }
            _ => &own,
        };
        let is = |name: String| *source.issuer == *name;
        source.jwks_uri.is_none()
            && (is(format!("{own}/{tenant}/v2.0")) || is(format!("{first}/{tenant}/")))
    }

    fn remembered(&self, digest: &KeyDigest, now: Moment) -> Option<Arc<Good>> {
        let halves = &*self.known.lock();
        let found = halves.young.get(digest).or_else(|| halves.old.get(digest));
        let is_current = |good: &&Arc<Good>| {
            now.unix_ms < good.ends_unix_ms && good.edition == good.keys.edition()
        };
        found.filter(is_current).cloned()
    }

    fn remember(&self, digest: KeyDigest, good: Arc<Good>) {
        let mut halves = self.known.lock();
        if halves.young.len() >= HALF {
            halves.old = std::mem::take(&mut halves.young);
        }
        halves.young.insert(digest, good);
    }
}

// === impl Good ===

impl Good {
    fn vouched(&self, table: &Table, host: &str) -> Vouched {
        let Some(home) = table.home(host, &self.token) else {
            let mut namespaces = self.namespaces.iter();
            return if namespaces.any(|one| table.takes_tokens(host, one)) {
                Vouched::Elsewhere
            } else {
                Vouched::No
            };
        };
        let mut callers = self.callers.iter();
        let is_at_home = |(known, _): &&(Home, _)| {
            known.namespace == home.namespace && known.trust.mapping == home.trust.mapping
        };
        match callers.find(is_at_home) {
            Some((_, Ok(caller))) => Vouched::Caller(Arc::clone(caller)),
            Some((_, Err(why))) => Vouched::Failed(why.clone()),
            None => Vouched::Elsewhere,
        }
    }
}

fn refused(why: Rejected) -> Denial {
    let code = match why {
        Rejected::Expired => Code::ExpiredCredential,
        Rejected::Malformed
        | Rejected::UnknownKey
        | Rejected::Algorithm
        | Rejected::Signature
        | Rejected::Issuer
        | Rejected::Audience
        | Rejected::NotYet => Code::InvalidCredential,
    };
    Denial::new(code, format!("the token is not accepted: {why}"))
}
