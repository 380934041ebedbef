//! Numbers from many rounds.

use serde::Serialize;

/// What rounds of one measurement came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rounds {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Rounds {
    pub fn of(all: impl IntoIterator<Item = f64>) -> Self {
        let mut all: Vec<f64> = all.into_iter().collect();
        all.sort_unstable_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (all.first(), all.last()) else { return Self::default() };
        let middle = all.len() / 2;
        let median = match all.len() % 2 {
            1 => all[middle],
            _ => (all[middle - 1] + all[middle]) / 2.0,
        };
        Self { median, min, max }
    }
}
