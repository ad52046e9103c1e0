use prometheus_client::encoding::text::encode;

use super::*;

#[test]
fn the_age_of_the_last_contact_is_told_at_scrape() {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    metrics.heard();
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("channel_contact_age_seconds "));
    let age: f64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!((0.0..60.0).contains(&age), "{text}");
}
