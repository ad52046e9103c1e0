use std::sync::Arc;

use http::HeaderValue;
use prometheus_client::registry::Registry;
use proxy_admin::clock;
use proxy_core::names::Usage;
use proxy_core::quota::{Mode, Unit};
use proxy_core::table::Table;
use proxy_core::test_util::limit;
use proxy_core::tokens::Price;

use super::Exchange;
use crate::state::Core;
use crate::test_support::{contents, gateway, is_refused, take};

fn usage(input_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        ..Usage::default()
    }
}

#[test]
fn each_charge_of_an_exchange_settles_once() {
    let mut registry = Registry::default();
    let gateway = gateway(&mut registry);
    let limits = vec![limit("l", Unit::Tokens, 100)];
    let contents = contents(Mode::Enforce, Vec::new(), limits);
    gateway.publish(Arc::new(Table::new(contents)));
    let core = Arc::new(Core::new(Arc::clone(gateway.shared())));

    let now = clock::instant();
    let mut exchange = Exchange::begin(&core, HeaderValue::from_static("id"), now);
    exchange.charge(take(&gateway, "k", 60), &Arc::new(Price::default()));
    exchange.measured(usage(30), now);
    exchange.charge(take(&gateway, "k", 40), &Arc::new(Price::default()));
    exchange.measured(usage(20), now);
    exchange.charge(take(&gateway, "k", 50), &Arc::new(Price::default()));
    assert!(core.is_busy());
    // The third one is still open: it settles at its estimate.
    exchange.end("ok", now);
    assert_eq!(exchange.record.usage.input_tokens, 100);
    assert!(!core.is_busy());
    drop(exchange);
    assert!(is_refused(&gateway, "k", 1), "30 + 20 + 50 of 100 are used");

    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    for line in [
        "settlements_total{kind=\"measured\"} 2",
        "settlements_total{kind=\"estimated\"} 1",
        "in_flight_requests 0",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
