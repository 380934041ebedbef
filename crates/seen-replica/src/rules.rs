//! The rules R1-R10 that keep replicas coherent, as one synchronous core: [`Rules::step`] takes what
//! happened and a tick, and says what to do. No I/O, no clock, no randomness, no spawning; the
//! service, the model tests and the simulation drive this same code.
//!
//! | rule | in one sentence | where |
//! |---|---|---|
//! | R1 | enter Building before the snapshot is read; install snapshot, pending, journal and ring in one step | `build` |
//! | R2 | a snapshot older than what was applied is used only if the ring covers the difference | `build` |
//! | R3 | a transfer is a build whose snapshot is the donor: position first, bits second, clean only | `transfer` |
//! | R4 | commit, insert, acknowledge, in this order | `write` |
//! | R5 | unflagged only if the token is own or covered; else exactly the asked ids are asked in storage | `read`, `late` |
//! | R6 | apply, then advance; complete only at a transaction's end | `apply` |
//! | R7 | cache only users whose partition is followed | `read`, `build` |
//! | R8 | a gap raises the epoch of its scope; entries of an older one are dirty | `apply`, `lane` |
//! | R9 | fences, and comparable stamps, release the journal; time never does | `lane`, `journal` |
//! | R10 | nothing is removed in place: contested ids, rebuilds, suspects | `apply`, `write`, `build` |
//!
//! Locks: a stripe's lock is taken before a lane's, never after, and never two of a kind at once.

mod apply;
mod build;
mod fold;
pub mod input;
mod journal;
mod lane;
mod late;
mod read;
mod ring;
pub mod sabotage;
mod side;
pub mod slots;
mod sync;
mod table;
mod transfer;
mod view;
mod walk;
mod write;

use std::collections::BTreeMap;

use seen_filter::hash::HashKey;
use seen_filter::sizing::Sizing;
use seen_filter::{ChangeFeed, FeedId, Tick, UnixMillis, UserId};

pub use input::{
    CacheBudget, Candidates, Checked, Claim, Doubt, Effect, Effects, Input, Install, Origin,
    Outcome, Read, ReadAnswer, Refusal, Settings,
};
pub use journal::{JOURNAL_ROW_BYTES, WriteId};
pub use lane::CLAIM_WRITERS_MAX;
pub use ring::RING_EVENT_BYTES;
pub use sabotage::Rule;
pub use side::CONTESTED_ITEMS_MAX;
pub use view::{EntryState, EntryView, LaneView, Totals};
pub use walk::Walk;

use lane::Lane;
use sync::{AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering};
use table::{Slot, Stripe};

/// Stripes of the table: one per virtual slot.
pub const STRIPES: usize = 4_096;

/// Tells which feed partition carries a user's events; the source's own function.
pub type FeedOf = Box<dyn Fn(UserId) -> FeedId + Send + Sync>;

/// The coherent state of one namespace at one replica.
pub struct Rules {
    settings: Settings,
    key: HashKey,
    sizing: Sizing,
    feed_of: FeedOf,
    stripes: Box<[Mutex<Stripe>]>,
    lanes: BTreeMap<FeedId, Lane>,
    /// Heap bytes behind the entries, and bytes of the slot arrays.
    bytes: AtomicI64,
    users: AtomicI64,
    storage_ms: AtomicU64,
    hand: AtomicUsize,
    /// A bit for each number of a walk over the table that is taken.
    walks: AtomicU8,
    /// Numbers acknowledgements of users whose partition is not followed here.
    foreign_seq: AtomicU64,
    /// How late a point check may be where rule R5 holds without it; 0 for not at all.
    check_lag_us: u64,
    #[cfg(feature = "sabotage")]
    sabotaged: Option<Rule>,
}

impl Rules {
    /// An empty replica of one namespace.
    ///
    /// `feeds` are the feed partitions that this replica follows; users of others are answered from
    /// storage alone (rule R7).
    pub fn new(
        settings: Settings,
        key: HashKey,
        feeds: &[FeedId],
        feed_of: FeedOf,
        now: Tick,
    ) -> Self {
        Self::with_stripes(STRIPES, settings, key, (feeds, feed_of), now)
    }

    /// The same with all users in one stripe, for models, which make replicas by the thousand.
    pub fn of_one_stripe(
        settings: Settings,
        key: HashKey,
        feeds: &[FeedId],
        feed_of: FeedOf,
        now: Tick,
    ) -> Self {
        Self::with_stripes(1, settings, key, (feeds, feed_of), now)
    }

    /// `stripes` is a power of two.
    fn with_stripes(
        stripes: usize,
        settings: Settings,
        key: HashKey,
        (feeds, feed_of): (&[FeedId], FeedOf),
        now: Tick,
    ) -> Self {
        let seed = settings.incarnation.get();
        let lane = |feed: &FeedId| (*feed, Lane::new(*feed, &settings, seed, now));
        let lanes = feeds.iter().map(lane).collect();
        Self {
            sizing: Sizing::new(
                settings.namespace.false_positive_rate,
                settings.namespace.newest_max,
            ),
            settings,
            key,
            feed_of,
            stripes: (0..stripes).map(|_| Mutex::new(Stripe::default())).collect(),
            lanes,
            bytes: AtomicI64::new(0),
            users: AtomicI64::new(0),
            storage_ms: AtomicU64::new(0),
            hand: AtomicUsize::new(0),
            walks: AtomicU8::new(0),
            foreign_seq: AtomicU64::new(1),
            check_lag_us: 0,
            #[cfg(feature = "sabotage")]
            sabotaged: None,
        }
    }

    /// A [`FeedOf`] that asks a change feed.
    pub fn feed_of_source<F: ChangeFeed + ?Sized>(
        source: std::sync::Arc<F>,
        namespace: seen_filter::NamespaceId,
    ) -> FeedOf {
        Box::new(move |user| source.feed_of(namespace, user))
    }

    /// Decides what follows from `input` at `now`. Called from any thread; steps about one user are
    /// serialised by that user's stripe.
    pub fn step(&self, now: Tick, input: Input<'_>) -> (Outcome, Effects) {
        let mut effects = Effects::new();
        let outcome = match input {
            Input::Read(read) => Outcome::Answer(self.read(now, &read, &mut effects)),
            Input::Checked(checked) => self.checked(&checked, None),
            Input::CheckedLate { checked, from } => self.checked(&checked, Some(from)),
            Input::BeginWrite { user, items } => self.begin_write(user, items),
            Input::Committed { write, user, items, stamp } => {
                self.committed(now, write, (user, items, stamp), &mut effects)
            }
            Input::Uncertain { write, user, items } => {
                self.uncertain(now, write, (user, items), &mut effects)
            }
            Input::Removed { write, user, items, stamp } => {
                self.removed(now, write, (user, items, stamp), &mut effects)
            }
            Input::Forgot { user, epoch, stamp } => {
                self.forgot(now, user, epoch, stamp, &mut effects)
            }
            Input::Abandoned { write, user } => self.abandoned(write, user),
            Input::Feed { feed, batch } => self.apply(now, feed, batch, &mut effects),
            Input::Unfollowed { feed } => self.unfollow(now, feed),
            Input::Install(install) => self.install(now, install, &mut effects),
            Input::BuildFailed { user, generation } => self.build_failed(user, generation),
            Input::Donate { user } => self.donate(user),
            Input::BeginTransfer { user } => self.begin_transfer(now, user),
            Input::Transferred { generation, bytes, user } => {
                self.transferred(now, user, generation, bytes, &mut effects)
            }
            Input::Evict { user } => self.evict_user(user),
            Input::Rebuild { user } => self.rebuild(now, user, &mut effects),
            Input::Shed { entries_max } => self.shed(entries_max),
            Input::FenceWritten { feed, seq } => {
                if let Some(lane) = self.lanes.get(&feed) {
                    lane.state.lock().fences.written(seq);
                }
                Outcome::Done
            }
            Input::FenceFailed(feed, seq) => {
                if let Some(lane) = self.lanes.get(&feed) {
                    lane.state.lock().fences.failed(seq);
                }
                Outcome::Done
            }
            Input::FenceStands { feed, seq, at } => {
                self.fence_stands(now, feed, seq, at, &mut effects)
            }
            Input::Heartbeat => self.heartbeat(now, &mut effects),
            Input::StorageClock(at) => self.storage_clock(at),
            Input::VerifiedUnread { user, item, found, at } => {
                let item = found.then_some(item);
                self.verified_unread(now, user, item, at, &mut effects)
            }
        };
        (outcome, effects)
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The keyed hash of the cluster.
    pub fn key(&self) -> &HashKey {
        &self.key
    }

    /// How filters of this namespace are sized.
    pub fn sizing(&self) -> &Sizing {
        &self.sizing
    }

    fn stripe(&self, user: UserId) -> MutexGuard<'_, Stripe> {
        // A power of two, so that the slot's low bits choose.
        let mask = self.stripes.len() - 1;
        self.stripes[usize::from(self.key.virtual_slot(user).get()) & mask].lock()
    }

    /// The lane of a user, if this replica follows it and the feed has said where it begins.
    fn lane(&self, user: UserId) -> Option<&Lane> {
        let lane = self.lanes.get(&(self.feed_of)(user))?;
        lane.following().then_some(lane)
    }

    /// The lane of a user whether or not its feed has begun: the journal is kept from the first.
    fn any_lane(&self, user: UserId) -> Option<&Lane> {
        self.lanes.get(&(self.feed_of)(user))
    }

    fn count_bytes(&self, change: i64) {
        self.bytes.fetch_add(change, Ordering::Relaxed);
        self.settings.cache.count(change);
    }

    fn bytes_used(&self) -> u64 {
        u64::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    fn storage_clock(&self, at: UnixMillis) -> Outcome {
        self.storage_ms.fetch_max(at.get(), Ordering::Relaxed);
        Outcome::Done
    }

    /// The storage's clock as last heard, 0 if never.
    fn storage_now(&self) -> UnixMillis {
        UnixMillis::new(self.storage_ms.load(Ordering::Relaxed))
    }

    /// The bucket of rows that are committed now; 0 where nothing expires.
    fn bucket_now(&self) -> u32 {
        let retention = self.settings.namespace.retention;
        retention.map_or(0, |retention| retention.bucket_at(self.storage_now()))
    }

    fn put(&self, stripe: &mut Stripe, slot: Slot) -> Option<Slot> {
        let before = stripe.slot_bytes() as i64;
        let added = slot.state.heap_bytes() as i64;
        let replaced = stripe.put(&self.key, slot);
        let freed = replaced.as_ref().map_or(0, |old| old.state.heap_bytes() as i64);
        if replaced.is_none() {
            self.users.fetch_add(1, Ordering::Relaxed);
        }
        self.count_bytes(stripe.slot_bytes() as i64 - before + added - freed);
        replaced
    }

    fn forget_slot(&self, slot: &Slot) {
        self.users.fetch_sub(1, Ordering::Relaxed);
        self.count_bytes(-(slot.state.heap_bytes() as i64));
    }

    fn drop_entry(&self, stripe: &mut Stripe, user: UserId) -> Option<Slot> {
        let slot = stripe.remove(&self.key, user)?;
        self.forget_slot(&slot);
        Some(slot)
    }

    fn evict_user(&self, user: UserId) -> Outcome {
        let mut stripe = self.stripe(user);
        // Row 8: a build under way keeps what it holds back; only the Ready entry goes.
        let dropped = self.drop_entry(&mut stripe, user);
        if let Some(side) = stripe.side.get_mut(&user) {
            side.stamp = None;
            // A build that began before a remove needs the list of removes still.
            if side.build.is_none() {
                stripe.side.remove(&user);
            }
        }
        drop(stripe);
        Outcome::Shed(usize::from(dropped.is_some()))
    }

    /// Frees cold entries while over the bound, a stripe at a time, so that nobody waits long.
    fn shed(&self, entries_max: usize) -> Outcome {
        let mut freed = 0;
        let mut idle = 0;
        let stripes = self.stripes.len();
        while freed < entries_max && idle < stripes * 4 {
            if !self.settings.cache.exceeded() {
                break;
            }
            let at = self.hand.fetch_add(1, Ordering::Relaxed) % stripes;
            let evicted = self.stripes[at].lock().evict(&self.key, 64);
            match evicted {
                Some(slot) => {
                    self.forget_slot(&slot);
                    freed += 1;
                    idle = 0;
                }
                None => idle += 1,
            }
        }
        Outcome::Shed(freed)
    }

    fn heartbeat(&self, now: Tick, effects: &mut Effects) -> Outcome {
        // No fence comes back through a partition that nobody reads.
        for lane in self.lanes.values().filter(|lane| lane.wanted()) {
            let mut state = lane.state.lock();
            let wanted = state.fences.wanted() || state.waits_for_fence();
            if self.settings.heartbeat_fences || wanted {
                self.begin_fence(now, lane.feed, &mut state, effects);
            }
        }
        Outcome::Done
    }

    fn begin_fence(
        &self,
        now: Tick,
        feed: FeedId,
        state: &mut lane::LaneState,
        effects: &mut Effects,
    ) {
        let next_own_seq = state.journal.next_seq();
        if let Some(seq) =
            state.fences.begin(now, next_own_seq, self.settings.fence_interval_us_min)
        {
            effects.push(Effect::WriteFence { feed, seq });
            if !self.defends(sabotage::Rule::R9Begun) {
                self.fence_returned(state, self.settings.incarnation, seq);
            }
        }
    }
}
