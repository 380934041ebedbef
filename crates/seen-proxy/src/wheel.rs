//! When to look at a request again: one bucket a millisecond, so that a sweep touches what is due and no more.

use seen_filter::Tick;

/// Buckets; what is due later is looked at in between, and put back.
const BUCKETS: u64 = 256;

/// Numbers of requests by the millisecond in which they are due.
#[derive(Debug)]
pub struct Wheel {
    buckets: Vec<Vec<u64>>,
    /// How many numbers there are.
    keys: usize,
    /// The last millisecond that was taken.
    taken_ms: u64,
}

impl Wheel {
    /// An empty one.
    pub fn new(now: Tick) -> Self {
        let buckets = vec![Vec::new(); BUCKETS as usize];
        Self { buckets, keys: 0, taken_ms: now.get() / 1_000 }
    }

    /// Asks for `key` to be looked at as soon as `due` is over; at times before.
    pub fn put(&mut self, due: Tick, key: u64) {
        let due_ms = due.get() / 1_000 + 1;
        let at_ms = due_ms.clamp(self.taken_ms + 1, self.taken_ms + BUCKETS - 1);
        if let Some(bucket) = self.buckets.get_mut((at_ms % BUCKETS) as usize) {
            bucket.push(key);
            self.keys += 1;
        }
    }

    /// When there is something to be taken, if there is: not before, whatever was put in.
    pub fn next(&self) -> Option<Tick> {
        if self.keys == 0 {
            return None;
        }
        let soon = (self.taken_ms + 1..).take(BUCKETS as usize);
        let mut filled = soon.filter(|at_ms| {
            self.buckets.get((at_ms % BUCKETS) as usize).is_some_and(|bucket| !bucket.is_empty())
        });
        filled.next().map(|at_ms| Tick::new(at_ms * 1_000))
    }

    /// Adds to `out` what is to be looked at by now.
    pub fn take(&mut self, now: Tick, out: &mut Vec<u64>) {
        let (now_ms, before) = (now.get() / 1_000, out.len());
        // After a pause each bucket is taken once, however long it was.
        let rounds = now_ms.saturating_sub(self.taken_ms).min(BUCKETS);
        for step in 1..=rounds {
            if self.keys == out.len() - before {
                break;
            }
            let at = ((self.taken_ms + step) % BUCKETS) as usize;
            out.extend(self.buckets.get_mut(at).into_iter().flat_map(|bucket| bucket.drain(..)));
        }
        self.keys -= out.len() - before;
        self.taken_ms = self.taken_ms.max(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(wheel: &mut Wheel, now_us: u64) -> Vec<u64> {
        let mut out = Vec::new();
        wheel.take(Tick::new(now_us), &mut out);
        out
    }

    #[test]
    fn what_is_due_is_taken_once_and_never_early() {
        let mut wheel = Wheel::new(Tick::new(5_000));
        wheel.put(Tick::new(7_200), 1);
        wheel.put(Tick::new(9_000), 2);
        assert_eq!(taken(&mut wheel, 7_900), [0; 0]);
        assert_eq!(taken(&mut wheel, 8_000), [1]);
        assert_eq!(taken(&mut wheel, 8_500), [0; 0]);
        assert_eq!(taken(&mut wheel, 10_000), [2]);
        assert_eq!(taken(&mut wheel, 300_000), [0; 0]);
    }

    #[test]
    fn what_is_due_next_is_known() {
        let mut wheel = Wheel::new(Tick::new(5_000));
        assert_eq!(wheel.next(), None);
        wheel.put(Tick::new(60_000_000), 1);
        assert_eq!(wheel.next(), Some(Tick::new(260_000)), "to be put back");
        wheel.put(Tick::new(9_000), 2);
        wheel.put(Tick::new(7_200), 3);
        assert_eq!(wheel.next(), Some(Tick::new(8_000)));
        assert_eq!(taken(&mut wheel, 7_999), [0; 0]);
        assert_eq!(taken(&mut wheel, 8_000), [3]);
        assert_eq!(wheel.next(), Some(Tick::new(10_000)));
        assert_eq!(taken(&mut wheel, 900_000), [2, 1]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn what_is_past_or_far_is_looked_at_soon() {
        let mut wheel = Wheel::new(Tick::new(1_000_000));
        wheel.put(Tick::new(3), 1);
        wheel.put(Tick::new(60_000_000), 2);
        assert_eq!(taken(&mut wheel, 1_001_000), [1]);
        assert_eq!(taken(&mut wheel, 1_254_000), [0; 0]);
        assert_eq!(taken(&mut wheel, 1_255_000), [2], "before it is due: to be put back");
    }

    #[test]
    fn after_a_pause_everything_is_taken() {
        let mut wheel = Wheel::new(Tick::new(0));
        (0..200).for_each(|key| wheel.put(Tick::new(key * 1_000), key));
        assert_eq!(taken(&mut wheel, 90_000_000).len(), 200);
        wheel.put(Tick::new(0), 7);
        assert_eq!(taken(&mut wheel, 90_001_000), [7]);
    }
}
