//! Which reader an event is for, and what it is in the feed.

use std::collections::HashMap;

use seen_dialect::{ControlRow, Dialect, Event, Position, Scope, What};
use seen_filter::hash::HashKey;
use seen_filter::{
    CommitStamp, FeedEvent, FenceSeq, GapScope, Incarnation, NamespaceId, Shard, UserEpoch, UserId,
};
use tokio::sync::watch;

use crate::fences::FencesSeen;
use crate::look::Look;
use crate::options::{KafkaOptions, TopicOptions};
use crate::place::Order;
use crate::topic::Topic;

/// What the tables of a topic are to the service.
pub(crate) struct Names {
    /// By the decoder's number of the table.
    namespaces: Vec<Option<NamespaceId>>,
    namespace_ids: watch::Receiver<HashMap<u16, NamespaceId>>,
    hash_key: HashKey,
    shard: Shard,
    shards: u16,
    broadcasts: Vec<Broadcast>,
    fences: FencesSeen,
}

/// Something said to all readers of a namespace, which is said again once each has read what was in its
/// partitions by then: the record that caused it lies in one partition only.
struct Broadcast {
    namespace: Option<NamespaceId>,
    reason: &'static str,
    /// Where the partitions ended at the first look after it.
    ends: Option<Vec<u64>>,
    /// Looks since then.
    looks: u32,
}

/// Looks after which a partition with nothing to follow has been read as far as it went at the first.
const LOOKS_MIN: u32 = 4;
/// Most broadcasts that wait to be repeated.
const BROADCASTS_MAX: usize = 64;

impl Names {
    pub fn new(topic: &TopicOptions, options: &KafkaOptions) -> Self {
        Self {
            namespaces: topic.tables.iter().map(|(namespace, _)| *namespace).collect(),
            namespace_ids: topic.namespace_ids.clone(),
            hash_key: options.hash_key,
            shard: topic.shard,
            shards: u16::try_from(options.topics.len()).unwrap_or(u16::MAX),
            broadcasts: Vec::new(),
            fences: FencesSeen::default(),
        }
    }

    fn of_table(&self, table: Option<usize>) -> Option<NamespaceId> {
        self.namespaces.get(table?).copied().flatten()
    }

    /// True if the user's history is read from this shard; rows of others mean nothing.
    fn is_here(&self, user: UserId) -> bool {
        self.hash_key.virtual_slot(user).range_of(self.shards) == self.shard.get()
    }
}

/// One record on its way to its readers.
struct Routed<'a> {
    partition: u16,
    offset: u64,
    event: &'a Event,
    /// The source's own stamp, where it counts.
    stamp: Option<CommitStamp>,
    /// How its position lies to those told before.
    order: Order,
}

impl Topic {
    /// Hands a record's events to the readers that want them.
    pub(crate) fn route(
        &mut self,
        partition: u16,
        offset: u64,
        dialect: Option<Dialect>,
        events: &[Event],
    ) {
        for event in events {
            for reader in &mut self.readers {
                if reader.wants(partition, offset) {
                    reader.says_more(offset);
                }
            }
            let stamp = event.position.as_ref().and_then(|at| self.stamp_of(at));
            let order = self.parts.get_mut(usize::from(partition)).map(|part| &mut part.order);
            let order = order.map_or(Order::Unknown, |order| order.look(event.position.as_ref()));
            let routed = Routed { partition, offset, event, stamp, order };
            self.route_one(&routed, dialect);
        }
        self.end_record(partition, offset);
    }

    /// A record is done for all of its readers.
    pub(crate) fn end_record(&mut self, partition: u16, offset: u64) {
        let epoch = self.parts.get(usize::from(partition)).and_then(|part| part.epoch);
        for reader in &mut self.readers {
            if reader.wants(partition, offset) {
                reader.end_record(partition, offset, epoch);
            }
        }
    }

    fn stamp_of(&self, position: &Position) -> Option<CommitStamp> {
        match position {
            Position::Stamp(stamp) => Some(*stamp),
            position => (self.options.stamp_of)(self.topic.shard, position),
        }
    }

    fn route_one(&mut self, routed: &Routed<'_>, dialect: Option<Dialect>) {
        let namespace = self.names.of_table(routed.event.table);
        let reason = routed.event.reason.unwrap_or("unknown");
        match routed.event.what {
            What::Upsert { user, item, .. } => {
                self.row(routed, namespace, user, |stamp| FeedEvent::Add { stamp, user, item });
            }
            What::Delete { user, item } => {
                self.row(routed, namespace, user, |stamp| FeedEvent::Remove { stamp, user, item });
            }
            What::Control(row) => self.control(routed, row, dialect),
            What::Truncate => self.broadcast(routed, namespace, "truncated"),
            What::Dirty(Scope::Table) => self.broadcast(routed, namespace, reason),
            What::Dirty(Scope::Partition) => {
                let event = FeedEvent::Gap { scope: GapScope::Partition, reason };
                self.each(routed, namespace, |_| true, |_| event);
            }
            What::Dirty(Scope::User(user)) => self.doubt(routed, namespace, user, reason),
            What::Watermark => self.watermark(routed, namespace),
            // A producer that reads the table anew may have left out what came before.
            What::Ddl if reason == "snapshot" => self.broadcast(routed, namespace, reason),
            What::Ddl | What::Heartbeat | What::Ignore => {}
        }
    }

    /// Lets every reader of the namespace (of any, where none is named) that wants the record take an
    /// event of it.
    fn each(
        &mut self,
        routed: &Routed<'_>,
        namespace: Option<NamespaceId>,
        which: impl Fn(u16) -> bool,
        event: impl Fn(CommitStamp) -> FeedEvent,
    ) {
        for reader in &mut self.readers {
            let feed = reader.feed;
            if namespace.is_none_or(|namespace| namespace == feed.namespace)
                && which(feed.partition.get())
                && reader.wants(routed.partition, routed.offset)
            {
                let stamp = routed.stamp.unwrap_or_else(|| reader.stamp(routed.offset));
                reader.take(routed.offset, event(stamp));
            }
        }
    }

    /// A row of a user.
    fn row(
        &mut self,
        routed: &Routed<'_>,
        namespace: Option<NamespaceId>,
        user: UserId,
        event: impl Fn(CommitStamp) -> FeedEvent,
    ) {
        if !self.names.is_here(user) {
            return;
        }
        let feed = self.shape.feed_of(user);
        let is_at_home = self.shape.sources(feed).contains(&routed.partition);
        if !is_at_home {
            self.metrics.misrouted();
            // Where a user's id was changed, the row that it had may be told in the new user's partition.
            // A row that is there may not.
            if !matches!(routed.event.what, What::Delete { .. }) {
                self.mislead(routed);
            }
            return self.elsewhere(namespace, user, feed);
        }
        self.each(routed, namespace, |partition| partition == feed, &event);
        let is_remove = matches!(routed.event.what, What::Delete { .. });
        let is_ordered = routed.order == Order::New && !self.shape.is_wide();
        if is_remove && routed.stamp.is_none() && !is_ordered {
            // What is told again, or through another partition, must not cancel what came after it.
            self.doubt(routed, namespace, user, "remove_unordered");
        }
    }

    /// A user's row came through a partition that is not the user's: an update of the user's id, or a
    /// producer that spreads users otherwise than is configured. Its order among the user's other
    /// rows is not known.
    fn elsewhere(&mut self, namespace: Option<NamespaceId>, user: UserId, feed: u16) {
        let event = FeedEvent::Gap { scope: GapScope::User(user), reason: "other_partition" };
        for reader in &mut self.readers {
            if namespace.is_none_or(|namespace| namespace == reader.feed.namespace)
                && reader.feed.partition.get() == feed
            {
                reader.say(event);
            }
        }
    }

    fn doubt(
        &mut self,
        routed: &Routed<'_>,
        namespace: Option<NamespaceId>,
        user: UserId,
        reason: &'static str,
    ) {
        if !self.names.is_here(user) {
            return;
        }
        let feed = self.shape.feed_of(user);
        if !self.shape.sources(feed).contains(&routed.partition) {
            return self.elsewhere(namespace, user, feed);
        }
        let event = FeedEvent::Gap { scope: GapScope::User(user), reason };
        self.each(routed, namespace, |partition| partition == feed, |_| event);
    }

    fn control(&mut self, routed: &Routed<'_>, row: ControlRow, dialect: Option<Dialect>) {
        let found = self.names.namespace_ids.borrow().get(&row.namespace).copied();
        let Some(namespace) = found else { return };
        let user = row.user;
        let feed = self.shape.feed_of(user);
        if row.writer == 0 {
            let epoch = UserEpoch::new(u32::try_from(row.seq).unwrap_or(u32::MAX));
            return self.row(routed, Some(namespace), user, |stamp| FeedEvent::Forgotten {
                stamp,
                user,
                epoch,
            });
        }
        if dialect.is_some_and(|dialect| !dialect.orders_tables()) {
            // Rows of two tables come in no order: a fence proves nothing.
            return;
        }
        if self.names.fences.is_later(namespace, row) && routed.order == Order::Back {
            self.rewound(routed);
        }
        if !self.shape.sources(feed).contains(&routed.partition) {
            return self.mislead(routed);
        }
        if !self.shape.takes_fences() || self.misled {
            return;
        }
        let (writer, seq) = (Incarnation::new(row.writer), FenceSeq::new(row.seq));
        for reader in &mut self.readers {
            if reader.feed.namespace == namespace
                && reader.feed.partition.get() == feed
                && reader.wants(routed.partition, routed.offset)
                && reader.fence_came(routed.partition, row.writer, row.seq)
            {
                reader.hold(user, writer, seq);
                self.looker.hurry();
            }
        }
    }

    /// A row lies where it should not: users are spread otherwise than they are looked for here. Until
    /// that is mended (or partitions turn out to have been added) no fence proves anything about rows.
    fn mislead(&mut self, routed: &Routed<'_>) {
        if std::mem::replace(&mut self.misled, true) {
            return;
        }
        tracing::error!(
            topic = %self.topic.topic, partition = routed.partition, offset = routed.offset,
            "a row lies in another partition than its user's: see seen doctor --feed, and kafka.partitioner"
        );
        let event = FeedEvent::Gap { scope: GapScope::Partition, reason: "partitioner" };
        for reader in &mut self.readers {
            reader.drop_held();
            reader.say(event);
        }
    }

    /// A fence that was never told before lies before what was: the source itself has gone back, to a
    /// backup or to a primary that lacks the last commits (coherence row 53). What was told of them may
    /// not be there any more.
    fn rewound(&mut self, routed: &Routed<'_>) {
        tracing::error!(
            topic = %self.topic.topic, partition = routed.partition,
            "the source of the change events has gone back: a restored backup, or a primary that lacks commits"
        );
        if let Some(part) = self.parts.get_mut(usize::from(routed.partition)) {
            part.order.rewind(routed.event.position.as_ref());
        }
        // Each partition finds it out by fences of its own.
        let event = FeedEvent::Gap { scope: GapScope::Partition, reason: "source_rewound" };
        self.each(routed, None, |_| true, |_| event);
    }

    /// Something that puts every user of a namespace in doubt.
    fn broadcast(
        &mut self,
        routed: &Routed<'_>,
        namespace: Option<NamespaceId>,
        reason: &'static str,
    ) {
        tracing::warn!(topic = %self.topic.topic, reason, "every user of a table is in doubt");
        let event = FeedEvent::Gap { scope: GapScope::Partition, reason };
        for reader in &mut self.readers {
            if namespace.is_some_and(|namespace| namespace != reader.feed.namespace) {
                continue;
            }
            if reader.wants(routed.partition, routed.offset) {
                reader.take(routed.offset, event);
            } else {
                reader.say(event);
            }
        }
        if self.names.broadcasts.len() < BROADCASTS_MAX {
            self.names.broadcasts.push(Broadcast { namespace, reason, ends: None, looks: 0 });
        }
    }

    /// Repeats what was said to all, once everything that was in the topic then has been read.
    pub(crate) fn settle_broadcasts(&mut self, look: &Look) {
        let mut due = Vec::new();
        let parts = &self.parts;
        self.names.broadcasts.retain_mut(|broadcast| {
            let Some(ends) = &broadcast.ends else {
                let highs = look.ends.iter().map(|ends| ends.map_or(0, |(_, high)| high));
                broadcast.ends = Some(highs.collect());
                return true;
            };
            broadcast.looks += 1;
            let has_ended = broadcast.looks >= LOOKS_MIN;
            let passed = |(part, end): (&crate::topic::Part, &u64)| {
                part.has_passed(*end) || (has_ended && part.is_at_end())
            };
            let is_due = parts.iter().zip(ends).all(passed);
            if is_due {
                due.push((broadcast.namespace, broadcast.reason));
            }
            !is_due
        });
        for (namespace, reason) in due {
            let event = FeedEvent::Gap { scope: GapScope::Partition, reason };
            for reader in &mut self.readers {
                if namespace.is_none_or(|namespace| namespace == reader.feed.namespace) {
                    reader.say(event);
                }
            }
        }
    }

    fn watermark(&mut self, routed: &Routed<'_>, namespace: Option<NamespaceId>) {
        let Some(stamp) = routed.stamp else { return };
        for reader in &mut self.readers {
            if namespace.is_none_or(|namespace| namespace == reader.feed.namespace)
                && reader.wants(routed.partition, routed.offset)
                && let Some(stamp) = reader.watermark_came(routed.partition, stamp)
            {
                reader.hold_complete(stamp);
                self.looker.hurry();
            }
        }
    }
}
