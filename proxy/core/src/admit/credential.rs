//! The caller of a request, by what it shows.

use std::sync::Arc;

use super::denial::Denial;
use crate::auth::form::{self, Form};
use crate::auth::{Caller, Credential, Key, KeyDigest, Token};
use crate::names::{Code, Moment};
use crate::table::{Open, Table};

/// A credential that a request shows, with what the issuers of the table say of it.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    /// The credential itself.
    pub shown: &'a str,
    /// The same, hashed.
    pub credential: Credential<'a>,
    /// What the issuers say.
    pub vouched: Vouched,
}

impl<'a> Judged<'a> {
    /// A credential of which no issuer says anything. Hashes it.
    #[must_use]
    pub fn key(shown: &'a str) -> Self {
        Self {
            shown,
            credential: Credential::of(shown),
            vouched: Vouched::No,
        }
    }
}

/// What the issuers of a table say of a credential.
#[derive(Clone, Debug)]
pub enum Vouched {
    /// It is no token of theirs for an audience of the gateway.
    No,
    /// It is good, and of this caller of the host.
    Caller(Arc<Caller>),
    /// It is good, and no route of the host lists its issuer and audience.
    Elsewhere,
    /// It names an issuer and an audience of the table, and is not good.
    Failed(Denial),
}

/// What is known of a caller before its request is read.
#[derive(Clone, Copy, Debug)]
pub enum Identity<'a> {
    /// It has this key, valid or not.
    Key(&'a Key),
    /// It has a good token of an issuer of the table.
    Token,
    /// It has a credential that is no key of ours.
    Unknown,
    /// It has no credential.
    Anonymous,
}

/// A caller, and which of its credentials says so.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The caller.
    pub caller: Arc<Caller>,
    /// The place of the credential among those that were shown.
    pub credential: Option<usize>,
    /// Of a credential that is no key of ours.
    pub unknown: Option<KeyDigest>,
}

/// Identifies the caller by the credentials that it shows, in the order in which they count. Needs no
/// body, so that strangers cost little.
///
/// Of different credentials the known one counts, wherever it stands: junk in front of it hides
/// nothing. Without a known one the first counts. If that looks like a key of `tundish key new`, it is one of a
/// gateway, mistyped or revoked: it is refused, also where strangers are served, so that no backend sees it. A token of an issuer of the table is known, also if it is
/// not good: then it is refused, whoever else may call.
///
/// # Errors
/// `missing_credential`, `invalid_credential` if no route of `host` could admit the caller;
/// `expired_credential`; `ambiguous_credential` if two are known; `forbidden` for a good token that no
/// route of `host` lists; why a token is not good.
pub fn authenticate(
    table: &Table,
    host: &str,
    credentials: &[Judged<'_>],
    now: Moment,
) -> Result<Authenticated, Denial> {
    let mut known: Option<(usize, Known<'_>)> = None;
    let mut unknown: Option<(usize, &Judged<'_>)> = None;
    for (place, judged) in credentials.iter().enumerate() {
        let mut earlier = credentials.iter().take(place);
        if earlier.any(|one| one.shown == judged.shown) {
            continue;
        }
        let found = match table.ring().find(&judged.credential) {
            Some((key, caller)) => Known::Key(key, caller),
            None if let Vouched::No = judged.vouched => {
                unknown.get_or_insert((place, judged));
                continue;
            }
            None => Known::Token(&judged.vouched),
        };
        if known.is_some() {
            return Err(ambiguous());
        }
        known = Some((place, found));
    }
    Ok(if let Some((place, found)) = known {
        Authenticated {
            caller: Arc::clone(found.caller(table, host, now)?),
            credential: Some(place),
            unknown: None,
        }
    } else if let Some((place, judged)) = unknown {
        let Credential { digest, form } = judged.credential;
        foreign(judged.shown, form)?;
        may_call(table, host, Identity::Unknown, now).map_err(|denial| {
            if Token::has_form(judged.shown) && table.homes(host).next().is_some() {
                return unlisted();
            }
            denial
        })?;
        Authenticated {
            caller: Arc::new(Caller::unknown(&digest)),
            credential: Some(place),
            unknown: Some(digest),
        }
    } else {
        may_call(table, host, Identity::Anonymous, now)?;
        Authenticated {
            caller: Arc::clone(table.anonymous()),
            credential: None,
            unknown: None,
        }
    })
}

/// A credential that the gateway knows.
enum Known<'a> {
    Key(&'a Key, &'a Arc<Caller>),
    Token(&'a Vouched),
}

impl<'a> Known<'a> {
    fn caller(self, table: &'a Table, host: &str, now: Moment) -> Result<&'a Arc<Caller>, Denial> {
        match self {
            Self::Key(key, caller) => {
                may_call(table, host, Identity::Key(key), now).map(|()| caller)
            }
            Self::Token(Vouched::Caller(caller)) => Ok(caller),
            Self::Token(Vouched::Failed(why)) => Err(why.clone()),
            // Without the token it could call, too.
            Self::Token(Vouched::Elsewhere | Vouched::No)
                if is_open(table, host, |one| one.anonymous) =>
            {
                Ok(table.anonymous())
            }
            Self::Token(Vouched::Elsewhere | Vouched::No) => Err(Denial::new(
                Code::Forbidden,
                "no route of this host admits tokens of this issuer and audience",
            )),
        }
    }
}

/// Whether a caller of this identity may call `host` at all, whatever it asks for.
///
/// # Errors
/// Those of [`authenticate`].
pub fn may_call(
    table: &Table,
    host: &str,
    identity: Identity<'_>,
    now: Moment,
) -> Result<(), Denial> {
    match identity {
        Identity::Key(key) if key.is_expired(now) => Err(Denial::new(
            Code::ExpiredCredential,
            "the API key has expired",
        )),
        Identity::Key(_) | Identity::Token => Ok(()),
        Identity::Unknown if is_open(table, host, |one| one.pass_through || one.anonymous) => {
            Ok(())
        }
        Identity::Unknown => Err(unknown()),
        Identity::Anonymous if is_open(table, host, |one| one.anonymous) => Ok(()),
        Identity::Anonymous => Err(missing()),
    }
}

fn is_open(table: &Table, host: &str, wanted: fn(&Open) -> bool) -> bool {
    table.tenancy().open(host, wanted).next().is_some()
}

pub(super) fn missing() -> Denial {
    Denial::new(Code::MissingCredential, "no API key was sent")
}

pub(super) fn unknown() -> Denial {
    Denial::new(Code::InvalidCredential, "the API key is not known")
}

fn unlisted() -> Denial {
    let message = "no route of this host lists the issuer and the audience of the token; each counts to the letter";
    Denial::new(Code::InvalidCredential, message)
}

/// Refuses an unknown credential that looks like a key of ours.
fn foreign(shown: &str, form: Form<'_>) -> Result<(), Denial> {
    let damaged = match form {
        Form::Foreign => return Ok(()),
        Form::Bound(_) => !form::is_whole(shown),
        Form::Damaged => true,
    };
    if damaged {
        let message = "the API key is mistyped or cut off: its checksum is wrong; copy it again";
        return Err(Denial::new(Code::InvalidCredential, message));
    }
    Err(unknown())
}

fn ambiguous() -> Denial {
    let message = "two different API keys of the gateway were sent; send one";
    Denial::new(Code::AmbiguousCredential, message)
}
