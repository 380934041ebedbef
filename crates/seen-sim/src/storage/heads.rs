//! When storage's newest commit was which one.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use crate::time;

/// For how long it is remembered.
const KEPT: Duration = Duration::from_secs(2);

/// Storage's newest commit, as it was lately.
#[derive(Debug, Default)]
pub struct Heads(Mutex<VecDeque<(Instant, u64)>>);

impl Heads {
    /// The newest commit is this one.
    pub(super) fn note(&self, head: u64) {
        let (now, mut heads) = (time::now(), self.0.lock());
        if heads.back().is_none_or(|(_, known)| *known != head) {
            heads.push_back((now, head));
        }
        while heads.front().is_some_and(|(at, _)| now.duration_since(*at) > KEPT) {
            heads.pop_front();
        }
    }

    /// How many of the commits up to `head` are certainly younger than this.
    pub(super) fn younger_than(&self, age: Duration, head: u64) -> u64 {
        let (now, heads) = (time::now(), self.0.lock());
        let young = heads.iter().find(|(at, _)| now.duration_since(*at) < age);
        young.map_or(0, |(_, known)| head.saturating_sub(*known))
    }
}
