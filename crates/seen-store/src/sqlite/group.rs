//! Turns the calls that share a commit into what is written: rows to remove, rows to insert, and the
//! events. Each row is touched once, in key order, whatever the calls said about it in turn, and has
//! one event: within one position an add and a remove of the same row would have no order
//! (coherence row 47).

use std::collections::BTreeMap;
use std::sync::Arc;

use seen_filter::history::{Write, WriteOp};
use seen_filter::{FeedId, FenceSeq, HashKey, Incarnation, Item, StoreError, UnixMillis, UserId};

use super::events::EventBlob;
use super::namespaces::{LogSlot, Table, Tables};
use super::tail::SlotEvents;
use crate::net::{Net, Op, net};
use crate::request::partition_of;

/// A row's key, as SQLite orders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowKey {
    pub user: i64,
    pub kind: i64,
    pub item: i64,
}

impl RowKey {
    pub(crate) fn new(user: UserId, item: Item) -> Self {
        Self {
            user: user.get().cast_signed(),
            kind: item.kind.get().into(),
            item: item.id.get().cast_signed(),
        }
    }

    fn user(self) -> UserId {
        UserId::new(self.user.cast_unsigned())
    }

    fn item(self) -> Item {
        Item::new(u8::try_from(self.kind).unwrap_or(0), self.item.cast_unsigned())
    }
}

/// What to write to one table.
#[derive(Debug, Default)]
pub(crate) struct TablePlan {
    /// Rows to delete, before the inserts.
    pub removes: Vec<RowKey>,
    /// Rows to insert, with their times.
    pub inserts: Vec<(RowKey, i64)>,
}

/// Collects the calls of one commit.
pub(crate) struct Group<'a> {
    tables: &'a Tables,
    key: &'a HashKey,
    partitions: u16,
    now_ms: i64,
    ops: Vec<Vec<Op<RowKey>>>,
    fences: Vec<(LogSlot, Incarnation, FenceSeq)>,
    turn: u32,
}

/// What one commit writes.
#[derive(Debug)]
pub(crate) struct Plan {
    /// By the namespace's configured number.
    pub tables: Vec<TablePlan>,
    pub slots: Vec<SlotEvents>,
    pub appended: u64,
    pub removed: u64,
}

impl<'a> Group<'a> {
    /// A group committed at storage time `now`.
    pub(crate) fn new(
        tables: &'a Tables,
        key: &'a HashKey,
        partitions: u16,
        now: UnixMillis,
    ) -> Self {
        Self {
            tables,
            key,
            partitions,
            now_ms: now.get().cast_signed(),
            ops: (0..tables.len()).map(|_| Vec::new()).collect(),
            fences: Vec::new(),
            turn: 0,
        }
    }

    /// Adds a call's writes, which were validated before.
    pub(crate) fn write(&mut self, writes: &[Write]) {
        for write in writes {
            let Some(ops) = self.ops.get_mut(usize::from(write.namespace.get())) else { continue };
            for (item, time) in &write.items {
                let time_ms = time.map_or(self.now_ms, |t| t.get().cast_signed());
                let append = (write.op == WriteOp::Append).then_some(time_ms);
                ops.push(Op { key: RowKey::new(write.user, *item), turn: self.turn, append });
                self.turn = self.turn.wrapping_add(1);
            }
        }
    }

    /// Adds a fence; it comes after every row of the commit.
    pub(crate) fn fence(
        &mut self,
        feed: FeedId,
        writer: Incarnation,
        seq: FenceSeq,
    ) -> Result<(), StoreError> {
        let slot = self.tables.get(feed.namespace)?.log_slot(feed.partition.get());
        self.fences.push((slot, writer, seq));
        Ok(())
    }

    /// What is to be written.
    pub(crate) fn plan(mut self) -> Plan {
        let mut blobs = BTreeMap::new();
        let mut tables = Vec::with_capacity(self.ops.len());
        for (table, ops) in self.tables.iter().zip(std::mem::take(&mut self.ops)) {
            tables.push(self.fold(table, ops, &mut blobs));
        }
        for (slot, writer, seq) in &self.fences {
            let blob: &mut EventBlob = blobs.entry(*slot).or_default();
            blob.fence(*writer, *seq);
        }
        let finish = |(slot, blob): (LogSlot, EventBlob)| (slot, Arc::from(blob.into_bytes()));
        Plan {
            appended: tables.iter().map(|t| t.inserts.len() as u64).sum(),
            removed: tables.iter().map(|t| t.removes.len() as u64).sum(),
            slots: blobs.into_iter().map(finish).collect(),
            tables,
        }
    }

    fn fold(
        &self,
        table: &Table,
        ops: Vec<Op<RowKey>>,
        blobs: &mut BTreeMap<LogSlot, EventBlob>,
    ) -> TablePlan {
        let mut plan = TablePlan { removes: Vec::new(), inserts: Vec::with_capacity(ops.len()) };
        let rows = net(ops, table.settings.time_rule);
        for of_user in rows.chunk_by(|(a, _), (b, _)| a.user == b.user) {
            let user = of_user[0].0.user();
            let partition = partition_of(self.key, user, self.partitions);
            let blob = blobs.entry(table.log_slot(partition.get())).or_default();
            for (key, left) in of_user {
                match *left {
                    Net::Append(time) => plan.inserts.push((*key, time)),
                    Net::Replace(time) => {
                        plan.removes.push(*key);
                        plan.inserts.push((*key, time));
                    }
                    Net::Remove => {
                        plan.removes.push(*key);
                        blob.remove(user, key.item());
                        continue;
                    }
                }
                blob.add(user, key.item());
            }
        }
        plan
    }
}
