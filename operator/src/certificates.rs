//! The CA of the channel, between where it is kept and what makes certificates of it.

use std::sync::Arc;

use operator_controller::{Authority, CaPem};
use operator_publish::tls::{Authorities, Certificates, Stored, TlsError};
use proxy_admin::clock;
use tracing::{info, warn};

/// Lets the server sign with whatever CA is stored.
pub(crate) struct ChannelAuthority(pub(crate) Arc<Certificates>);

/// Makes a first CA.
///
/// # Errors
/// Its key could not be made.
pub(crate) fn generate() -> Result<CaPem, TlsError> {
    let authorities = Authorities::generate(clock::now().unix_ms)?;
    Ok(from_stored(authorities.store()))
}

/// Certificates for `names`, signed by the CA that is stored.
///
/// # Errors
/// The stored PEM cannot be used, or a name is none.
pub(crate) fn certificates(ca: &CaPem, names: Vec<String>) -> Result<Arc<Certificates>, TlsError> {
    let signing = Authorities::load(&to_stored(ca))?.signing()?;
    Certificates::new(signing, names, clock::now().unix_ms).map(Arc::new)
}

impl Authority for ChannelAuthority {
    fn adopt(&mut self, stored: &CaPem) {
        let signing = Authorities::load(&to_stored(stored)).and_then(|all| all.signing());
        match signing.and_then(|signing| self.0.sign_with(signing, clock::now().unix_ms)) {
            Ok(()) => info!("the channel's certificate is signed by the stored CA"),
            Err(error) => warn!(%error, "the stored CA cannot be used; the one before stays"),
        }
    }

    fn advance(&mut self, stored: &CaPem) -> Option<CaPem> {
        let step = Authorities::load(&to_stored(stored)).and_then(|mut all| {
            let taken = all.advance(clock::now().unix_ms)?;
            Ok(taken.then(|| from_stored(all.store())))
        });
        step.unwrap_or_else(|error| {
            warn!(%error, "the CA cannot be rotated");
            None
        })
    }
}

fn to_stored(ca: &CaPem) -> Stored {
    Stored {
        certificate: ca.certificate.clone(),
        key: ca.key.clone(),
        next: ca.next.clone(),
        former: ca.former.clone(),
    }
}

fn from_stored(stored: Stored) -> CaPem {
    CaPem {
        certificate: stored.certificate,
        key: stored.key,
        next: stored.next,
        former: stored.former,
    }
}
