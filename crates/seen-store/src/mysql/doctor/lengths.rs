//! How long histories are, and what memory their filters take.

use std::collections::HashMap;

use seen_filter::{Builder, HashKey, Item, NamespaceSettings, Sizing, UnixMillis};

/// Numbers of active users that the memory is told for.
pub const ACTIVE_USERS: [u64; 3] = [100_000, 1_000_000, 10_000_000];

/// The largest history whose state is built to learn its size; above, size is proportional.
const BUILT_ITEMS_MAX: u64 = 65_536;
/// Binary digits of a length that are kept: other lengths cost as much as their neighbours, in
/// proportion.
const LENGTH_DIGITS: u32 = 7;

/// How long the histories of one namespace are, and what memory they take as filters.
#[derive(Clone, Debug, PartialEq)]
pub struct LengthEstimate {
    /// The namespace.
    pub namespace: String,
    /// The false-positive rate that it promises.
    pub false_positive_rate: f64,
    /// How many users' histories were counted.
    pub users: u64,
    /// True if these are all users there are.
    pub are_all: bool,
    /// Rows of the median user.
    pub rows_p50: u64,
    /// Rows that 90 % of the users do not exceed.
    pub rows_p90: u64,
    /// Rows that 99 % of the users do not exceed.
    pub rows_p99: u64,
    /// Rows of the largest user.
    pub rows_max: u64,
    /// Rows of a user, in the mean.
    pub rows_mean: f64,
    /// Bytes of a user's state as it is built, in the mean. Without the table of users.
    pub built_bytes_mean: f64,
    /// Bytes of a user's state that grew by half since, in the mean: after that it is built anew.
    pub grown_bytes_mean: f64,
}

impl LengthEstimate {
    /// From the rows of each user; `None` without any.
    pub fn of(settings: &NamespaceSettings, mut rows: Vec<u64>, are_all: bool) -> Option<Self> {
        rows.sort_unstable();
        let (users, rows_max) = (rows.len(), *rows.last()?);
        let at = |percent: usize| rows[(users * percent).div_ceil(100).clamp(1, users) - 1];
        let mean = |sum: f64| sum / users as f64;
        let mut sizes = Sizes::new(Sizing::from(settings));
        let (mut built, mut grown) = (0.0, 0.0);
        for one in &rows {
            let (as_built, as_grown) = sizes.of(*one);
            built += as_built;
            grown += as_grown;
        }
        Some(Self {
            namespace: settings.name.clone(),
            false_positive_rate: settings.false_positive_rate,
            users: users as u64,
            are_all,
            rows_p50: at(50),
            rows_p90: at(90),
            rows_p99: at(99),
            rows_max,
            rows_mean: mean(rows.iter().map(|one| *one as f64).sum()),
            built_bytes_mean: mean(built),
            grown_bytes_mean: mean(grown),
        })
    }

    /// Bytes of so many users' states: as built, and grown by half.
    pub fn bytes_of(&self, users: u64) -> (u64, u64) {
        let all = |mean: f64| (mean * users as f64) as u64;
        (all(self.built_bytes_mean), all(self.grown_bytes_mean))
    }
}

/// What states take, learnt by building them.
struct Sizes {
    key: HashKey,
    sizing: Sizing,
    known: HashMap<u64, (f64, f64)>,
}

impl Sizes {
    fn new(sizing: Sizing) -> Self {
        Self { key: HashKey::new(1, [0; 16]), sizing, known: HashMap::new() }
    }

    /// Bytes of a state of so many rows, as built and grown by half.
    fn of(&mut self, rows: u64) -> (f64, f64) {
        let kept = rows.min(self.sizing.newest_max().map_or(u64::MAX, u64::from));
        if kept == 0 {
            return (0.0, 0.0);
        }
        let dropped = (u64::BITS - kept.leading_zeros()).saturating_sub(LENGTH_DIGITS);
        let like = (kept >> dropped << dropped).min(BUILT_ITEMS_MAX);
        let scale = kept as f64 / like as f64;
        let (key, sizing) = (&self.key, &self.sizing);
        let (built, grown) = *self.known.entry(like).or_insert_with(|| build(key, sizing, like));
        (built * scale, grown * scale)
    }
}

fn build(key: &HashKey, sizing: &Sizing, items: u64) -> (f64, f64) {
    let mut builder = Builder::new(key, sizing);
    for id in 0..items {
        builder.push(Item::new(0, id), UnixMillis::new(0), 0);
    }
    let mut state = builder.finish();
    let built = state.heap_bytes();
    for id in items..items + items / 2 {
        state.insert(key, sizing, Item::new(0, id), 0);
    }
    (built as f64, state.heap_bytes() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use seen_filter::NamespaceId;

    #[test]
    fn sizes_are_those_of_states() {
        let settings = NamespaceSettings::new(NamespaceId::new(0), "first");
        let sizing = Sizing::from(&settings);
        let key = HashKey::new(1, [7; 16]);
        let mut sizes = Sizes::new(sizing);
        for items in [1, 2, 16, 17, 100, 1_003, 5_555, 40_001, 200_001] {
            let (built, grown) = build(&key, &sizing, items);
            let (told, told_grown) = sizes.of(items);
            for (told, real) in [(told, built), (told_grown, grown)] {
                assert!((told / real - 1.0).abs() < 0.03, "{items} items: {told} for {real}");
            }
        }
        assert_eq!(sizes.of(0), (0.0, 0.0));
    }

    #[test]
    fn percentiles_are_lengths_that_were_met() {
        let settings = NamespaceSettings::new(NamespaceId::new(0), "first");
        let told = LengthEstimate::of(&settings, (1..=200).rev().collect(), true);
        let told = told.expect("an estimate");
        assert_eq!((told.users, told.rows_p50, told.rows_p90), (200, 100, 180));
        assert_eq!((told.rows_p99, told.rows_max), (198, 200));
        assert!((told.rows_mean - 100.5).abs() < 1e-9, "{told:?}");
        assert_eq!(LengthEstimate::of(&settings, Vec::new(), true), None);
        let one = LengthEstimate::of(&settings, vec![5], true).expect("an estimate");
        assert_eq!((one.rows_p50, one.rows_p99, one.rows_max), (5, 5, 5));
    }

    #[test]
    fn expiry_by_count_bounds_the_memory() {
        let mut settings = NamespaceSettings::new(NamespaceId::new(0), "first");
        settings.newest_max = Some(100);
        let told = |rows| LengthEstimate::of(&settings, vec![rows], true).expect("an estimate");
        assert_eq!(told(1_000_000).built_bytes_mean, told(100).built_bytes_mean);
    }
}
