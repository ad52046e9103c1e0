//! Who a request is of.

use std::sync::Arc;

use http::Response;
use proxy_admin::clock;
use proxy_core::admit::{self, Credential};
use proxy_core::auth::{Caller, KeyDigest};
use proxy_core::names::Code;
use smallvec::SmallVec;

use super::Arrival;
use crate::answer::{Refusal, refuse};
use crate::credential::{self, Shown};
use crate::intake::host_of;
use crate::live::Live;
use crate::relay::Payload;
use crate::resource;

/// A caller that may go on.
pub(super) struct Identified<'a> {
    pub(super) caller: Arc<Caller>,
    /// The credential that says so.
    pub(super) shown: Option<Shown<'a>>,
    /// Of a credential that the gateway does not know.
    pub(super) unknown: Option<KeyDigest>,
}

impl<'a> Arrival<'a> {
    /// The caller, by its credentials.
    pub(super) async fn identified(
        &self,
        live: &Live,
        host: &str,
    ) -> Result<Identified<'a>, Box<Refusal>> {
        let shown = credential::shown(self.fields);
        let mut shown = shown.map_err(|why| refuse(Code::InvalidRequest, why))?;
        let mut credentials: SmallVec<[Credential; 1]> =
            shown.iter().map(|one| Credential::key(one.key)).collect();
        if let Some(verifier) = &live.verifier {
            for (credential, Shown { key, .. }) in credentials.iter_mut().zip(&shown) {
                if credential::may_be_token(key) {
                    let (table, digest) = (&live.table, &credential.digest);
                    let vouched = verifier.vouch(table, host, digest, key, self.now);
                    credential.vouched = vouched.await;
                }
            }
        }
        let moment = clock::moment(self.now);
        let authenticated = admit::authenticate(&live.table, host, &credentials, moment)
            .map_err(|denial| Box::new(Refusal::from(denial)))?;
        let place = authenticated.credential;
        Ok(Identified {
            caller: authenticated.caller,
            shown: place.map(|place| shown.swap_remove(place)),
            unknown: authenticated.unknown,
        })
    }

    /// The description of the host, for clients that look for a token.
    pub(super) fn description(&self) -> Result<Option<Response<Payload>>, Box<Refusal>> {
        let Some(live) = self.live.filter(|live| live.verifier.is_some()) else {
            return Ok(None);
        };
        let host = host_of(&self.parts.uri, self.fields.host)?;
        let is_tls = self.core.shared.config.tls.is_some();
        let described = resource::description(&live.table, &host, self.parts, self.fields, is_tls);
        Ok(described)
    }
}
