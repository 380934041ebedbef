//! What the double holds: every version of every row, and the whole commit log, so that reads can be
//! answered as of any earlier commit.

use std::collections::BTreeMap;
use std::ops::Bound;

use seen_filter::history::{Row, Write, WriteOp};
use seen_filter::{
    CommitStamp, FeedEvent, FeedId, FenceSeq, Incarnation, Item, NamespaceId, NamespaceSettings,
    RowKey, ScannedRow, Shard, TimeRule, UnixMillis, UserEpoch, UserId,
};

use super::MemoryOptions;
use crate::request::partition_of;

/// A row's key. Its order is the double's key order.
type Key = (u16, UserId, Item);

/// A row from some commit on; `None`: removed.
#[derive(Clone, Copy, Debug)]
struct Version {
    position: u64,
    row: Option<Row>,
}

/// Rows, epochs and the log.
#[derive(Debug)]
pub(crate) struct State {
    pub options: MemoryOptions,
    pub namespaces: Vec<NamespaceSettings>,
    rows: BTreeMap<Key, Vec<Version>>,
    epochs: BTreeMap<(u16, UserId), Vec<(u64, u32)>>,
    /// Commit `n` is at index `n - 1`.
    log: Vec<BTreeMap<FeedId, Vec<FeedEvent>>>,
    /// The last commit whose events are no longer kept.
    pub floor: u64,
    latest: UnixMillis,
}

impl State {
    pub(crate) fn new(options: MemoryOptions, namespaces: Vec<NamespaceSettings>) -> Self {
        Self {
            options,
            namespaces,
            rows: BTreeMap::new(),
            epochs: BTreeMap::new(),
            log: Vec::new(),
            floor: 0,
            latest: UnixMillis::new(0),
        }
    }

    /// The last commit's number.
    pub(crate) fn head(&self) -> u64 {
        self.log.len() as u64
    }

    /// The stamp of a commit.
    pub(crate) fn stamp(&self, position: u64) -> CommitStamp {
        CommitStamp::new(self.options.domain, self.options.timeline, position)
    }

    pub(crate) fn feed_of(&self, namespace: NamespaceId, user: UserId) -> FeedId {
        let partition = partition_of(&self.options.hash_key, user, self.options.partitions);
        FeedId::new(namespace, Shard::new(0), partition)
    }

    /// The storage time of a commit; it never goes back.
    fn commit_time(&mut self) -> UnixMillis {
        self.latest = self.latest.max(self.options.clock.now());
        self.latest
    }

    /// Commits writes that were validated; returns the commit's number.
    pub(crate) fn write(&mut self, writes: &[Write]) -> u64 {
        let position = self.head() + 1;
        let now = self.commit_time();
        let mut net = BTreeMap::new();
        for write in writes {
            for (item, time) in &write.items {
                let key = (write.namespace.get(), write.user, *item);
                self.put(key, write.op, time.unwrap_or(now), now, position);
                net.insert(key, write.op);
            }
        }
        // One event a row: within a position an add and a remove would have no order.
        let stamp = self.stamp(position);
        let mut events = BTreeMap::<FeedId, Vec<FeedEvent>>::new();
        for ((namespace, user, item), op) in net {
            let feed = self.feed_of(NamespaceId::new(namespace), user);
            events.entry(feed).or_default().push(match op {
                WriteOp::Append => FeedEvent::Add { stamp, user, item },
                WriteOp::Remove => FeedEvent::Remove { stamp, user, item },
            });
        }
        self.log.push(events);
        position
    }

    fn put(&mut self, key: Key, op: WriteOp, time: UnixMillis, now: UnixMillis, position: u64) {
        let Some(settings) = self.namespaces.get(usize::from(key.0)) else { return };
        let horizon = settings.retention.map_or(0, |r| r.horizon_at(now));
        let bucket = settings.retention.map_or(0, |r| r.bucket_at(now));
        let keeps_first = settings.time_rule == TimeRule::First;
        let versions = self.rows.entry(key).or_default();
        let before = versions.last().and_then(|v| v.row).filter(|r| r.bucket >= horizon);
        let row = (op == WriteOp::Append).then(|| match before {
            Some(kept) if keeps_first => Row { bucket: kept.bucket.max(bucket), ..kept },
            Some(kept) => Row { marked_at: time, bucket: kept.bucket.max(bucket), ..kept },
            None => Row { item: key.2, marked_at: time, bucket },
        });
        versions.push(Version { position, row });
    }

    /// Forgets a user; returns the commit's number, the new epoch and how many rows went.
    pub(crate) fn forget(&mut self, namespace: NamespaceId, user: UserId) -> (u64, UserEpoch, u64) {
        let position = self.head() + 1;
        let mut removed = 0;
        for (_, versions) in self.rows.range_mut(of_user(namespace.get(), user)) {
            if versions.last().is_some_and(|v| v.row.is_some()) {
                versions.push(Version { position, row: None });
                removed += 1;
            }
        }
        let epochs = self.epochs.entry((namespace.get(), user)).or_default();
        let epoch = epochs.last().map_or(1, |(_, epoch)| epoch + 1);
        epochs.push((position, epoch));
        let (stamp, epoch) = (self.stamp(position), UserEpoch::new(epoch));
        let events =
            vec![FeedEvent::RemoveAll { stamp, user }, FeedEvent::Forgotten { stamp, user, epoch }];
        self.log.push(BTreeMap::from([(self.feed_of(namespace, user), events)]));
        (position, epoch, removed)
    }

    /// Commits a fence.
    pub(crate) fn fence(
        &mut self,
        feed: FeedId,
        user: UserId,
        writer: Incarnation,
        seq: FenceSeq,
    ) -> u64 {
        let position = self.head() + 1;
        let stamp = self.stamp(position);
        let fence = FeedEvent::Fence { stamp, user, writer, seq };
        self.log.push(BTreeMap::from([(feed, vec![fence])]));
        position
    }

    /// A user's rows as of commit `at` that have not expired by `now`, in key order.
    pub(crate) fn rows_at(
        &self,
        namespace: NamespaceId,
        user: UserId,
        at: u64,
        now: UnixMillis,
    ) -> impl Iterator<Item = Row> {
        let retention = self.namespaces.get(usize::from(namespace.get())).and_then(|s| s.retention);
        let horizon = retention.map_or(0, |r| r.horizon_at(now));
        let rows = self.rows.range(of_user(namespace.get(), user));
        rows.filter_map(move |(_, versions)| row_at(versions, at))
            .filter(move |r| r.bucket >= horizon)
    }

    /// A namespace's rows after a key as of commit `at` that have not expired by `now`, in key order.
    pub(crate) fn scan_at(
        &self,
        namespace: NamespaceId,
        after: Option<RowKey>,
        at: u64,
        now: UnixMillis,
    ) -> impl Iterator<Item = ScannedRow> {
        let retention = self.namespaces.get(usize::from(namespace.get())).and_then(|s| s.retention);
        let horizon = retention.map_or(0, |r| r.horizon_at(now));
        let namespace = namespace.get();
        let from = match after {
            None => Bound::Included((namespace, UserId::new(0), Item::new(0, 0))),
            Some((user, item)) => Bound::Excluded((namespace, user, item)),
        };
        let rows = self.rows.range((from, Bound::Unbounded));
        rows.take_while(move |(key, _)| key.0 == namespace)
            .filter_map(move |(key, versions)| {
                row_at(versions, at).map(|row| ScannedRow { user: key.1, row })
            })
            .filter(move |scanned| scanned.row.bucket >= horizon)
    }

    /// How many rows a namespace has as of commit `at`, expired ones included.
    pub(crate) fn count_at(&self, namespace: NamespaceId, at: u64) -> u64 {
        let namespace = namespace.get();
        let first = (namespace, UserId::new(0), Item::new(0, 0));
        let of_namespace = self.rows.range(first..).take_while(|(key, _)| key.0 == namespace);
        of_namespace.filter(|(_, versions)| row_at(versions, at).is_some()).count() as u64
    }

    /// A row as of commit `at`, if it had not expired by `now`.
    pub(crate) fn has_at(
        &self,
        namespace: NamespaceId,
        user: UserId,
        item: Item,
        at: u64,
        now: UnixMillis,
    ) -> bool {
        let retention = self.namespaces.get(usize::from(namespace.get())).and_then(|s| s.retention);
        let horizon = retention.map_or(0, |r| r.horizon_at(now));
        let versions = self.rows.get(&(namespace.get(), user, item));
        versions.and_then(|v| row_at(v, at)).is_some_and(|row| row.bucket >= horizon)
    }

    /// A user's epoch as of commit `at`.
    pub(crate) fn epoch_at(&self, namespace: NamespaceId, user: UserId, at: u64) -> UserEpoch {
        let epochs = self.epochs.get(&(namespace.get(), user)).map_or(&[][..], Vec::as_slice);
        let found = epochs.iter().rev().find(|(position, _)| *position <= at);
        UserEpoch::new(found.map_or(0, |(_, epoch)| *epoch))
    }

    /// The events of one commit for one feed partition.
    pub(crate) fn events(&self, position: u64, feed: FeedId) -> &[FeedEvent] {
        let index = usize::try_from(position.wrapping_sub(1)).unwrap_or(usize::MAX);
        let commit = self.log.get(index);
        commit.and_then(|c| c.get(&feed)).map_or(&[], Vec::as_slice)
    }
}

/// The keys of one user.
fn of_user(namespace: u16, user: UserId) -> std::ops::RangeInclusive<Key> {
    (namespace, user, Item::new(0, 0))..=(namespace, user, Item::new(u8::MAX, u64::MAX))
}

fn row_at(versions: &[Version], at: u64) -> Option<Row> {
    versions.iter().rev().find(|v| v.position <= at)?.row
}
