//! Turns the calls that share a commit into what is written: rows to remove, rows to insert, and the
//! events. Each row is touched once, in key order, whatever the calls said about it in turn, and has
//! one event: within one position an add and a remove of the same row would have no order
//! (coherence row 47).

use std::collections::BTreeMap;
use std::sync::Arc;

use seen_filter::history::{Write, WriteOp};
use seen_filter::{FeedId, FenceSeq, Incarnation, Item, StoreError, TimeRule, UnixMillis, UserId};

use super::events::EventBlob;
use super::namespaces::{LogSlot, Table, Tables};
use super::tail::SlotEvents;
use crate::request::partition_of;
use seen_filter::HashKey;

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

/// One operation of one call on one row.
#[derive(Clone, Copy, Debug)]
struct Op {
    key: RowKey,
    /// The order in which the calls came.
    turn: u32,
    /// The time of an append, or `None` for a remove.
    append: Option<i64>,
}

/// What is left of all operations on one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Net {
    Append(i64),
    Remove,
    /// Removed and added again: its old time must not be kept.
    Replace(i64),
}

impl Net {
    fn then(before: Option<Self>, append: Option<i64>, rule: TimeRule) -> Self {
        let keeps = rule == TimeRule::First;
        match (before, append) {
            (_, None) => Self::Remove,
            (None, Some(time)) => Self::Append(time),
            (Some(Self::Remove), Some(time)) => Self::Replace(time),
            (Some(Self::Append(first)), Some(time)) => {
                Self::Append(if keeps { first } else { time })
            }
            (Some(Self::Replace(first)), Some(time)) => {
                Self::Replace(if keeps { first } else { time })
            }
        }
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
    ops: Vec<Vec<Op>>,
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
        mut ops: Vec<Op>,
        blobs: &mut BTreeMap<LogSlot, EventBlob>,
    ) -> TablePlan {
        ops.sort_unstable_by_key(|op| (op.key, op.turn));
        let mut plan = TablePlan { removes: Vec::new(), inserts: Vec::with_capacity(ops.len()) };
        for of_user in ops.chunk_by(|a, b| a.key.user == b.key.user) {
            let user = of_user[0].key.user();
            let partition = partition_of(self.key, user, self.partitions);
            let blob = blobs.entry(table.log_slot(partition.get())).or_default();
            for of_row in of_user.chunk_by(|a, b| a.key == b.key) {
                let key = of_row[0].key;
                let rule = table.settings.time_rule;
                let net = of_row.iter().fold(None, |net, op| Some(Net::then(net, op.append, rule)));
                match net {
                    Some(Net::Append(time)) => plan.inserts.push((key, time)),
                    Some(Net::Replace(time)) => {
                        plan.removes.push(key);
                        plan.inserts.push((key, time));
                    }
                    _ => {
                        plan.removes.push(key);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn net(ops: &[Option<i64>], rule: TimeRule) -> Option<Net> {
        ops.iter().fold(None, |net, op| Some(Net::then(net, *op, rule)))
    }

    #[test]
    fn operations_on_one_row_leave_what_doing_them_in_turn_would() {
        for rule in [TimeRule::First, TimeRule::Last] {
            // Every sequence of up to six removes and appends, against a row that exists or not.
            for length in 1..=6_u32 {
                for bits in 0..1_u32 << length {
                    let op = |n: u32| (bits >> n & 1 == 1).then_some(i64::from(10 + n));
                    let ops: Vec<_> = (0..length).map(op).collect();
                    for row_before in [None, Some(5)] {
                        let each = ops.iter().fold(row_before, |row, op| match (row, op) {
                            (_, None) => None,
                            (Some(kept), Some(_)) if rule == TimeRule::First => Some(kept),
                            (_, Some(time)) => Some(*time),
                        });
                        let at_once = match (net(&ops, rule), row_before) {
                            (Some(Net::Remove) | None, _) => None,
                            (Some(Net::Append(_)), Some(kept)) if rule == TimeRule::First => {
                                Some(kept)
                            }
                            (Some(Net::Append(time) | Net::Replace(time)), _) => Some(time),
                        };
                        assert_eq!(at_once, each, "{ops:?} on {row_before:?} by {rule:?}");
                    }
                }
            }
        }
    }
}
