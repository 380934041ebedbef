//! How much is done at once, and how much a second: what is over is refused at once, and not queued.
//!
//! The limit on concurrent work follows the time that answers take: it rises slowly while they come in time, and falls
//! quickly while they do not. Work that can wait may use less of it, so that it is refused first.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use seen_api::Call;
use seen_filter::Tick;

/// Whose work goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody looks at a screen.
    Feed,
    /// Notifications.
    Push,
    /// Whatever has no deadline of a person.
    Offline,
}

impl Class {
    /// Every class, the most urgent first.
    pub const ALL: [Class; 3] = [Self::Feed, Self::Push, Self::Offline];

    /// The class of a call in the pool of this tag.
    pub fn of(call: Call, tag: &str) -> Self {
        match (tag, call) {
            ("offline", _) => Self::Offline,
            ("push", _) | (_, Call::FilterUsers) => Self::Push,
            _ => Self::Feed,
        }
    }

    /// A short stable name, used as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Push => "push",
            Self::Offline => "offline",
        }
    }

    /// The share of the limit that all work may have taken when work of this class is let in.
    const fn share_percent(self) -> u64 {
        match self {
            Self::Feed => 100,
            Self::Push => 70,
            Self::Offline => 40,
        }
    }
}

/// The limit is looked at this often.
const WINDOW_US: u64 = 100_000;
/// Answers may take this long on the mean, or as many times the usual.
const MEAN_US_MAX: u64 = 20_000;
const USUAL_TIMES: u64 = 3;
/// With fewer answers nothing is concluded.
const ANSWERS_MIN: u64 = 16;
/// The limit never falls below this: it must carry a usual load even where answers wait for storage.
pub const LIMIT_MIN: u64 = 256;
/// Where it begins.
const LIMIT_START: u64 = 4_096;

/// How much may be done at once.
#[derive(Debug)]
pub struct Limit {
    /// False: it stays where it is.
    adapts: bool,
    limit: u64,
    max: u64,
    taken: u64,
    window_from: Tick,
    answers: u64,
    total_us: u64,
    late: u64,
    /// Most that was taken within the window: a limit that nothing reaches is not raised.
    peak: u64,
    usual_us: u64,
}

impl Limit {
    /// A limit of at most `max`.
    pub fn new(max: usize, now: Tick) -> Self {
        let max = (max as u64).max(1);
        Self {
            adapts: true,
            limit: LIMIT_START.min(max),
            max,
            taken: 0,
            window_from: now,
            answers: 0,
            total_us: 0,
            late: 0,
            peak: 0,
            usual_us: 0,
        }
    }

    /// A limit that is always `max`.
    pub fn fixed(max: usize, now: Tick) -> Self {
        let adaptive = Self::new(max, now);
        Self { adapts: false, limit: adaptive.max, ..adaptive }
    }

    /// Lets work of this size in, if there is room for its class. A single one is always let in.
    pub fn enter(&mut self, class: Class, cost: u64) -> bool {
        let room = self.limit * class.share_percent() / 100;
        if self.taken > 0 && self.taken + cost > room {
            self.peak = self.peak.max(self.limit);
            return false;
        }
        self.taken += cost;
        self.peak = self.peak.max(self.taken);
        true
    }

    /// What was let in at one cost is under way at another.
    pub fn settle(&mut self, before: u64, now: u64) {
        self.leave(before);
        self.taken += now;
        self.peak = self.peak.max(self.taken);
    }

    /// It is over.
    pub const fn leave(&mut self, cost: u64) {
        self.taken = self.taken.saturating_sub(cost);
    }

    /// A short call was answered after so long.
    pub fn answered(&mut self, us: u64) {
        self.answers += 1;
        self.total_us += us;
    }

    /// One was not, in time or for want of room.
    pub const fn was_late(&mut self) {
        self.late += 1;
    }

    /// Looks at the last window, if it is over.
    pub fn tick(&mut self, now: Tick) {
        if now.since_us(self.window_from) < WINDOW_US {
            return;
        }
        let seen = self.answers + self.late;
        if self.adapts && seen >= ANSWERS_MIN {
            let mean_us = self.total_us / self.answers.max(1);
            let most_us = MEAN_US_MAX.max(self.usual_us * USUAL_TIMES);
            if mean_us > most_us || self.late * 10 > seen {
                let floor = LIMIT_MIN.min(self.max);
                self.limit = (self.limit * 9 / 10).max(floor);
            } else {
                // The usual follows slowly, and only what was in time.
                self.usual_us = (self.usual_us * 15 + mean_us) / 16;
                if self.peak * 2 > self.limit {
                    self.limit = (self.limit + self.limit / 32 + 8).min(self.max);
                }
            }
        }
        (self.answers, self.total_us, self.late, self.peak) = (0, 0, 0, self.taken);
        self.window_from = now;
    }

    /// How much may be done at once now.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// How much is being done.
    pub const fn taken(&self) -> u64 {
        self.taken
    }
}

/// The most requests a second of some tags. One for all threads of a process.
#[derive(Debug, Default)]
pub struct Rates {
    buckets: BTreeMap<String, Mutex<Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    per_s: f64,
    /// What may be taken now: up to what comes in a tenth of a second. Below 0 after a large message.
    level: f64,
    filled: Tick,
}

impl Rates {
    /// Requests a second by tag; tags that are not named have no bound.
    pub fn new(per_s: BTreeMap<String, u32>) -> Self {
        let bucket = |per_s: u32| {
            let per_s = f64::from(per_s.max(1));
            Mutex::new(Bucket { per_s, level: per_s / 10.0, filled: Tick::new(0) })
        };
        Self { buckets: per_s.into_iter().map(|(tag, per_s)| (tag, bucket(per_s))).collect() }
    }

    /// True if some tag has a bound.
    pub fn is_bounded(&self) -> bool {
        !self.buckets.is_empty()
    }

    /// Takes `requests` of a tag.
    ///
    /// # Errors
    /// After how many microseconds it may be tried again.
    pub fn take(&self, tag: &str, requests: u64, now: Tick) -> Result<(), u64> {
        let Some(bucket) = self.buckets.get(tag) else { return Ok(()) };
        let mut bucket = bucket.lock();
        let since_us = now.since_us(bucket.filled) as f64;
        // At least one, or a low rate would let nothing pass.
        let most = (bucket.per_s / 10.0).max(1.0);
        bucket.level = (bucket.level + since_us * bucket.per_s / 1e6).min(most);
        bucket.filled = bucket.filled.max(now);
        // A message of many users may be larger than what is saved up: it is let in on credit, and paid back.
        if bucket.level >= (requests as f64).min(most) {
            bucket.level -= requests as f64;
            return Ok(());
        }
        let missing = (requests as f64).min(most) - bucket.level;
        Err((missing * 1e6 / bucket.per_s) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(limit: &mut Limit, at: u64, answers: u64, us: u64) {
        (0..answers).for_each(|_| limit.answered(us));
        limit.tick(Tick::new(at * WINDOW_US));
    }

    #[test]
    fn push_and_offline_are_refused_before_feed() {
        let mut limit = Limit::new(1_000, Tick::new(0));
        let mut entered = |class| (0..).take_while(|_| limit.enter(class, 1)).count();
        assert_eq!(entered(Class::Offline), 400);
        assert_eq!(entered(Class::Push), 300);
        assert_eq!(entered(Class::Offline), 0);
        assert_eq!(entered(Class::Feed), 300);
        assert!(!limit.enter(Class::Feed, 1));
        limit.leave(1);
        assert!(!limit.enter(Class::Push, 1));
        assert!(limit.enter(Class::Feed, 1));
    }

    #[test]
    fn slow_answers_lower_it_and_quick_ones_raise_it() {
        let mut limit = Limit::new(100_000, Tick::new(0));
        assert!(limit.enter(Class::Feed, 4_000));
        (1..200).for_each(|at| window(&mut limit, at, 100, 60_000));
        assert_eq!(limit.limit(), LIMIT_MIN);
        (200..600).for_each(|at| window(&mut limit, at, 100, 900));
        assert!(limit.limit() > 4_000, "{}", limit.limit());
        let before = limit.limit();
        limit.leave(4_000);
        (600..700).for_each(|at| window(&mut limit, at, 100, 900));
        assert_eq!(limit.limit(), before, "it is not raised where nothing reaches it");
    }

    #[test]
    fn answers_that_did_not_come_lower_it() {
        let mut limit = Limit::new(100_000, Tick::new(0));
        for at in 1..10 {
            (0..50).for_each(|_| limit.was_late());
            window(&mut limit, at, 100, 900);
        }
        assert!(limit.limit() < 2_000);
    }

    #[test]
    fn a_fixed_one_stays_whatever_answers_take() {
        let mut limit = Limit::fixed(1_000, Tick::new(0));
        (1..50).for_each(|at| {
            (0..50).for_each(|_| limit.was_late());
            window(&mut limit, at, 100, 60_000);
        });
        assert_eq!(limit.limit(), 1_000);
        assert!((0..700).all(|_| limit.enter(Class::Push, 1)));
        assert!(!limit.enter(Class::Push, 1), "push still leaves room for feeds");
    }

    #[test]
    fn a_single_large_one_is_let_in() {
        let mut limit = Limit::new(10, Tick::new(0));
        assert!(limit.enter(Class::Offline, 100));
        assert!(!limit.enter(Class::Feed, 1));
        limit.leave(100);
        assert_eq!(limit.taken(), 0);
    }

    #[test]
    fn a_tag_has_its_rate() {
        let rates = Rates::new(BTreeMap::from([("push".to_owned(), 1_000)]));
        let taken = |now: u64| {
            (0..10_000).filter(|_| rates.take("push", 1, Tick::new(now)).is_ok()).count()
        };
        assert_eq!(taken(0), 100, "a tenth of a second is saved up");
        assert_eq!(rates.take("push", 1, Tick::new(0)), Err(1_000));
        assert_eq!(taken(10_000), 10);
        assert_eq!(taken(60_000_000), 100);
        assert_eq!(rates.take("feed", 1_000_000, Tick::new(0)), Ok(()), "no bound");
    }

    #[test]
    fn a_message_larger_than_what_is_saved_up_is_paid_back() {
        let rates = Rates::new(BTreeMap::from([("push".to_owned(), 1_000)]));
        assert!(rates.take("push", 1_000, Tick::new(0)).is_ok());
        assert!(rates.take("push", 1, Tick::new(900_000)).is_err());
        assert!(rates.take("push", 1, Tick::new(1_000_000)).is_ok());
    }

    #[test]
    fn classes_go_by_tag_and_call() {
        assert_eq!(Class::of(Call::Filter, "feed"), Class::Feed);
        assert_eq!(Class::of(Call::FilterUsers, "feed"), Class::Push);
        assert_eq!(Class::of(Call::Mark, "push"), Class::Push);
        assert_eq!(Class::of(Call::FilterUsers, "offline"), Class::Offline);
    }
}
