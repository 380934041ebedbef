//! Which feeds a topic has, and which partitions carry a feed's users.
//!
//! There is a feed for each partition that the topic had when it was first looked at, and this never
//! changes while the process lives. When partitions are added the producer spreads users anew: then
//! every partition carries users of every feed, and a fence of a feed is written under one id for each
//! partition, and has come back when all of them have (coherence row 24).

use std::sync::atomic::{AtomicU16, Ordering};

use seen_filter::feed::FENCE_USERS_MAX;
use seen_filter::{UserId, VirtualSlot};

use crate::lag::Lags;
use crate::partitioner::Partitioner;

/// Ids that are tried to find those of a fence.
const TRIED_MAX: u64 = 1 << 22;

/// How a topic's partitions make feeds.
#[derive(Debug)]
pub(crate) struct Shape {
    partitioner: Partitioner,
    /// How many there were at first.
    first: u16,
    /// How many there are.
    now: AtomicU16,
    /// How far their reading is behind.
    pub lags: Lags,
}

impl Shape {
    pub fn new(partitioner: Partitioner, partitions: u16) -> Self {
        let first = partitions.max(1);
        Self { partitioner, first, now: AtomicU16::new(first), lags: Lags::default() }
    }

    fn is_unknown(&self) -> bool {
        matches!(self.partitioner, Partitioner::Unknown)
    }

    /// How many feeds there are.
    pub fn feeds(&self) -> u16 {
        if self.is_unknown() { 1 } else { self.first }
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u16 {
        self.now.load(Ordering::Acquire)
    }

    /// Partitions were added.
    pub fn widen(&self, partitions: u16) {
        self.now.fetch_max(partitions, Ordering::AcqRel);
    }

    /// True if a feed's users may be in any partition.
    pub fn is_wide(&self) -> bool {
        self.partitions() > self.feeds()
    }

    /// True if a fence can prove anything: it is known which ids lead through which partitions.
    pub fn takes_fences(&self) -> bool {
        !self.is_unknown() || self.partitions() <= 1
    }

    /// The feed of a user.
    pub fn feed_of(&self, user: UserId) -> u16 {
        self.partitioner.partition(user, self.feeds()).unwrap_or(0)
    }

    /// False if no user of this virtual slot is of this feed.
    pub fn carries(&self, feed: u16, slot: VirtualSlot) -> bool {
        self.partitioner.of_slot(slot, self.feeds()).is_none_or(|of_slot| of_slot == feed)
    }

    /// The partitions that carry the users of a feed.
    pub fn sources(&self, feed: u16) -> std::ops::Range<u16> {
        if self.is_wide() { 0..self.partitions() } else { feed..feed.saturating_add(1) }
    }

    /// The ids under which a fence of a feed is written; none where it would prove nothing.
    pub fn fence_users(&self, feed: u16) -> Vec<UserId> {
        let sources = self.sources(feed);
        if sources.len() > FENCE_USERS_MAX || !self.takes_fences() {
            return Vec::new();
        }
        let mut found = vec![None; sources.len()];
        let mut missing = found.len();
        for user in (0..TRIED_MAX).map(UserId::new).filter(|user| self.feed_of(*user) == feed) {
            let Some(partition) = self.partitioner.partition(user, self.partitions()) else {
                break;
            };
            let place = usize::from(partition.saturating_sub(sources.start));
            if let Some(slot @ None) = found.get_mut(place) {
                *slot = Some(user);
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        found.into_iter().collect::<Option<_>>().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use seen_filter::HashKey;

    use super::*;
    use crate::partitioner::{Digits, KeyTemplate};

    fn debezium() -> Partitioner {
        let template = KeyTemplate::parse("{\"user_id\":{user}}", Digits::Signed);
        Partitioner::Key(template.expect("a template"))
    }

    #[test]
    fn a_fence_is_written_under_an_id_of_its_partition() {
        let shape = Shape::new(debezium(), 5);
        for feed in 0..5 {
            let users = shape.fence_users(feed);
            assert_eq!(users.len(), 1);
            assert_eq!(debezium().partition(users[0], 5), Some(feed));
            assert_eq!(shape.sources(feed), feed..feed + 1);
        }
    }

    #[test]
    fn a_feed_carries_the_slots_of_its_users() {
        let key = HashKey::new(1, [9; 16]);
        let slots = Shape::new(Partitioner::Slots(key), 5);
        for user in (0..2_000).map(UserId::new) {
            let (own, slot) = (slots.feed_of(user), key.virtual_slot(user));
            let carrying: Vec<_> = (0..5).filter(|feed| slots.carries(*feed, slot)).collect();
            assert_eq!(carrying, [own], "{user}");
        }
        // Spread in another way: users of one slot are in all of them.
        let keys = Shape::new(debezium(), 5);
        assert!((0..5).all(|feed| keys.carries(feed, VirtualSlot::new(7))));
    }

    #[test]
    fn once_partitions_were_added_a_fence_goes_through_all() {
        let shape = Shape::new(debezium(), 3);
        shape.widen(4);
        assert_eq!(shape.feeds(), 3);
        for feed in 0..3 {
            let users = shape.fence_users(feed);
            let partitions: Vec<_> =
                users.iter().map(|user| debezium().partition(*user, 4)).collect();
            assert_eq!(partitions, [Some(0), Some(1), Some(2), Some(3)]);
            assert!(users.iter().all(|user| shape.feed_of(*user) == feed));
        }
    }

    #[test]
    fn nothing_proves_anything_where_the_partition_is_not_known() {
        let shape = Shape::new(Partitioner::Unknown, 3);
        assert_eq!((shape.feeds(), shape.sources(0)), (1, 0..3));
        assert!(shape.fence_users(0).is_empty());
        let one = Shape::new(Partitioner::Unknown, 1);
        assert_eq!(one.fence_users(0), [UserId::new(0)]);
    }
}
