//! One replica that follows its only partition, and one user of it: an input of the rules is a line, and so is a look at what came
//! of it.

use std::sync::Arc;

use seen_filter::build::Builder;
use seen_filter::hash::HashKey;
use seen_filter::packed::PackedIds;
use seen_filter::{
    CommitStamp, Domain, FeedBatch, FeedCursor, FeedEvent, FeedId, FenceSeq, GapScope, Generation,
    Incarnation, Item, Kind, NamespaceId, NamespaceSettings, PrimaryId, SnapshotId, Tick, Timeline,
    UnixMillis, UserEpoch, UserId,
};
use seen_replica::rules::{
    CacheBudget, Candidates, Checked, Claim, Effect, Input, Install, Origin, Outcome, Read,
    ReadAnswer, Refusal, Rules, Settings,
};

pub const SECOND_US: u64 = 1_000_000;
pub const USER: UserId = UserId::new(7);
pub const ELSE: UserId = UserId::new(8);
pub const OWN: Incarnation = Incarnation::new(1);
pub const OTHER: Incarnation = Incarnation::new(2);
/// A while after the start.
pub const NOW: Tick = Tick::new(3_600 * SECOND_US);

pub fn after(seconds: u64) -> Tick {
    NOW.plus_us(seconds * SECOND_US)
}

pub fn stamp(position: u64) -> CommitStamp {
    CommitStamp::new(Domain::new(1), Timeline::new(1), position)
}

/// A commit of the same numbers, after storage went on elsewhere.
pub fn stamp_elsewhere(position: u64) -> CommitStamp {
    CommitStamp::new(Domain::new(1), Timeline::new(2), position)
}

pub fn item(n: u64) -> Item {
    Item::new(1, n)
}

pub fn feed() -> FeedId {
    FeedId { namespace: NamespaceId::new(0), ..FeedId::default() }
}

pub fn add(position: u64, n: u64) -> FeedEvent {
    FeedEvent::Add { stamp: stamp(position), user: USER, item: item(n) }
}

pub fn add_else(position: u64) -> FeedEvent {
    FeedEvent::Add { stamp: stamp(position), user: ELSE, item: item(position) }
}

pub fn remove(position: u64, n: u64) -> FeedEvent {
    FeedEvent::Remove { stamp: stamp(position), user: USER, item: item(n) }
}

pub fn complete(position: u64) -> FeedEvent {
    FeedEvent::Complete { stamp: stamp(position) }
}

pub fn fence(position: u64, seq: FenceSeq) -> FeedEvent {
    FeedEvent::Fence { stamp: stamp(position), user: USER, writer: OWN, seq }
}

pub fn user_gap(user: UserId) -> FeedEvent {
    FeedEvent::Gap { scope: GapScope::User(user), reason: "unreadable" }
}

pub fn gap() -> FeedEvent {
    FeedEvent::Gap { scope: GapScope::Partition, reason: "lost" }
}

/// Another replica's write.
pub fn claim(seq: u64, at: Option<CommitStamp>) -> Claim {
    Claim { feed: feed(), writer: OTHER, seq, stamp: at, wildcard: false }
}

/// What a build has read.
pub struct Shown<'a> {
    pub rows: &'a [u64],
    pub lower: Option<CommitStamp>,
    pub user_epoch: u32,
    pub origin: Origin,
}

/// Rows that storage shows, by a read of this commit or later.
pub fn shown(rows: &[u64], position: u64) -> Shown<'_> {
    Shown { rows, lower: Some(stamp(position)), user_epoch: 0, origin: Origin::Storage }
}

/// Rows that storage shows, which does not tell its position.
pub fn unplaced(rows: &[u64]) -> Shown<'_> {
    Shown { lower: None, ..shown(rows, 0) }
}

struct Ids(Vec<u8>);

impl Candidates for Ids {
    fn visit(&self, each: &mut dyn FnMut(Kind, PackedIds<'_>)) {
        each(Kind::new(1), PackedIds::new(&self.0).expect("whole ids"));
    }
}

/// What is said of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Unread,
    Seen,
    /// Storage decides; true if the bits would say "seen".
    Asked(bool),
}

pub struct Case {
    pub rules: Rules,
}

impl Case {
    /// The embedded store's settings, and everything up to commit 1 has come by.
    pub fn new() -> Self {
        Self::with(|settings| settings)
    }

    pub fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let namespace = NamespaceSettings::new(NamespaceId::new(0), "feed_read");
        let cache = Arc::new(CacheBudget::new(u64::MAX));
        let settings = change(Settings::embedded(namespace, OWN, cache));
        let key = HashKey::new(1, [7; 16]);
        let began = Tick::new(SECOND_US);
        let rules = Rules::new(settings, key, &[feed()], Box::new(|_| feed()), began);
        let case = Self { rules };
        case.tell(began, vec![complete(1)]);
        case.tell(NOW, Vec::new());
        case
    }

    /// Has these rows in memory, as of commit 1.
    pub fn cached(self, rows: &[u64]) -> Self {
        let (outcome, _) = self.built(NOW, &shown(rows, 1));
        assert!(matches!(outcome, Outcome::Installed), "{outcome:?}");
        self
    }

    /// The feed says this, and nothing follows.
    pub fn tell(&self, now: Tick, events: Vec<FeedEvent>) -> Vec<Effect> {
        let batch = FeedBatch { events, resume: FeedCursor::default(), caught_up: true };
        self.rules.step(now, Input::Feed { feed: feed(), batch: &batch }).1.to_vec()
    }

    pub fn read(&self, now: Tick, claims: &[Claim], ids: &[u64]) -> (ReadAnswer, Vec<Effect>) {
        self.ask(now, claims, ids, false)
    }

    /// The same with every "seen" confirmed.
    pub fn confirm(&self, now: Tick, ids: &[u64]) -> ReadAnswer {
        self.ask(now, &[], ids, true).0
    }

    fn ask(
        &self,
        now: Tick,
        claims: &[Claim],
        ids: &[u64],
        confirm: bool,
    ) -> (ReadAnswer, Vec<Effect>) {
        let candidates = Ids(ids.iter().flat_map(|id| id.to_le_bytes()).collect());
        let read = Read { user: USER, claims, candidates: &candidates, confirm, build: true };
        match self.rules.step(now, Input::Read(read)) {
            (Outcome::Answer(answer), effects) => (answer, effects.to_vec()),
            (other, _) => panic!("{other:?}"),
        }
    }

    /// What is said of one item to somebody without a token.
    pub fn said(&self, now: Tick, n: u64) -> Said {
        let (answer, _) = self.read(now, &[], &[n]);
        match (answer.seen.get(0), answer.ask.get(0)) {
            (true, _) => Said::Seen,
            (false, true) => Said::Asked(answer.likely.get(0)),
            (false, false) => Said::Unread,
        }
    }

    pub fn begin_build(&self, now: Tick) -> Generation {
        match self.rules.step(now, Input::Rebuild { user: USER }).0 {
            Outcome::Building(generation) => generation,
            other => panic!("{other:?}"),
        }
    }

    pub fn install(
        &self,
        now: Tick,
        generation: Generation,
        shown: &Shown<'_>,
    ) -> (Outcome, Vec<Effect>) {
        let mut builder = Builder::new(self.rules.key(), self.rules.sizing());
        shown.rows.iter().for_each(|n| builder.push(item(*n), UnixMillis::new(0), 0));
        let install = Install {
            user: USER,
            generation,
            state: builder.finish(),
            snapshot: SnapshotId { primary: PrimaryId::new(1), lower_bound: shown.lower },
            user_epoch: UserEpoch::new(shown.user_epoch),
            origin: shown.origin,
        };
        let (outcome, effects) = self.rules.step(now, Input::Install(install));
        (outcome, effects.to_vec())
    }

    /// Builds at one moment.
    pub fn built(&self, now: Tick, shown: &Shown<'_>) -> (Outcome, Vec<Effect>) {
        let generation = self.begin_build(now);
        self.install(now, generation, shown)
    }

    pub fn mark(&self, now: Tick, n: u64, at: Option<CommitStamp>) -> (Outcome, Vec<Effect>) {
        let items = [item(n)];
        let write = match self.rules.step(now, Input::BeginWrite { user: USER, items: &items }).0 {
            Outcome::Began(write) => write,
            other => panic!("{other:?}"),
        };
        let done = Input::Committed { write, user: USER, items: &items, stamp: at };
        let (outcome, effects) = self.rules.step(now, done);
        (outcome, effects.to_vec())
    }

    pub fn unmark(&self, now: Tick, ns: &[u64], at: Option<CommitStamp>) -> Vec<Effect> {
        let write = match self.rules.step(now, Input::BeginWrite { user: USER, items: &[] }).0 {
            Outcome::Began(write) => write,
            other => panic!("{other:?}"),
        };
        let items: Vec<Item> = ns.iter().map(|n| item(*n)).collect();
        let done = Input::Removed { write, user: USER, items: &items, stamp: at };
        self.rules.step(now, done).1.to_vec()
    }

    /// Storage was asked about one item: whether it is seen, and whether that is in doubt.
    pub fn checked(
        &self,
        now: Tick,
        n: u64,
        found: bool,
        lower: Option<CommitStamp>,
    ) -> (bool, bool) {
        let snapshot = SnapshotId { primary: PrimaryId::new(1), lower_bound: lower };
        let items = [item(n)];
        let checked = Checked { user: USER, items: &items, found: &[found], snapshot, asked: now };
        match self.rules.step(now, Input::Checked(checked)).0 {
            Outcome::Decided { seen, contested } => (seen.get(0), contested),
            other => panic!("{other:?}"),
        }
    }

    /// What a peer that asks for the user is given.
    pub fn donated(&self) -> Result<Vec<u8>, Refusal> {
        match self.rules.step(NOW, Input::Donate { user: USER }).0 {
            Outcome::Donated(bytes) => Ok(bytes),
            Outcome::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub fn heartbeat(&self, now: Tick) -> Option<FenceSeq> {
        begun(&self.rules.step(now, Input::Heartbeat).1)
    }
}

/// The fence that is to be written.
pub fn begun(effects: &[Effect]) -> Option<FenceSeq> {
    effects.iter().find_map(|effect| match effect {
        Effect::WriteFence { seq, .. } => Some(*seq),
        _ => None,
    })
}

/// The build that is to be run.
pub fn started(effects: &[Effect]) -> Option<Generation> {
    effects.iter().find_map(|effect| match effect {
        Effect::StartBuild { generation, .. } => Some(*generation),
        _ => None,
    })
}

/// Why a partition or user came into doubt.
pub fn doubts(effects: &[Effect]) -> Vec<&'static str> {
    let doubt = |effect: &Effect| match effect {
        Effect::Doubted { reason, .. } => Some(*reason),
        _ => None,
    };
    effects.iter().filter_map(doubt).collect()
}
