//! The open connections of one serving thread, and how busy they keep it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::balance::Load;
use super::connection::{ConnectionState, Verdict};

/// How much a new sample of a thread's load weighs against the earlier ones.
const SAMPLE_WEIGHT: f64 = 0.5;
/// Samples after which it is known what a connection does: the first one is of a part of the time only.
const KNOWN_AFTER_SAMPLES: u8 = 2;

/// An open connection as the supervisor sees it.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) state: Arc<ConnectionState>,
    pub(super) accepted_at: Instant,
    /// The age at which it is asked to close, already jittered.
    pub(super) age_max: Duration,
    closing_since: Option<Instant>,
    /// [`ConnectionState::bytes_in`] as of the last sample.
    bytes_sampled: u64,
    /// Bytes that it read between the last two samples.
    bytes_lately: u64,
    /// Samples that it has seen, up to [`KNOWN_AFTER_SAMPLES`].
    samples: u8,
}

impl Open {
    pub(super) fn new(
        state: Arc<ConnectionState>,
        accepted_at: Instant,
        age_max: Duration,
    ) -> Self {
        Self {
            state,
            accepted_at,
            age_max,
            closing_since: None,
            bytes_sampled: 0,
            bytes_lately: 0,
            samples: 0,
        }
    }

    /// Asks it to close, once.
    pub(super) fn close(&mut self, now: Instant, reason: &'static str) {
        if self.closing_since.is_none() && self.state.decide(Verdict::Close, reason) {
            self.closing_since = Some(now);
        }
    }

    /// Since when it has been asked to close.
    pub(super) fn closing_since(&self) -> Option<Instant> {
        self.closing_since
    }

    fn is_new(&self) -> bool {
        self.samples < KNOWN_AFTER_SAMPLES
    }
}

/// The open connections of one thread.
#[derive(Debug, Default)]
pub(super) struct Roster {
    open: HashMap<u64, Open>,
    /// Of all connections together, as of the last sample.
    bytes_lately: u64,
    newcomers: usize,
    busy: f64,
}

impl Roster {
    /// Lists a connection.
    pub(super) fn admit(&mut self, id: u64, open: Open) {
        self.newcomers += usize::from(open.is_new());
        self.open.insert(id, open);
    }

    /// Strikes a connection off. What it did is no longer to be expected of the thread: without that a
    /// thread whose load has just left would look busy for seconds, and all that comes in the meantime
    /// would go elsewhere.
    pub(super) fn leave(&mut self, id: u64) {
        let Some(gone) = self.open.remove(&id) else { return };
        self.newcomers -= usize::from(gone.is_new());
        let rest = self.bytes_lately.saturating_sub(gone.bytes_lately);
        self.busy *= match (self.open.is_empty(), self.bytes_lately) {
            (true, _) => 0.0,
            (false, 0) => 1.0,
            (false, before) => rest as f64 / before as f64,
        };
        self.bytes_lately = rest;
    }

    /// Takes a sample: the thread worked this share of the time since the last one.
    pub(super) fn sample(&mut self, share: f64) {
        self.busy += SAMPLE_WEIGHT * (share - self.busy);
        self.bytes_lately = 0;
        self.newcomers = 0;
        for one in self.open.values_mut() {
            let bytes = one.state.bytes_in();
            one.bytes_lately = bytes.wrapping_sub(one.bytes_sampled);
            one.bytes_sampled = bytes;
            one.samples = (one.samples + 1).min(KNOWN_AFTER_SAMPLES);
            self.bytes_lately += one.bytes_lately;
            self.newcomers += usize::from(one.is_new());
        }
    }

    pub(super) fn load(&self) -> Load {
        Load { busy: self.busy, connections: self.open.len(), newcomers: self.newcomers }
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Open> {
        self.open.get_mut(&id)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Open> {
        self.open.values_mut()
    }

    /// The connections that are not asked to close yet, each with what it read lately.
    pub(super) fn movable(&self) -> Vec<(u64, u64)> {
        let open = self.open.iter().filter(|(_, one)| one.closing_since.is_none());
        open.map(|(id, one)| (*id, one.bytes_lately)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A roster with a connection for each of these, which reads so many bytes between two samples.
    fn roster(now: Instant, read: &[u64]) -> Roster {
        let mut roster = Roster::default();
        for (id, bytes) in (0..).zip(read) {
            let state = Arc::new(ConnectionState::new(1));
            state.read(*bytes);
            roster.admit(id, Open::new(state, now, Duration::MAX));
        }
        roster
    }

    #[tokio::test(start_paused = true)]
    async fn what_leaves_takes_its_load_along() {
        let mut roster = roster(Instant::now(), &[300, 100, 0]);
        roster.sample(0.8);
        assert_eq!(roster.load().busy, 0.4, "half of the weight is that of the time before");
        roster.leave(2);
        assert_eq!(roster.load().busy, 0.4, "it did nothing");
        roster.leave(0);
        assert!((roster.load().busy - 0.1).abs() < 1e-9, "{:?}", roster.load());
        roster.leave(0);
        assert_eq!(roster.load().connections, 1, "once");
        roster.leave(1);
        let Load { busy, connections, newcomers } = roster.load();
        assert_eq!((busy, connections, newcomers), (0.0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_new_until_it_was_seen_for_a_whole_interval() {
        let mut roster = roster(Instant::now(), &[0, 0]);
        let newcomers = |roster: &Roster| roster.load().newcomers;
        assert_eq!(newcomers(&roster), 2);
        roster.sample(0.0);
        assert_eq!(newcomers(&roster), 2);
        roster.leave(0);
        assert_eq!(newcomers(&roster), 1);
        roster.sample(0.0);
        assert_eq!(newcomers(&roster), 0);
        roster.leave(1);
        assert_eq!(newcomers(&roster), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_not_closing_may_be_moved() {
        let now = Instant::now();
        let mut roster = roster(now, &[5, 7]);
        roster.sample(1.0);
        roster.get_mut(0).expect("listed").close(now, "balance");
        assert_eq!(roster.movable(), [(1, 7)]);
    }
}
