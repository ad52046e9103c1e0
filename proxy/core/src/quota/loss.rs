//! How a limit counts while the shared store does not answer.

use super::limit::OnStoreLoss;
use crate::names::Moment;

/// How a limit of the shared store counts while the store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The quota's `onStoreLoss`.
    pub on: OnStoreLoss,
    /// How many replicas were alive at the last contact.
    pub replicas: u64,
    /// When the store last answered; before that, when this replica started.
    pub contact: Moment,
}
