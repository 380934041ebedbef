//! Random stories of point checks that may be late: marks and unmarks here and elsewhere, a feed that
//! lags, loses and is cut, and snapshots from any moment that a late check may be of. Whoever carries a
//! write's token, or is answered by the replica that acknowledged it, is not told otherwise unless the
//! answer is flagged.

#[allow(dead_code, reason = "each test uses its part")]
mod lone;

use std::sync::Arc;

use seen_filter::hash::HashKey;
use seen_filter::packed::PackedIds;
use seen_filter::{
    FeedBatch, FeedCursor, FeedEvent, FeedId, GapScope, Incarnation, Item, Kind, PrimaryId,
    SnapshotId, Tick, UserId,
};
use seen_replica::rules::{
    CacheBudget, Candidates, Checked, Claim, Input, Outcome, Read, ReadAnswer, Rules, Settings,
};

use lone::{NOW, item, namespace, stamp};

const LAG_US: u64 = 5_000_000;
const STORIES: u64 = 3_000;
const STEPS: u64 = 60;
const ITEMS: u64 = 3;
const OWN: Incarnation = Incarnation::new(1);
const OTHER: Incarnation = Incarnation::new(2);

/// All items.
struct Ids(Vec<u8>);

impl Candidates for Ids {
    fn visit(&self, each: &mut dyn FnMut(Kind, PackedIds<'_>)) {
        each(Kind::new(1), PackedIds::new(&self.0).expect("whole ids"));
    }
}

/// A commit in storage, at the position of its place plus 1.
#[derive(Clone, Copy, Debug)]
struct Commit {
    at: Tick,
    user: UserId,
    item: u64,
    is_add: bool,
    own: bool,
    claim: Claim,
}

/// A read that waits for its check.
struct Asked {
    user: UserId,
    /// The places of the commits that its answer must respect.
    knows: Vec<usize>,
    late_from: Option<Tick>,
}

#[derive(Default, Debug)]
struct Told {
    late: u64,
    fresh: u64,
    late_without_a_row: u64,
    flagged: u64,
}

struct Story {
    rules: Rules,
    seed: u64,
    now: Tick,
    log: Vec<Commit>,
    delivered: usize,
    told: Told,
}

fn feed() -> FeedId {
    FeedId { namespace: namespace().id, ..FeedId::default() }
}

impl Story {
    fn new(seed: u64) -> Self {
        let cache = Arc::new(CacheBudget::new(u64::MAX));
        // The ring holds 16 events at least.
        let settings =
            Settings { ring_bytes_max: 0, ..Settings::embedded(namespace(), OWN, cache) };
        let key = HashKey::new(1, [7; 16]);
        let rules = Rules::new(settings, key, &[feed()], Box::new(|_| feed()), NOW);
        let rules = rules.with_late_checks(LAG_US);
        let (log, told) = (Vec::new(), Told::default());
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut story = Self { rules, seed, now: NOW, log, delivered: 0, told };
        story.tell(Vec::new());
        story.now = story.now.plus_us(60_000_000);
        story.tell(Vec::new());
        story
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 20) % bound
    }

    fn position(place: usize) -> u64 {
        place as u64 + 2
    }

    /// Some events come by, and everything up to them is complete.
    fn tell(&mut self, mut events: Vec<FeedEvent>) {
        events.push(FeedEvent::Complete { stamp: stamp(Self::position(self.delivered) - 1) });
        let caught_up = self.delivered == self.log.len();
        let batch = FeedBatch { events, resume: FeedCursor::default(), caught_up };
        self.rules.step(self.now, Input::Feed { feed: feed(), batch: &batch });
    }

    fn deliver(&mut self) {
        let open = (self.log.len() - self.delivered) as u64;
        let next = self.delivered + self.below(open + 1) as usize;
        let event = |(place, commit): (usize, &Commit)| {
            let (stamp, user, item) =
                (stamp(Self::position(place)), commit.user, item(commit.item));
            match commit.is_add {
                true => FeedEvent::Add { stamp, user, item },
                false => FeedEvent::Remove { stamp, user, item },
            }
        };
        let all = self.log.iter().enumerate().take(next).skip(self.delivered);
        let mut events: Vec<FeedEvent> = all.map(event).collect();
        if self.below(12) == 0 {
            // They are lost, and that is noticed.
            events = vec![FeedEvent::Gap { scope: GapScope::Partition, reason: "lost" }];
        }
        self.delivered = next;
        self.tell(events);
    }

    fn write(&mut self) {
        let (user, id) = (UserId::new(self.below(2)), self.below(ITEMS));
        let (is_add, own) = (self.below(3) > 0, self.below(2) == 0);
        let position = Self::position(self.log.len());
        let told = (self.below(3) > 0).then(|| stamp(position));
        let items = [item(id)];
        let mut claim =
            Claim { feed: feed(), writer: OTHER, seq: position, stamp: told, wildcard: false };
        if own {
            let named: &[Item] = if is_add { &items } else { &[] };
            let begun = self.rules.step(self.now, Input::BeginWrite { user, items: named });
            let Outcome::Began(write) = begun.0 else { panic!("a write begins") };
            let input = match is_add {
                true => Input::Committed { write, user, items: &items, stamp: told },
                false => Input::Removed { write, user, items: &items, stamp: told },
            };
            let Outcome::Acknowledged(own) = self.rules.step(self.now, input).0 else {
                panic!("a write is acknowledged")
            };
            claim = own;
        }
        self.log.push(Commit { at: self.now, user, item: id, is_add, own, claim });
    }

    fn ask(&mut self) -> Asked {
        let user = UserId::new(self.below(2));
        let carried: Vec<usize> = (0..self.below(3).min(self.log.len() as u64))
            .map(|_| self.below(self.log.len() as u64) as usize)
            .collect();
        let claims: Vec<Claim> = carried.iter().map(|place| self.log[*place].claim).collect();
        let ids: Vec<u8> = (0..ITEMS).flat_map(u64::to_le_bytes).collect();
        let candidates = Ids(ids);
        let read =
            Read { user, claims: &claims, candidates: &candidates, confirm: false, build: false };
        let Outcome::Answer(ReadAnswer { ask, late_from, .. }) =
            self.rules.step(self.now, Input::Read(read)).0
        else {
            panic!("a read is answered")
        };
        assert_eq!(ask.count() as u64, ITEMS, "nobody is cached");
        let own = (0..self.log.len()).filter(|place| self.log[*place].own);
        Asked { user, knows: own.chain(carried).collect(), late_from }
    }

    /// What storage held after its first `commits`.
    fn rows(&self, user: UserId, commits: usize) -> [bool; ITEMS as usize] {
        let mut rows = [false; ITEMS as usize];
        for commit in self.log[..commits].iter().filter(|commit| commit.user == user) {
            rows[commit.item as usize] = commit.is_add;
        }
        rows
    }

    /// `began` is how many commits there were when the check began.
    fn answer(&mut self, asked: &Asked, began: usize) {
        let of = match asked.late_from {
            None => began,
            Some(from) => {
                let shown = self.log[..began].iter().filter(|commit| commit.at <= from).count();
                shown + self.below((began - shown) as u64 + 1) as usize
            }
        };
        let found = self.rows(asked.user, of);
        let items: Vec<Item> = (0..ITEMS).map(item).collect();
        let snapshot = SnapshotId { primary: PrimaryId::new(0), lower_bound: None };
        let checked = Checked {
            user: asked.user,
            items: &items,
            found: &found,
            snapshot,
            asked: Tick::new(0),
        };
        let input = checked.answering(asked.late_from);
        let Outcome::Decided { seen, contested } = self.rules.step(self.now, input).0 else {
            panic!("a check is decided on")
        };
        if contested {
            self.told.flagged += 1;
            return;
        }
        for (at, has_row) in found.into_iter().enumerate() {
            let seen = seen.get(at);
            self.judge(asked, at as u64, seen, of);
            let lacked = asked.late_from.is_some() && seen && !has_row;
            self.told.late_without_a_row += u64::from(lacked);
        }
        match asked.late_from {
            Some(_) => self.told.late += 1,
            None => self.told.fresh += 1,
        }
    }

    /// What is said must be so, or have become so after the last write that is known to the caller.
    fn judge(&self, asked: &Asked, id: u64, seen: bool, of: usize) {
        let named = |place: &usize| {
            let commit = &self.log[*place];
            commit.user == asked.user && commit.item == id
        };
        let last = asked.knows.iter().copied().filter(named).max();
        let later = last.map_or(0, |last| last + 1)..self.log.len();
        let became = later.clone().filter(named).any(|place| self.log[place].is_add == seen);
        let is_so = last.map_or(!seen, |last| self.log[last].is_add == seen);
        assert!(
            is_so || became,
            "said seen = {seen} about {id} of {}, of the first {of}; last known {last:?}: {:#?}",
            asked.user,
            self.log
        );
    }

    fn run(mut self) -> Told {
        for _ in 0..STEPS {
            match self.below(6) {
                0 | 1 => self.write(),
                2 | 3 => self.deliver(),
                4 => self.now = self.now.plus_us(1 + self.below(4_000_000)),
                _ => {
                    let asked = self.ask();
                    let mut began = self.log.len();
                    for _ in 0..self.below(3) {
                        match self.below(3) {
                            0 => self.write(),
                            1 => self.deliver(),
                            _ => self.now = self.now.plus_us(self.below(100_000)),
                        }
                        if self.below(2) == 0 {
                            began = self.log.len();
                        }
                    }
                    self.answer(&asked, began);
                }
            }
        }
        self.told
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "the figures are worth seeing")]
fn late_checks_say_nothing_that_a_token_denies() {
    let mut all = Told::default();
    for seed in 0..STORIES {
        let told = Story::new(seed).run();
        all.late += told.late;
        all.fresh += told.fresh;
        all.late_without_a_row += told.late_without_a_row;
        all.flagged += told.flagged;
    }
    eprintln!("{STORIES} stories: {all:?}");
    // They show something: late answers, some of which memory has put right.
    assert!(all.late > STORIES && all.late_without_a_row > STORIES / 10, "{all:?}");
    assert!(all.flagged < all.late + all.fresh, "{all:?}");
}
