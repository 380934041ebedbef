//! A world in memory around two real cores: storage, feeds, callers with tokens, builds and transfers,
//! each of which goes on only when an action says so. After every step the promise is checked.

pub mod action;
pub mod build;
pub mod config;
mod feed;
mod fence;
mod heal;
mod lives;
mod oracle;
mod read;
mod slots;
mod storage;
mod story;
mod topic;
mod transfer;
pub mod write;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use seen_filter::{HashKey, Incarnation, NamespaceId, NamespaceSettings, Tick, UserId};
use seen_replica::rules::{CacheBudget, Claim, Effect, Input, Outcome, Refusal, Rules, Settings};

use crate::landmark::{Landmark, Landmarks};
pub use action::Action;
pub use config::{Clock, Config};
pub use oracle::{Promise, Violation};
pub use story::Story;

use action::name;
use build::Build;
use config::{PARTITIONS, SESSIONS, USERS};
use feed::Reader;
use fence::Fence;
use read::ReadInFlight;
use storage::{Storage, feed};
use transfer::Transfer;
use write::{Op, OpKind};

/// One replica: the real core, and where its readers stand.
pub struct Replica {
    pub rules: Rules,
    pub incarnation: u64,
    wildcards: u64,
    readers: [Reader; PARTITIONS],
    /// The partitions whose users it may keep, as the map of slots says (coherence rows 34 and 35).
    owned: [bool; PARTITIONS],
    /// Fences by partition and number of which it knows since its last doubt that they are written.
    written: BTreeSet<(usize, u64)>,
    steps: u64,
    /// A hash of everything that went in: the core's state is a function of it.
    trace: u64,
}

/// A caller: its token, and the acknowledged writes that the token stands for.
#[derive(Default)]
pub struct Session {
    claims: Vec<Claim>,
    knows: BTreeSet<usize>,
}

/// The world.
pub struct World {
    pub config: Config,
    pub storage: Storage,
    pub replicas: Vec<Replica>,
    pub ops: Vec<Op>,
    pub reads: Vec<ReadInFlight>,
    pub builds: Vec<Build>,
    pub transfers: Vec<Transfer>,
    pub fences: Vec<Fence>,
    sessions: Vec<Session>,
    waited_us: u64,
    actions: u64,
    next_id: u64,
    /// How the promise was broken.
    pub violation: Option<Violation>,
    /// What happened on the way, until all heals.
    pub reached: Landmarks,
    heals: bool,
    /// What happened, if anybody listens.
    pub story: Option<Story>,
}

fn rules(config: &Config, replica: usize, incarnation: u64, now: Tick) -> Rules {
    let settings = Settings {
        namespace: NamespaceSettings::new(NamespaceId::new(0), "reads"),
        incarnation: Incarnation::new(incarnation),
        cache: Arc::new(CacheBudget::new(0)),
        pending_events_max: config.pending_events,
        fence_interval_us_min: 1_000_000,
        ring_bytes_max: config.ring_bytes(),
        journal_bytes_max: config.journal_bytes(),
        snapshot_lag_us_max: config.lag_us,
        feed_stale_us_max: config.stale_us,
        heartbeat_fences: config.fences,
        quiet_is_fresh: config.quiet_is_fresh(),
    };
    let unfollowed = if config.partial && replica == 1 { 2 } else { 0 };
    let followed = config.partitions - unfollowed;
    let feeds: Vec<_> = (0..followed).map(feed).collect();
    let feed_of = Box::new(|user: UserId| feed(storage::partition_of(user.get())));
    let rules = Rules::of_one_stripe(settings, HashKey::new(1, [7; 16]), &feeds, feed_of, now);
    #[cfg(feature = "sabotage")]
    let rules = match config.sabotage {
        Some(rule) => rules.sabotaged(rule),
        None => rules,
    };
    rules
}

impl World {
    /// A world in which nothing has happened.
    pub fn new(config: Config) -> Self {
        let now = Tick::new(config.start_us);
        let replica = |replica: usize| Replica {
            rules: rules(&config, replica, 100 + replica as u64, now),
            incarnation: 100 + replica as u64,
            wildcards: 0,
            readers: Default::default(),
            owned: [true; PARTITIONS],
            written: BTreeSet::new(),
            steps: 0,
            trace: 0,
        };
        let mut world = Self {
            config,
            storage: Storage::new(config),
            replicas: vec![replica(0), replica(1)],
            ops: Vec::new(),
            reads: Vec::new(),
            builds: Vec::new(),
            transfers: Vec::new(),
            fences: Vec::new(),
            sessions: (0..=SESSIONS).map(|_| Session::default()).collect(),
            waited_us: config.start_us,
            actions: 0,
            next_id: 0,
            violation: None,
            reached: Landmarks::default(),
            heals: false,
            story: None,
        };
        if !config.closed {
            for replica in 0..2 {
                (0..config.partitions).for_each(|partition| world.open(replica, partition));
            }
        }
        world
    }

    /// Lets one thing happen. False if there was nothing for it to act on.
    pub fn act(&mut self, action: Action) -> bool {
        if self.violation.is_some() {
            return false;
        }
        self.actions += 1;
        self.storage.settle(self.storage_now());
        if self.story.is_none() {
            return self.act_of_callers(action);
        }
        let before = self.views();
        self.begin_telling(action);
        let moved = self.act_of_callers(action);
        self.end_telling(&before, moved);
        moved
    }

    /// The actions that callers take part in, and what becomes of their writes and reads.
    fn act_of_callers(&mut self, action: Action) -> bool {
        match action {
            Action::Wait(us) => {
                self.waited_us += u64::from(us);
                self.say(|| format!("{us} us pass"));
                self.storage.settle(self.storage_now());
                true
            }
            Action::Mark { replica, session, user, items } => {
                self.begin(OpKind::Mark, (replica, session, user, items))
            }
            Action::Unmark { replica, session, user, items } => {
                self.begin(OpKind::Unmark, (replica, session, user, items))
            }
            Action::Forget { replica, session, user } => {
                self.begin(OpKind::Forget, (replica, session, user, 0))
            }
            Action::Commit { op, with } => self.commit(op, with),
            Action::Show => self.show(),
            Action::Committed { op } => self.ack(op),
            Action::Uncertain { op } => self.lose(op),
            Action::Abandoned { op } => self.fail(op),
            Action::Read { replica, session, user, items } => {
                self.read(replica, session, user, items)
            }
            Action::Check { read } => self.check(read),
            Action::Checked { read } => self.answer(read),
            Action::Drop { read } => self.drop_read(read),
            _ => self.act_behind(action),
        }
    }

    /// The actions that no caller takes part in.
    fn act_behind(&mut self, action: Action) -> bool {
        match action {
            Action::Page { build, stale } => self.page(build, stale),
            Action::Install { build } => self.install(build),
            Action::BuildFailed { build } => self.fail_build(build),
            Action::BeginTransfer { replica, user } => self.request(replica, user),
            Action::Donate { transfer } => self.donate(transfer),
            Action::Transferred { transfer, torn } => self.arrive(transfer, torn),
            Action::WriteFence { fence } => self.fence(fence),
            Action::LoseFence { fence, late } => self.lose_fence(fence, late),
            Action::FenceWritten { fence } => self.tell_fence(fence),
            Action::Evict { replica, user } => {
                let user = UserId::new(pick(&USERS, user));
                self.reach(Landmark::Evicted);
                self.order(replica, "evicts", user, Input::Evict { user })
            }
            Action::Rebuild { replica, user } => {
                let user = UserId::new(pick(&USERS, user));
                self.order(replica, "is told to rebuild", user, Input::Rebuild { user })
            }
            Action::Shed { replica } => {
                let replica = usize::from(replica) % 2;
                self.say(|| format!("{} frees everything that it may", name(replica)));
                self.trace(replica, "shed");
                self.step(replica, Input::Shed { entries_max: 100 });
                true
            }
            Action::Heartbeat { replica } => {
                let replica = usize::from(replica) % 2;
                self.say(|| format!("{}'s heartbeat", name(replica)));
                self.trace(replica, "heartbeat");
                self.step(replica, Input::Heartbeat);
                true
            }
            Action::Merge { from, into } => self.merge_sessions(from, into),
            Action::Moved { session } => self.moved(session),
            Action::OwnSlots { replica, owned } => self.own_slots(replica, owned),
            Action::Crash { replica } => self.crash(replica),
            Action::Restore { lost, gap } => self.restore(lost, gap),
            Action::Promote { lost, gap } => self.promote(lost, gap),
            _ => self.act_in_feed(action),
        }
    }

    /// What happens between storage and the replicas.
    fn act_in_feed(&mut self, action: Action) -> bool {
        match action {
            Action::Open { replica, partition } => {
                let (replica, partition) = (usize::from(replica) % 2, usize::from(partition));
                self.open_if_closed(replica, partition % PARTITIONS)
            }
            Action::Unfollowed { replica, partition } => self.unfollowed(replica, partition),
            Action::Feed { replica, partition, rows, complete } => {
                self.deliver(replica, partition, rows, complete)
            }
            Action::Rewind { replica, partition, rows } => self.rewind(replica, partition, rows),
            Action::TearDown { replica, rows } => self.tear_down(replica, rows),
            Action::Produce { partition, rows } => self.produce(partition, rows),
            Action::ProduceAgain { partition, rows } => self.produce_again(partition, rows),
            Action::Swallow { replica, partition } => self.swallow(replica, partition),
            Action::Doubt { replica, scope } => self.doubt(replica, scope),
            Action::Gap { replica, partition, rows } => self.gap(replica, partition, rows),
            Action::Poison { replica, partition } => self.poison(replica, partition),
            _ => false,
        }
    }

    fn order(&mut self, replica: u8, what: &str, user: UserId, input: Input<'_>) -> bool {
        let replica = usize::from(replica) % 2;
        self.say(|| format!("{} {what} u{user}", name(replica)));
        self.trace(replica, (what, user));
        self.step(replica, input);
        true
    }

    /// Notes that something interesting has happened.
    fn reach(&mut self, landmark: Landmark) {
        if !self.heals {
            self.reached.reach(landmark);
        }
    }

    /// The tick of storage.
    fn storage_now(&self) -> u64 {
        match self.config.clock {
            Clock::Global => self.waited_us + self.actions,
            Clock::PerReplica => self.waited_us,
        }
    }

    /// The tick of a replica.
    fn now(&self, replica: usize) -> Tick {
        Tick::new(match self.config.clock {
            Clock::Global => self.waited_us + self.actions,
            Clock::PerReplica => self.waited_us + self.replicas[replica].steps,
        })
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Notes what goes into a replica.
    fn trace(&mut self, replica: usize, what: impl Hash) {
        if self.config.clock == Clock::Global {
            return;
        }
        let now = self.now(replica);
        let replica = &mut self.replicas[replica];
        replica.trace = hash_of(&(replica.trace, now, what));
    }

    /// Hands an input to a replica's core and notes what must be done next.
    fn step(&mut self, replica: usize, input: Input<'_>) -> Outcome {
        self.replicas[replica].steps += 1;
        let now = self.now(replica);
        let (outcome, effects) = self.replicas[replica].rules.step(now, input);
        let incarnation = self.replicas[replica].incarnation;
        if let Outcome::Refused(refusal) = &outcome {
            self.reach(landmark_of(*refusal));
        }
        for effect in effects {
            match effect {
                Effect::StartBuild { user, generation, .. } => {
                    self.say(|| format!("{} begins build {generation} of u{user}", name(replica)));
                    self.builds.push(Build::new(replica, user.get(), generation));
                }
                Effect::WriteFence { feed, seq } => {
                    let partition = usize::from(feed.partition.get());
                    self.say(|| format!("{} wants fence {seq} of p{partition}", name(replica)));
                    self.fences.push(Fence::new(replica, incarnation, partition, seq));
                }
                Effect::Doubted { feed, reason } => {
                    self.reach(Landmark::Doubted);
                    let doubted = usize::from(feed.partition.get());
                    self.replicas[replica].written.retain(|(partition, _)| *partition != doubted);
                    self.say(|| format!("{} doubts {feed}: {reason}", name(replica)));
                }
            }
        }
        outcome
    }

    /// Everything that later steps depend on, for an exhaustive search.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.waited_us.hash(&mut hasher);
        self.violation.is_some().hash(&mut hasher);
        self.storage.hash(&mut hasher);
        for replica in &self.replicas {
            (replica.trace, replica.steps, &replica.readers).hash(&mut hasher);
            (replica.incarnation, replica.wildcards, &replica.written).hash(&mut hasher);
            replica.owned.hash(&mut hasher);
        }
        self.ops.hash(&mut hasher);
        (unordered(&self.reads), unordered(&self.builds)).hash(&mut hasher);
        (unordered(&self.transfers), unordered(&self.fences)).hash(&mut hasher);
        for session in &self.sessions {
            session.knows.hash(&mut hasher);
            let claims = session.claims.iter();
            claims.for_each(|c| (c.writer, c.seq, c.stamp, c.wildcard).hash(&mut hasher));
        }
        hasher.finish()
    }
}

fn landmark_of(refusal: Refusal) -> Landmark {
    match refusal {
        Refusal::Generation => Landmark::RefusedGeneration,
        Refusal::Epoch => Landmark::RefusedEpoch,
        Refusal::StaleSnapshot => Landmark::RefusedStaleSnapshot,
        Refusal::UserEpoch => Landmark::RefusedUserEpoch,
        Refusal::NotFollowed => Landmark::RefusedNotFollowed,
        Refusal::PendingOverflow => Landmark::RefusedPendingOverflow,
        Refusal::NotClean | Refusal::Torn => Landmark::RefusedNotClean,
    }
}

/// A hash that is the same in every run.
pub fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// What is under way has no order of its own.
fn unordered<T: Hash>(all: &[T]) -> u64 {
    all.iter().map(hash_of).fold(all.len() as u64, u64::wrapping_add)
}

/// The element that a selector chooses.
pub fn pick<T: Copy>(from: &[T], selector: u8) -> T {
    from[usize::from(selector) % from.len()]
}

/// The index that a selector chooses among those that `fits`.
pub fn nth<T>(from: &[T], selector: u8, fits: impl Fn(&T) -> bool) -> Option<usize> {
    let fitting: Vec<usize> =
        from.iter().enumerate().filter(|(_, one)| fits(one)).map(|(at, _)| at).collect();
    (!fitting.is_empty()).then(|| fitting[usize::from(selector) % fitting.len()])
}
