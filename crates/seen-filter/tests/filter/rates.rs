//! False positives: at most the promised rate at every size, after a build and after growth.

use seen_filter::Sizing;

use crate::support::{build, ids, insert, key, seen};

/// Unread ids start far from all read ones: `mix` is a bijection, so that none is read.
const UNREAD: u64 = 1 << 40;

/// What was measured over some users, and the spread to allow for.
struct Measured {
    rate: f64,
    /// Standard deviation of `rate` by the number of probes alone.
    deviation: f64,
}

/// Users, and probes of each, for at least 20,000 false positives in all at the promised rate.
fn plan(items: usize, rate: f64) -> (u64, usize) {
    let users = match items {
        0..100 => 1_000,
        100..5_000 => 200,
        5_000..50_000 => 10,
        _ => 1,
    };
    (users, (20_000.0 / rate) as usize / users as usize)
}

fn measure(items: usize, growth: f64, sizing: &Sizing) -> Measured {
    let (users, probes) = plan(items, sizing.rate());
    let mut found = 0;
    for user in 0..users {
        let key = key(user as u32 % 7);
        let first = user << 24;
        let mut state = build(&key, sizing, ids(first, items));
        let more = (items as f64 * growth) as usize;
        insert(&mut state, &key, sizing, ids(first + items as u64, more));
        assert_eq!(seen(&state, &key, ids(first, items + more)), items + more, "false negative");
        assert!(state.promised_rate() <= sizing.rate() * 1.000_001);
        found += seen(&state, &key, ids(UNREAD + first, probes));
    }
    let probes = (users as usize * probes) as f64;
    let rate = found as f64 / probes;
    Measured { rate, deviation: (sizing.rate() / probes).sqrt() }
}

fn assert_within(sizing: &Sizing, items: usize, growth: f64) -> Measured {
    let measured = measure(items, growth, sizing);
    let limit = sizing.rate() * 1.1;
    assert!(
        measured.rate + 3.0 * measured.deviation < limit,
        "{items} items grown by {growth}: {} (deviation {}), limit {limit}",
        measured.rate,
        measured.deviation,
    );
    measured
}

const SIZES: [usize; 10] = [17, 18, 24, 33, 64, 100, 1_000, 10_000, 100_000, 1_000_000];

#[test]
fn a_build_keeps_the_promise_at_every_size_and_wastes_little() {
    let sizing = Sizing::new(0.01, None);
    for items in SIZES {
        let measured = assert_within(&sizing, items, 0.0);
        let wasteful = measured.rate + 3.0 * measured.deviation < 0.5 * sizing.rate();
        assert!(items < 1_000 || !wasteful, "{items} items: {}", measured.rate);
    }
}

#[test]
fn growth_up_to_the_rebuild_keeps_the_promise_at_every_size() {
    let sizing = Sizing::new(0.01, None);
    for items in SIZES {
        assert_within(&sizing, items, 0.5);
    }
}

#[test]
fn growth_without_storage_keeps_the_promise() {
    let sizing = Sizing::new(0.01, None);
    for (items, growth) in [(17, 100.0), (100, 30.0), (1_000, 9.0), (10_000, 3.0)] {
        assert_within(&sizing, items, growth);
    }
}

#[test]
fn other_promises_are_kept_too() {
    for rate in [0.001, 0.1] {
        let sizing = Sizing::new(rate, None);
        for items in [17, 100, 1_000, 10_000] {
            assert_within(&sizing, items, 0.5);
        }
    }
}

#[test]
fn the_expected_rate_stays_below_the_promise_at_all_small_sizes() {
    // The estimate is exact for the bits that are set, so that few users give the mean closely.
    let sizing = Sizing::new(0.01, None);
    for items in 17..=400_usize {
        let users = 24_u64;
        let rates = (0..users).map(|user| {
            let first = user << 24;
            let key = key(user as u32);
            let mut state = build(&key, &sizing, ids(first, items));
            insert(&mut state, &key, &sizing, ids(first + items as u64, items / 2));
            state.estimated_rate()
        });
        let mean = rates.sum::<f64>() / users as f64;
        assert!(mean < 1.1 * sizing.rate(), "{items} items: {mean}");
    }
}

#[test]
fn the_estimate_agrees_with_the_measured_rate() {
    let sizing = Sizing::new(0.01, None);
    let key = key(1);
    let mut state = build(&key, &sizing, ids(0, 3_000));
    insert(&mut state, &key, &sizing, ids(3_000, 60_000));
    let probes = 1_000_000;
    let measured = seen(&state, &key, ids(UNREAD, probes)) as f64 / probes as f64;
    let deviation = (measured / probes as f64).sqrt();
    let difference = (measured - state.estimated_rate()).abs();
    assert!(difference < 5.0 * deviation, "{measured} against {}", state.estimated_rate());
}
