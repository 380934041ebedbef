//! What people may look at: one entry (for Explain), the partitions, and totals for metrics.

use std::sync::atomic::Ordering;

use seen_filter::state::LayerInfo;
use seen_filter::{CommitStamp, FeedId, Generation, Item, ScopeEpoch, Tick, UserEpoch, UserId};

use super::Rules;
use super::input::Claim;
use super::table::Trust;

/// The state of a user's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// Not cached.
    Absent,
    /// A first build is under way.
    Building,
    /// Cached and believed.
    Ready,
    /// Cached; "unread" is asked in storage.
    Dirty,
}

/// One user's entry, for people.
#[derive(Clone, Debug)]
pub struct EntryView {
    /// Where the entry stands.
    pub state: EntryState,
    /// A build is under way (also beside a Ready entry).
    pub building: bool,
    /// The life of the entry.
    pub generation: Generation,
    /// The epoch that the entry was built in.
    pub epoch: ScopeEpoch,
    /// The highest forget known of.
    pub user_epoch: UserEpoch,
    /// The partition's cover, or the entry's own newer snapshot.
    pub cover: Option<CommitStamp>,
    /// Ids of which a remove is known that the bits may still hold.
    pub contested_items: usize,
    /// Own commits of this user not yet proven to have come back.
    pub journal_rows: usize,
    /// The layers, oldest first.
    pub layers: Vec<LayerInfo>,
    /// Items represented.
    pub items: u64,
    /// Heap bytes behind the entry.
    pub heap_bytes: usize,
    /// The current share of unread items that would be called "seen", by the bits that are set.
    pub estimated_rate: f64,
    /// The item asked for is contested.
    pub contested: bool,
    /// The item asked for is in the journal.
    pub journaled: bool,
    /// What the bits say about the item asked for.
    pub says_seen: Option<bool>,
}

/// One feed partition, for people.
#[derive(Clone, Debug)]
pub struct LaneView {
    /// Which.
    pub feed: FeedId,
    /// The highest position applied.
    pub applied: Option<CommitStamp>,
    /// What is complete.
    pub cover: Option<CommitStamp>,
    /// Raised by every doubt.
    pub epoch: ScopeEpoch,
    /// Microseconds since the feed last proved that nothing is outstanding.
    pub quiet_us: u64,
    /// Events applied since the start.
    pub events: u64,
    /// Events in the ring.
    pub ring_events: usize,
    /// Rows in the journal.
    pub journal_rows: usize,
    /// False until the feed has said where it begins.
    pub following: bool,
    /// False while no user of it may be kept here, so that nobody reads it.
    pub wanted: bool,
}

/// Totals of one namespace, for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Cached users.
    pub users: u64,
    /// Bytes of entries, slots included.
    pub bytes: u64,
    /// Builds under way.
    pub building: u64,
}

impl Rules {
    /// What is known about one user, and what the bits say about `item`.
    pub fn entry(&self, user: UserId, item: Option<Item>) -> EntryView {
        let stripe = self.stripe(user);
        let side = stripe.side.get(&user);
        let building = side.is_some_and(|side| side.build.is_some());
        let lane = self.any_lane(user);
        let mut journaled = false;
        let (epoch, cover, journal_rows) = lane.map_or((ScopeEpoch::default(), None, 0), |lane| {
            let state = lane.state.lock();
            journaled = item.is_some_and(|item| state.journal.adds(user, item).next().is_some());
            (state.epoch, state.cover, state.journal.of(user).count())
        });
        let slot = stripe.find(&self.key, user);
        let state = match slot {
            None if building => EntryState::Building,
            None => EntryState::Absent,
            Some(slot) if slot.trust == Trust::Clean && slot.epoch == epoch => EntryState::Ready,
            Some(_) => EntryState::Dirty,
        };
        EntryView {
            state,
            building,
            generation: slot.map(|slot| slot.generation).unwrap_or_default(),
            epoch: slot.map(|slot| slot.epoch).unwrap_or_default(),
            user_epoch: side.map(|side| side.user_epoch).unwrap_or_default(),
            cover: side.and_then(|side| side.stamp).or(cover),
            contested_items: side.map_or(0, |side| side.contested.len()),
            journal_rows,
            layers: slot.map(|slot| slot.state.describe()).unwrap_or_default(),
            items: slot.map_or(0, |slot| slot.state.items()),
            heap_bytes: slot.map_or(0, |slot| slot.state.heap_bytes()),
            estimated_rate: slot.map_or(0.0, |slot| slot.state.estimated_rate()),
            contested: side.zip(item).is_some_and(|(side, item)| side.is_contested(item)),
            journaled,
            says_seen: slot.zip(item).map(|(slot, item)| slot.state.contains(&self.key, item)),
        }
    }

    /// The feed partitions of this namespace.
    pub fn lanes(&self, now: Tick) -> Vec<LaneView> {
        let view = |lane: &super::lane::Lane| {
            let state = lane.state.lock();
            LaneView {
                feed: lane.feed,
                applied: state.applied,
                cover: state.cover,
                epoch: state.epoch,
                quiet_us: now.since_us(lane.fresh_at()),
                events: state.ring.pushed(),
                ring_events: state.ring.len(),
                journal_rows: state.journal.len(),
                following: lane.following(),
                wanted: lane.wanted(),
            }
        };
        self.lanes.values().map(view).collect()
    }

    /// How many of these claims are neither own nor covered for this user (rule R5). Unlike a read it
    /// leaves no trace.
    pub fn uncovered_claims(&self, user: UserId, claims: &[Claim]) -> usize {
        let Some(lane) = self.any_lane(user) else { return claims.len() };
        let state = lane.state.lock();
        claims.iter().filter(|claim| self.is_foreign(lane, claim) && !state.covers(claim)).count()
    }

    /// True once every partition that is to be read has said where it begins.
    pub fn following_all(&self) -> bool {
        self.lanes.values().all(|lane| lane.following() || !lane.wanted())
    }

    /// Says whether a partition is to be read. `since` is when that was first wanted, 0 if from the start on.
    pub fn want(&self, feed: FeedId, wanted: bool, since: Tick) {
        if let Some(lane) = self.lanes.get(&feed)
            && lane.wanted() != wanted
        {
            lane.set_wanted(wanted, since);
        }
    }

    /// True if a partition is to be read.
    pub fn wants(&self, feed: FeedId) -> bool {
        self.lanes.get(&feed).is_some_and(super::lane::Lane::wanted)
    }

    /// Totals, without the builds under way (counting those visits every stripe: [`Self::census`]).
    pub fn totals(&self) -> Totals {
        let users = u64::try_from(self.users.load(Ordering::Relaxed)).unwrap_or(0);
        Totals { users, bytes: self.bytes_used(), building: 0 }
    }

    /// Totals by visiting every stripe, one short lock at a time.
    pub fn census(&self) -> Totals {
        let mut totals = Totals::default();
        for stripe in &self.stripes {
            let stripe = stripe.lock();
            totals.users += stripe.len() as u64;
            let heap: usize = stripe.iter().map(|slot| slot.state.heap_bytes()).sum();
            totals.bytes += (stripe.slot_bytes() + heap) as u64;
            let building = stripe.side.values().filter(|side| side.build.is_some()).count();
            totals.building += building as u64;
        }
        totals
    }
}
