//! Which thread gets a connection, and which connection should move: decisions over plain numbers.

/// Threads whose load differs by less than this are equally loaded: samples are noisy.
const BUSY_TOLERANCE: f64 = 0.1;
/// What a new connection is expected to add to a thread's load: the average of those known, within
/// these bounds, since one very busy connection says little about the next.
const BUSY_PER_CONNECTION: (f64, f64) = (0.01, 0.1);
/// A thread at least this busy is worth relieving.
const HOT_BUSY_MIN: f64 = 0.8;
/// A thread is relieved only where another is less busy by this much.
const GAP_MIN: f64 = 0.4;
/// A connection is moved only if it is expected to take this much load along: less is within what
/// samples vary by, and its client would be disturbed for nothing.
const MOVE_BUSY_MIN: f64 = 0.1;
/// Samples between two moves, so that the first one's effect is seen before the next.
const WAIT_SAMPLES_MIN: u32 = 4;
/// The same after moves that did not help.
const WAIT_SAMPLES_MAX: u32 = 64;
/// Samples without a move after which earlier ones are forgotten.
const CALM_SAMPLES: u32 = 4 * WAIT_SAMPLES_MAX;
/// A move helped if the threads' loads lie closer together afterwards by this much, in all.
const GAIN_MIN: f64 = 0.1;

/// What is known of one thread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// Share of time that it works, 0 to 1.
    pub(super) busy: f64,
    /// Its open connections.
    pub(super) connections: usize,
    /// Those of them that are so new that `busy` does not tell yet what they do.
    pub(super) newcomers: usize,
}

/// The thread that gets the next connection: the least busy one. Among equally busy ones it is the one
/// with the fewest newcomers, as those may be about to work while all others are known to do nothing;
/// then the one with the fewest connections; then the first. Newcomers count as much as an average
/// connection, or else all connections of a burst would go where one sample was lowest.
pub(super) fn least_loaded(loads: &[Load]) -> usize {
    let busy: f64 = loads.iter().map(|load| load.busy).sum();
    let known: usize =
        loads.iter().map(|load| load.connections.saturating_sub(load.newcomers)).sum();
    let (least_each, most_each) = BUSY_PER_CONNECTION;
    let each = (busy / known.max(1) as f64).clamp(least_each, most_each);
    let expected = |load: &Load| load.busy + load.newcomers as f64 * each;
    let least = loads.iter().map(expected).fold(f64::INFINITY, f64::min);
    let equal = |load: &Load| expected(load) <= least + BUSY_TOLERANCE;
    loads
        .iter()
        .enumerate()
        .filter(|(_, load)| equal(load))
        .min_by_key(|(index, load)| (load.newcomers, load.connections, *index))
        .map_or(0, |(index, _)| index)
}

/// The thread to relieve and the busy share to move away from it, if any thread is busy while
/// another has room.
pub(super) fn to_relieve(loads: &[Load]) -> Option<(usize, f64)> {
    let by_busy = |a: &(usize, &Load), b: &(usize, &Load)| a.1.busy.total_cmp(&b.1.busy);
    let (hot, hottest) = loads.iter().enumerate().max_by(by_busy)?;
    let (_, coldest) = loads.iter().enumerate().min_by(by_busy)?;
    let gap = hottest.busy - coldest.busy;
    (hottest.busy >= HOT_BUSY_MIN && gap >= GAP_MIN).then_some((hot, gap))
}

/// Of a hot thread's connections, given by what each read lately, the one whose leaving evens out
/// `gap` best; none where moving any would only move the heat, or make no difference.
pub(super) fn to_move(busy: f64, gap: f64, read: &[(u64, u64)]) -> Option<u64> {
    let total: u64 = read.iter().map(|(_, bytes)| bytes).sum();
    let share = |bytes: u64| busy * bytes as f64 / total.max(1) as f64;
    read.iter()
        .map(|(id, bytes)| (*id, share(*bytes)))
        .filter(|(_, load)| *load >= MOVE_BUSY_MIN && *load < gap)
        .min_by(|(one, a), (other, b)| {
            let misses = |load: f64| (load - gap / 2.0).abs();
            misses(*a).total_cmp(&misses(*b)).then(one.cmp(other))
        })
        .map(|(id, _)| id)
}

/// How often connections are moved. What a connection reads is only a guess at how much it works, so
/// that a move can miss; connections must not be sent to and fro for that. As long as moves help they
/// follow each other soon; after each one that did not, the next waits twice as long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    since_move: u32,
    wait: u32,
    /// How far apart the loads were at the last move.
    apart: Option<f64>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { since_move: 0, wait: WAIT_SAMPLES_MIN, apart: None }
    }
}

impl Pace {
    /// A sample was taken; true if a connection may be moved now.
    pub(super) fn sampled(&mut self) -> bool {
        self.since_move = self.since_move.saturating_add(1);
        if self.since_move >= CALM_SAMPLES {
            self.wait = WAIT_SAMPLES_MIN;
            self.apart = None;
        }
        self.since_move >= self.wait
    }

    /// A connection was asked to move, at these loads.
    pub(super) fn moved(&mut self, loads: &[Load]) {
        let now = apart(loads);
        let helped = self.apart.is_none_or(|before| now <= before - GAIN_MIN);
        self.wait = match helped {
            true => WAIT_SAMPLES_MIN,
            false => (self.wait * 2).min(WAIT_SAMPLES_MAX),
        };
        self.apart = Some(now);
        self.since_move = 0;
    }
}

/// How far the threads' loads lie from their mean, in all.
fn apart(loads: &[Load]) -> f64 {
    let mean = loads.iter().map(|load| load.busy).sum::<f64>() / loads.len().max(1) as f64;
    loads.iter().map(|load| (load.busy - mean).abs()).sum()
}

#[cfg(test)]
mod tests;
