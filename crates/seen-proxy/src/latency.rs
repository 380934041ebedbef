//! How long answers take: a histogram that forgets, and the time after which a second replica is asked.

/// Four buckets an octave, up to over a minute: what is read from it is at most a quarter too much.
const BUCKETS: usize = 4 * 27;
/// With fewer answers than this nothing is concluded.
const SAMPLES_MIN: u32 = 20;
/// With so many, all counts are halved: what was long ago weighs less.
const SAMPLES_MAX: u32 = 2_048;
/// The share is looked up again after so many answers.
const STALE_AFTER: u32 = 32;

/// Times of answers.
#[derive(Clone, Debug)]
pub struct Latency {
    counts: [u32; BUCKETS],
    total: u32,
    /// Answers since `p95_us` was looked up.
    unseen: u32,
    p95_us: Option<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0, unseen: 0, p95_us: None }
    }
}

fn bucket(us: u64) -> usize {
    let us = us.max(4);
    let octave = us.ilog2() as usize;
    let quarter = (us >> (octave - 2)) as usize & 3;
    ((octave - 2) * 4 + quarter).min(BUCKETS - 1)
}

/// The first time that is no longer in a bucket.
const fn end_us(bucket: usize) -> u64 {
    (4 + bucket as u64 % 4 + 1) << (bucket / 4)
}

impl Latency {
    /// Takes an answer's time down.
    pub fn record(&mut self, us: u64) {
        if let Some(count) = self.counts.get_mut(bucket(us)) {
            *count += 1;
            self.total += 1;
            self.unseen += 1;
        }
        if self.total >= SAMPLES_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
        if self.unseen >= STALE_AFTER || self.total == SAMPLES_MIN {
            self.unseen = 0;
            self.p95_us = (self.total >= SAMPLES_MIN).then(|| self.at_permille(950));
        }
    }

    /// The time within which 95 of 100 come, or `None` while too few came.
    pub const fn p95_us(&self) -> Option<u64> {
        self.p95_us
    }

    /// After how long to ask a second replica: as long as 95 of 100 take, within bounds.
    pub fn hedge_after_us(&self, min_us: u64, max_us: u64) -> u64 {
        self.p95_us.unwrap_or(max_us).clamp(min_us, max_us.max(min_us))
    }

    fn at_permille(&self, permille: u64) -> u64 {
        let wanted = (u64::from(self.total) * permille).div_ceil(1_000);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return end_us(at);
            }
        }
        end_us(BUCKETS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_they_say() {
        for us in (0..5_000).chain([1 << 20, (1 << 28) - 1]) {
            let end = end_us(bucket(us));
            assert!(end > us && end <= us.max(4) * 5 / 4 + 1, "{us}: {end}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_delay_is_what_95_of_100_take() {
        let mut latency = Latency::default();
        assert_eq!(latency.hedge_after_us(2_000, 30_000), 30_000, "nothing is known yet");
        for round in 0..200 {
            latency.record(if round % 10 == 0 { 9_000 } else { 900 });
        }
        let delay = latency.hedge_after_us(2_000, 30_000);
        assert!((9_000..=11_250).contains(&delay), "{delay}");
        let mut quick = Latency::default();
        (0..100).for_each(|_| quick.record(150));
        assert_eq!(quick.hedge_after_us(2_000, 30_000), 2_000, "not before the bound");
        (0..5_000).for_each(|_| quick.record(80_000));
        assert_eq!(quick.hedge_after_us(2_000, 30_000), 30_000, "not after the bound");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut latency = Latency::default();
        (0..2_000).for_each(|_| latency.record(50_000));
        (0..20_000).for_each(|_| latency.record(500));
        assert!(latency.p95_us().is_some_and(|us| us < 1_000));
    }
}
