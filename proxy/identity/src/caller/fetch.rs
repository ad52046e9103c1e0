//! Where the keys of an issuer are, and the way to them.

use std::fmt;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::Full;
use proxy_core::auth::Source;
use serde_json::Value;

use super::key_set::KeySet;
use crate::address::{Address, InvalidAddress};
use crate::config::ApiServer;
use crate::exchange::{Client, Peer};

/// The path of an issuer's description (`OpenID` Connect Discovery, 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// The API server gives its keys as what they are (RFC 7517, 8.5) and as nothing else.
const FORMS: &str = "application/json, application/jwk-set+json";

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeySource {
    /// Its description names the place. Must be the issuer itself, with or without a slash at its end.
    Discovery(Address),
    /// The place itself, with its query.
    Fixed(Address, String),
}

// === impl KeySource ===

impl KeySource {
    /// Where the keys of a source are.
    ///
    /// # Errors
    /// It is no address that keys may come from.
    pub(super) fn of(source: &Source) -> Result<Self, InvalidAddress> {
        let Some(uri) = &source.jwks_uri else {
            return source.issuer.parse().map(Self::Discovery);
        };
        let (address, query) = uri.split_once('?').unwrap_or((uri, ""));
        Ok(Self::Fixed(address.parse()?, query.to_owned()))
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Discovery(address) | Self::Fixed(address, _)) = self;
        write!(f, "{}{}", address.authority, address.path)
    }
}

/// The way to issuers.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) client: Client,
    /// For what the installation names.
    pub(super) inside: Client,
    /// The cluster's own issuer.
    pub(super) api_server: Option<ApiServer>,
}

/// Fetches the keys: the document, and what can be used of it.
pub(super) async fn fetch(client: &Outside, source: &KeySource) -> Result<(KeySet, Bytes), String> {
    let (address, query) = match source {
        KeySource::Fixed(address, query) => (address.clone(), query.clone()),
        KeySource::Discovery(issuer) => {
            let description = get(client, issuer, &issuer.below(DISCOVERY)).await?;
            let description: Value = serde_json::from_slice(&description)
                .map_err(|_error| "the issuer's description is no JSON".to_owned())?;
            let text = |member: &str| description.get(member).and_then(Value::as_str);
            // Another one would vouch for tokens that are not its own (Discovery, 4.3).
            let named = text("issuer").and_then(|named| named.parse::<Address>().ok());
            if named.as_ref() != Some(issuer) {
                return Err("the description is of another issuer".to_owned());
            }
            let uri = text("jwks_uri").ok_or("the description names no keys")?;
            let (uri, query) = uri.split_once('?').unwrap_or((uri, ""));
            let address: Address = uri.parse().map_err(|error| format!("jwks_uri: {error}"))?;
            (address, query.to_owned())
        }
    };
    let mut path = address.below("");
    if path.is_empty() {
        path.push('/');
    }
    if !query.is_empty() {
        path = format!("{path}?{query}");
    }
    let keys = get(client, &address, &path).await?;
    match KeySet::parse(&keys) {
        Some(set) => Ok((set, keys)),
        None => Err("no key in it can be used".to_owned()),
    }
}

async fn get(outside: &Outside, address: &Address, path: &str) -> Result<Bytes, String> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = path.parse().map_err(|_error| "no path".to_owned())?;
    request
        .headers_mut()
        .insert(ACCEPT, HeaderValue::from_static(FORMS));
    let mut peer = Peer::at(address);
    let mut client = &outside.client;
    let api_server = outside.api_server.as_ref();
    if let Some(server) = api_server.filter(|server| server.address.authority == address.authority)
    {
        peer.roots = Some(&server.roots);
        client = &outside.inside;
        let bearer = server.bearer()?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    let answer = client.exchange(peer, request).await?;
    if answer.status != StatusCode::OK {
        return Err(format!(
            "{} answered {}",
            address.authority,
            answer.status.as_u16()
        ));
    }
    Ok(answer.body)
}
