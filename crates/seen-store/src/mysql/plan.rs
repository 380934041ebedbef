//! Turns the calls that share a commit into what is written. Each row is touched once, in key order,
//! so that concurrent transactions lock in one order, and none is removed and added again under one
//! position, where the two would have no order (coherence row 47).

use seen_filter::history::{Write, WriteOp};
use seen_filter::{FeedId, FenceSeq, Incarnation, Item, StoreError, StoreErrorKind, UserId};

use super::mapping::KindColumn;
use super::tables::{Table, Tables};
use crate::net::{Net, Op, net};

/// A row's key.
pub(crate) type Key = (UserId, Item);

/// In place of a time that the storage's clock at the commit decides.
pub(crate) const AT_COMMIT: i64 = i64::MIN;

/// What to write to one table.
#[derive(Debug, Default)]
pub(crate) struct TablePlan {
    pub removes: Vec<Key>,
    /// Rows to add, with their times.
    pub appends: Vec<(Key, i64)>,
    /// Rows whose new time counts, whatever the namespace's rule says: they were removed and added
    /// again.
    pub replaces: Vec<(Key, i64)>,
}

/// A fence to write.
#[derive(Clone, Debug)]
pub(crate) struct FenceRow {
    pub feed: FeedId,
    /// The ids under which it is written.
    pub users: Vec<UserId>,
    pub writer: Incarnation,
    pub seq: FenceSeq,
}

/// What one transaction writes.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// By the namespace's configured number.
    pub tables: Vec<TablePlan>,
    pub fences: Vec<FenceRow>,
}

/// Refuses to write to a table that is only read.
pub(crate) fn check_writable(table: &Table) -> Result<(), StoreError> {
    if table.read_only {
        return Err(StoreError::new(
            StoreErrorKind::ReadOnly,
            format!(
                "namespace {:?} reads the table {} of somebody else, who alone writes to it",
                table.settings.name, table.mapping.table
            ),
        ));
    }
    Ok(())
}

/// Refuses what a table cannot hold.
pub(crate) fn check(table: &Table, write: &Write) -> Result<(), StoreError> {
    check_writable(table)?;
    let KindColumn::Constant(only) = table.mapping.kind else { return Ok(()) };
    match write.items.iter().find(|(item, _)| item.kind != only) {
        None => Ok(()),
        Some((item, _)) => Err(crate::request::invalid(format!(
            "item = {item}: the table of namespace {:?} holds kind {only} alone",
            table.settings.name
        ))),
    }
}

/// Collects the calls of one commit.
pub(crate) struct Group {
    ops: Vec<Vec<Op<Key>>>,
    fences: Vec<FenceRow>,
    turn: u32,
}

impl Group {
    pub(crate) fn new(namespaces: usize) -> Self {
        Self { ops: (0..namespaces).map(|_| Vec::new()).collect(), fences: Vec::new(), turn: 0 }
    }

    /// Adds a call's writes, which were validated before.
    pub(crate) fn write(&mut self, writes: &[Write]) {
        for write in writes {
            let Some(ops) = self.ops.get_mut(usize::from(write.namespace.get())) else { continue };
            for (item, time) in &write.items {
                let time_ms = time.map_or(AT_COMMIT, |t| t.get().cast_signed());
                let append = (write.op == WriteOp::Append).then_some(time_ms);
                ops.push(Op { key: (write.user, *item), turn: self.turn, append });
                self.turn = self.turn.wrapping_add(1);
            }
        }
    }

    /// Adds a fence.
    pub(crate) fn fence(&mut self, fence: FenceRow) {
        self.fences.push(fence);
    }

    /// What is to be written.
    pub(crate) fn plan(self, tables: &Tables) -> Plan {
        let of_table = |(table, ops): (&Table, Vec<Op<Key>>)| {
            let mut plan = TablePlan::default();
            for (key, left) in net(ops, table.settings.time_rule) {
                match left {
                    Net::Append(time) => plan.appends.push((key, time)),
                    Net::Replace(time) => plan.replaces.push((key, time)),
                    Net::Remove => plan.removes.push(key),
                }
            }
            plan
        };
        Plan { tables: tables.iter().zip(self.ops).map(of_table).collect(), fences: self.fences }
    }
}
