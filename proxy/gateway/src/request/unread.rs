//! The answers to requests of which nothing is known: their head cannot be read, or their connection has no
//! place.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use proxy_admin::clock;
use proxy_core::names::Code;
use proxy_core::quota::Wait;

use super::refused;
use crate::answer::{self, Refusal};
use crate::detail::Detail;
use crate::exchange::Exchange;
use crate::fields::Field;
use crate::intake::request_id;
use crate::state::Core;

/// The whole answer to a head that hyper cannot read, or that is too large for it.
pub(crate) fn unreadable(core: &Arc<Core>, peer: IpAddr, status: StatusCode) -> Bytes {
    let refusal = if status == StatusCode::BAD_REQUEST {
        Refusal::new(Code::InvalidRequest, "the head of the request is malformed")
    } else {
        let message = "the head of the request has more than 100 headers or 32 KiB, or its \
                       Content-Length is beyond all bounds";
        Refusal::new(Code::HeadersTooLarge, message)
    };
    unread(core, peer, refusal)
}

/// The whole answer to a connection that no memory is left for.
pub(crate) fn without_room(core: &Arc<Core>, peer: IpAddr) -> Bytes {
    let message = "the gateway has no memory left for another connection";
    turned_away(core, peer, message)
}

/// The whole answer to a connection that no file descriptor is left for.
pub(crate) fn without_descriptor(core: &Arc<Core>, peer: IpAddr) -> Bytes {
    turned_away(core, peer, "the gateway has no file descriptor left")
}

fn turned_away(core: &Arc<Core>, peer: IpAddr, message: &'static str) -> Bytes {
    let refusal = Refusal::new(Code::Overloaded, message);
    unread(core, peer, refusal.waiting(Wait::Millis(1_000)))
}

/// Refuses a request of which nothing is known.
fn unread(core: &Arc<Core>, peer: IpAddr, refusal: Refusal) -> Bytes {
    let mut exchange = Exchange::begin(core, request_id(Field::Absent), clock::instant());
    exchange.record.detail = core
        .log
        .as_ref()
        .map(|log| Detail::unread(peer, log.format()));
    answer::on_wire(&refused(exchange, refusal.closing(), &Method::POST))
}
