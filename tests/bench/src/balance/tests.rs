use super::*;

/// The figures that docs/balancing.md states, and the picture there.
#[test]
fn the_picture_is_current_and_shows_what_the_page_says() {
    let found = Found::simulated();
    println!("{}", found.table());
    for (expected, share) in &found.shares {
        assert!((expected - share).abs() < 1.5, "{share} of {expected}");
    }
    let whole = found.comeback.iter().position(|share| *share >= 45.0);
    assert!(whole.is_some_and(|second| second <= 10), "{whole:?}");
    for (load, one) in LOADS.iter().zip(&found.classes) {
        let [batch, standard, interactive] = one.served;
        assert!(*load == 0 || interactive >= 95.0, "{load}: {interactive}");
        assert!(standard + 1.0 >= batch, "{load}: {standard} {batch}");
        assert!(one.refused <= 1.0, "{load}: {}", one.refused);
        let could = f64::from(*load).min(100.0);
        assert!(one.used >= could * 0.9, "{load}: {} of {could}", one.used);
    }
    for (load, one) in LOADS.iter().zip(&found.last) {
        assert!(one.lost <= 0.1, "{load}: {} of Interactive", one.lost);
    }
    let path = picture();
    let svg = chart::svg(&found.panels());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &svg).unwrap();
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(before, svg, "run `make bench-balance`");
}
