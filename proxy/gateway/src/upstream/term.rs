//! How long a connection may be used.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use proxy_admin::host::Host;
use rand::RngExt as _;

/// The age at which a connection between exchanges is closed. Behind one address of a load balancer the
/// servers change, and only new connections reach new ones.
const AGE: Duration = Duration::from_secs(600);
/// And up to this much later, so that connections that were opened together are not closed together.
const JITTER: Duration = Duration::from_secs(60);

/// The term of a connection: until it is old, or its host has another address.
#[derive(Debug)]
pub(super) struct Term {
    address: IpAddr,
    /// The host had the address at this epoch of it.
    epoch: u64,
    end: Instant,
}

impl Term {
    /// Of a connection that was opened now, to an address that the host had at an epoch.
    pub(super) fn new(address: IpAddr, epoch: u64, now: Instant) -> Self {
        let jitter = JITTER.mul_f64(rand::rng().random());
        Self {
            address,
            epoch,
            end: now + AGE + jitter,
        }
    }

    /// Whether no exchange begins on the connection any more.
    pub(super) fn is_over(&mut self, host: &Host, now: Instant) -> bool {
        let epoch = host.epoch();
        if epoch != self.epoch {
            if !host.has(self.address) {
                return true;
            }
            self.epoch = epoch;
        }
        now >= self.end
    }
}
