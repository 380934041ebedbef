//! When all is as before a fault: answers are sure again, come from memory, and marks are taken.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::act::Scene;
use super::faults::parts;
use super::tally::{Counts, share};
use crate::cli::dev_cluster::counted;

/// How long is looked at a time.
const SLICE: Duration = Duration::from_millis(500);
/// How long is looked at how it is usually.
const USUALLY: Duration = Duration::from_millis(1_500);
/// So many slices in a row have to be as before.
const IN_A_ROW: u32 = 2;
/// How much more may be flagged than before, and how much less may come from memory.
const FLAGGED_MORE: f64 = 0.01;
const MEMORY_LESS: f64 = 0.1;
/// Marks that may fail as a share of all: machines that build something else lose some.
const FAILED_MARKS: f64 = 0.02;

/// How it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    /// Flagged answers as a share of all.
    pub flagged: f64,
    /// Filters that memory alone answered, as a share of all that replicas were asked.
    pub memory: f64,
    /// Marks that failed, as a share of all.
    pub failed_marks: f64,
}

/// How it is usually, and what was counted meanwhile.
pub(super) async fn usually(scene: &Scene<'_>) -> (State, Counts) {
    slice(scene, USUALLY).await
}

/// Waits until it is so again, or for `limit`. How long that took from `since` on, and what was counted meanwhile.
pub(super) async fn as_before(
    scene: &Scene<'_>,
    usual: State,
    since: Instant,
    limit: Duration,
) -> (Option<Duration>, State, Counts) {
    let mut all = Counts::default();
    let (mut in_a_row, mut first) = (0, Duration::ZERO);
    loop {
        let began = since.elapsed();
        let (state, counts) = slice(scene, SLICE).await;
        all.add(&counts);
        let is_usual = counts.filters > 0
            && state.flagged <= usual.flagged + FLAGGED_MORE
            && state.memory >= usual.memory - MEMORY_LESS
            && state.failed_marks <= usual.failed_marks + FAILED_MARKS;
        if is_usual {
            if in_a_row == 0 {
                first = began;
            }
            in_a_row += 1;
        } else {
            in_a_row = 0;
        }
        if in_a_row >= IN_A_ROW {
            return (Some(first), state, all);
        }
        if began > limit {
            return (None, state, all);
        }
    }
}

async fn slice(scene: &Scene<'_>, time: Duration) -> (State, Counts) {
    let before = filters(scene).await;
    let already = scene.load.tally.take();
    sleep(time).await;
    let mut counts = scene.load.tally.take();
    let after = filters(scene).await;
    let since = |after: u64, before: u64| after.saturating_sub(before);
    let (hits, misses) = (since(after.0, before.0), since(after.1, before.1));
    let failed: u64 = counts.marks_failed.values().sum();
    let state = State {
        flagged: counts.flagged_share(),
        memory: share(hits, hits + misses),
        failed_marks: share(failed, failed + counts.marks),
    };
    counts.add(&already);
    (state, counts)
}

/// Filters that replicas answered from memory alone, and others.
async fn filters(scene: &Scene<'_>) -> (u64, u64) {
    let (mut hits, mut misses) = (0, 0);
    for part in parts(scene.cluster, "feed-") {
        hits += counted(part, "seen_filter_hits_total", &[]).await.unwrap_or(0);
        misses += counted(part, "seen_filter_misses_total", &[]).await.unwrap_or(0);
    }
    (hits, misses)
}
