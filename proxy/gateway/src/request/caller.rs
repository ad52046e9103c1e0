//! Who a request is of.

use http::Response;
use proxy_admin::clock;
use proxy_core::admit::{self, Judged, Permit};
use proxy_core::auth::{KeyDigest, Token};
use proxy_core::names::{Code, Moment, ObjectName};
use smallvec::SmallVec;

use super::{Arrival, Head};
use crate::answer::{Refusal, refuse};
use crate::credential::{self, Identified};
use crate::intake::host_of;
use crate::live::Live;
use crate::proofs::{Proof, Stranger};
use crate::relay::Payload;
use crate::resource;

impl<'a> Arrival<'a> {
    /// The caller, by its credentials.
    pub(super) async fn identified(
        &self,
        live: &Live,
        host: &str,
    ) -> Result<Identified<'a>, Box<Refusal>> {
        let shown = credential::shown(self.fields);
        let mut shown = shown.map_err(|why| refuse(Code::InvalidRequest, why))?;
        let mut judged: SmallVec<[Judged<'_>; 1]> =
            shown.iter().map(|one| Judged::key(one.key)).collect();
        if let Some(verifier) = &live.verifier {
            for one in &mut judged {
                if Token::has_form(one.shown) {
                    let (table, digest) = (&live.table, &one.credential.digest);
                    let vouched = verifier.vouch(table, host, digest, one.shown, self.now);
                    one.vouched = vouched.await;
                }
            }
        }
        let moment = clock::moment(self.now);
        let authenticated = admit::authenticate(&live.table, host, &judged, moment)
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
        if !resource::is_asked(self.parts) {
            return Ok(None);
        }
        let Some(live) = self.live.filter(|live| live.verifier.is_some()) else {
            return Ok(None);
        };
        let host = host_of(&self.parts.uri, self.fields.host)?;
        let is_tls = self.core.shared.config.tls.is_some();
        let described = resource::description(&live.table, &host, self.parts, self.fields, is_tls);
        Ok(described)
    }
}

impl Head<'_> {
    /// The credential that the route passes on, and what is known of it.
    pub(super) async fn stranger(&self, permit: &Permit<'_>, now: Moment) -> Option<Stranger> {
        let digest = self.unknown?;
        if !permit.route.authentication.pass_through {
            return None;
        }
        let targets = &permit.flat.targets;
        let is_asked =
            |backend: &ObjectName| targets.iter().any(|one| one.backend.name == *backend);
        let proofs = &self.core.shared.proofs;
        let mut proof = proofs.find(&digest, is_asked, now);
        if proof.is_none() {
            proof = self.proved_by_keys(permit, digest, now).await;
        }
        Some(Stranger::new(digest, proof))
    }

    /// The proof of a token of Entra by its keys, if the route lists the tenant as an issuer.
    async fn proved_by_keys(
        &self,
        permit: &Permit<'_>,
        digest: KeyDigest,
        now: Moment,
    ) -> Option<Proof> {
        let listed = &permit.route.authentication.issuers;
        let verifier = self.live.verifier.as_ref().filter(|_| !listed.is_empty())?;
        let token = self.shown.as_ref()?.key;
        let claims = proxy_api::claims(token)?;
        if !verifier
            .proves_entra(listed, &claims.tenant, token, self.now)
            .await
        {
            return None;
        }
        let backend = &permit.flat.targets.first()?.backend.name;
        let proofs = &self.core.shared.proofs;
        proofs.accept(digest, backend, Some(claims), now);
        proofs.find(&digest, |_| true, now)
    }
}
