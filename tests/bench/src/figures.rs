//! Arithmetic of figures that are read by eye.

/// The middle of several measurements, and how far apart they were.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Self {
        let sorted = sorted(values);
        Self {
            median: middle(&sorted),
            least: sorted.first().copied().unwrap_or(0.0),
            most: sorted.last().copied().unwrap_or(0.0),
        }
    }

    /// `1.50 (1.46-1.58)`
    pub(crate) fn shown(self, digits: usize) -> String {
        let Self {
            median,
            least,
            most,
        } = self;
        format!("{median:.digits$} ({least:.digits$}-{most:.digits$})")
    }
}

pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    Spread::of(values).shown(digits)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    middle(&sorted(values))
}

/// Each value over the one of the other list that was measured in the same round.
pub(crate) fn ratios(values: &[f64], to: &[f64]) -> Vec<f64> {
    values.iter().zip(to).map(|(one, to)| one / to).collect()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "figures to be read"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

pub(crate) fn mega(bytes: u64) -> f64 {
    float(bytes) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_between_the_least_and_the_most() {
        assert_eq!(spread(&[3.0, 1.0, 2.0], 1), "2.0 (1.0-3.0)");
        assert_eq!(spread(&[], 2), "0.00 (0.00-0.00)");
        assert_eq!(ratios(&[3.0, 4.0], &[1.0, 2.0]), [3.0, 2.0]);
    }
}
