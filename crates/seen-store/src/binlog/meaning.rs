//! What the rows of the followed tables mean: from columns to adds, removes, fences and forgets.

use seen_filter::hash::HashKey;
use seen_filter::{FenceSeq, GapScope, Incarnation, Item, Kind, Shard, UserEpoch, UserId};

use crate::mysql::{KindColumn, TableMapping};
use crate::request::partition_of;

use super::row::{Cell, Cells, RowsKind};

/// The table through which fences and forgets come.
pub(super) const CONTROL_TABLE: &str = "seen_control";

/// What a row says, before it has a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Add(UserId, Item),
    Remove(UserId, Item),
    Forgotten(UserId, UserEpoch),
    Fence(UserId, Incarnation, FenceSeq),
    Gap(GapScope, &'static str),
}

/// One row of the control table, as far as it names a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ControlRow {
    pub user: u64,
    /// The namespace's number in the database.
    pub namespace: u16,
    /// 0 for a forget.
    pub writer: u64,
    pub seq: u64,
}

/// What one reader follows.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub database: String,
    pub mapping: TableMapping,
    /// The namespaces' numbers in the control table that mean this one.
    pub numbers: Vec<u16>,
    pub shard: Shard,
    pub shards: u16,
    pub hash_key: HashKey,
}

impl Subject {
    /// The database of the followed table, which may be another than the store's.
    pub fn home(&self) -> &str {
        self.mapping.database.as_ref().map_or(self.database.as_str(), |name| name.as_str())
    }

    /// The columns of the followed table, in the order in which [`Subject::history`] takes them.
    pub fn history_columns(&self) -> Vec<&str> {
        let mapping = &self.mapping;
        let mut columns = vec![mapping.user.as_str(), mapping.item.as_str()];
        if let KindColumn::Column(kind) = &mapping.kind {
            columns.push(kind.as_str());
        }
        columns.extend(mapping.deleted.as_ref().map(|deleted| deleted.as_str()));
        columns
    }

    /// The columns of the control table, in the order in which [`Subject::control`] takes them.
    pub const CONTROL_COLUMNS: [&'static str; 4] = ["user_id", "namespace", "writer", "seq"];

    /// What a row of the followed table says.
    pub fn history(&self, kind: RowsKind, before: &Cells, after: &Cells, told: &mut Vec<Told>) {
        let (was, is) = (self.key(before), self.key(after));
        match kind {
            RowsKind::Insert => self.tell(is, self.is_deleted(after), told),
            RowsKind::Delete => self.tell(was, Ok(true), told),
            RowsKind::Update => {
                self.tell(is, self.is_deleted(after), told);
                // Row 22: what the row was about before has lost it.
                match (was, is) {
                    (_, Err((GapScope::Partition, _))) => {}
                    (Ok(was), Ok(is)) if was == is => {}
                    (Ok((user, _)), _) => self.gap(GapScope::User(user), "key_changed", told),
                    (Err((scope, reason)), _) => self.gap(scope, reason, told),
                }
            }
        }
    }

    fn tell(&self, key: Key, is_deleted: Result<bool, &'static str>, told: &mut Vec<Told>) {
        match (key, is_deleted) {
            (Err((scope, reason)), _) => self.gap(scope, reason, told),
            (Ok((user, _)), Err(reason)) => self.gap(GapScope::User(user), reason, told),
            (Ok((user, item)), Ok(is_deleted)) if self.is_here(user) => {
                told.push(match is_deleted {
                    true => Told::Remove(user, item),
                    false => Told::Add(user, item),
                })
            }
            (Ok(_), Ok(_)) => {}
        }
    }

    fn gap(&self, scope: GapScope, reason: &'static str, told: &mut Vec<Told>) {
        match scope {
            GapScope::User(user) if !self.is_here(user) => {}
            scope => told.push(Told::Gap(scope, reason)),
        }
    }

    /// True if the user's history is read from this shard; rows of others mean nothing.
    fn is_here(&self, user: UserId) -> bool {
        partition_of(&self.hash_key, user, self.shards).get() == self.shard.get()
    }

    fn key(&self, cells: &Cells) -> Key {
        let user = whole(cells[0]).map_err(|reason| (GapScope::Partition, reason))?;
        let user = UserId::new(user);
        // Row 21: what cannot be read puts in doubt whom it is about, if that much is known.
        let doubt = |reason| match reason {
            IMAGE => (GapScope::Partition, reason),
            reason => (GapScope::User(user), reason),
        };
        let id = whole(cells[1]).map_err(doubt)?;
        let kind = match &self.mapping.kind {
            KindColumn::Constant(kind) => *kind,
            KindColumn::Column(_) => {
                let kind = whole(cells[2]).map_err(doubt)?;
                Kind::new(u8::try_from(kind).map_err(|_| doubt("kind_range"))?)
            }
        };
        Ok((user, Item::new(kind.get(), id)))
    }

    fn is_deleted(&self, cells: &Cells) -> Result<bool, &'static str> {
        if self.mapping.deleted.is_none() {
            return Ok(false);
        }
        let at = if matches!(self.mapping.kind, KindColumn::Column(_)) { 3 } else { 2 };
        match cells[at] {
            Cell::Null | Cell::Zero | Cell::Number(0) => Ok(false),
            Cell::Number(_) | Cell::NotZero => Ok(true),
            Cell::Missing => Err(IMAGE),
            Cell::Other => Err("value_type"),
        }
    }

    /// What a row of the control table says. The newest one that is there is a landmark.
    pub fn tell_control(
        &self,
        kind: RowsKind,
        (before, after): (&Cells, &Cells),
        landmark: &mut Option<ControlRow>,
        told: &mut Vec<Told>,
    ) {
        let image = if kind == RowsKind::Delete { before } else { after };
        match self.control(image) {
            None => {}
            Some(Err(reason)) => told.push(Told::Gap(GapScope::Partition, reason)),
            Some(Ok((row, _))) if kind == RowsKind::Delete => {
                let named = |row: &ControlRow| (row.user, row.namespace, row.writer);
                landmark.take_if(|known| named(known) == named(&row));
            }
            Some(Ok((row, event))) => {
                *landmark = Some(row);
                told.push(event);
            }
        }
    }

    fn control(&self, cells: &Cells) -> Option<Result<(ControlRow, Told), &'static str>> {
        let read = || {
            let namespace = u16::try_from(whole(cells[1])?).map_err(|_| "value_range")?;
            let (user, writer, seq) = (whole(cells[0])?, whole(cells[2])?, whole(cells[3])?);
            Ok(ControlRow { user, namespace, writer, seq })
        };
        let row: ControlRow = match read() {
            Ok(row) => row,
            Err(reason) => return Some(Err(reason)),
        };
        if !self.numbers.contains(&row.namespace) {
            return None;
        }
        let told = match (row.writer, u32::try_from(row.seq)) {
            (0, Ok(epoch)) => Told::Forgotten(UserId::new(row.user), UserEpoch::new(epoch)),
            (0, Err(_)) => return Some(Err("value_range")),
            (writer, _) => {
                let (user, seq) = (UserId::new(row.user), FenceSeq::new(row.seq));
                Told::Fence(user, Incarnation::new(writer), seq)
            }
        };
        Some(Ok((row, told)))
    }
}

type Key = Result<(UserId, Item), (GapScope, &'static str)>;

/// The reason for a gap that names the setting which mends it.
const IMAGE: &str = "binlog_row_image";

/// An id. A negative number of a signed column stands for the unsigned one with the same bits, as
/// where the history is read.
fn whole(cell: Cell) -> Result<u64, &'static str> {
    match cell {
        Cell::Number(number) => u64::try_from(number)
            .or_else(|_| i64::try_from(number).map(i64::cast_unsigned))
            .map_err(|_| "value_range"),
        Cell::Missing => Err(IMAGE),
        Cell::Null => Err("value_null"),
        Cell::Zero | Cell::NotZero | Cell::Other => Err("value_type"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::mysql::Name;
    use seen_filter::{NamespaceId, NamespaceSettings};

    pub fn subject() -> Subject {
        let namespace = NamespaceId::new(3);
        let mapping = TableMapping::own(&NamespaceSettings::new(namespace, "feed"));
        Subject {
            database: "app".to_owned(),
            mapping: mapping.expect("a mapping"),
            numbers: vec![9],
            shard: Shard::new(0),
            shards: 1,
            hash_key: HashKey::new(1, [7; 16]),
        }
    }

    fn cells(numbers: &[i128]) -> Cells {
        let mut cells = [Cell::Missing; 4];
        for (cell, number) in cells.iter_mut().zip(numbers) {
            *cell = Cell::Number(*number);
        }
        cells
    }

    fn history(subject: &Subject, kind: RowsKind, before: Cells, after: Cells) -> Vec<Told> {
        let mut told = Vec::new();
        subject.history(kind, &before, &after, &mut told);
        told
    }

    #[test]
    fn rows_become_adds_and_removes() {
        let (user, item) = (UserId::new(7), Item::new(2, u64::MAX));
        let row = cells(&[7, u64::MAX.into(), 2]);
        let none = cells(&[]);
        let subject = subject();
        assert_eq!(history(&subject, RowsKind::Insert, none, row), [Told::Add(user, item)]);
        assert_eq!(history(&subject, RowsKind::Delete, row, none), [Told::Remove(user, item)]);
        assert_eq!(history(&subject, RowsKind::Update, row, row), [Told::Add(user, item)]);
        let moved = history(&subject, RowsKind::Update, cells(&[8, 1, 2]), row);
        let gap = Told::Gap(GapScope::User(UserId::new(8)), "key_changed");
        assert_eq!(moved, [Told::Add(user, item), gap]);
    }

    #[test]
    fn a_soft_delete_is_a_remove() {
        let mut subject = subject();
        subject.mapping.deleted = Some(Name::new("deleted", "gone").expect("a name"));
        subject.mapping.kind = KindColumn::Constant(Kind::new(4));
        let row = cells(&[7, 1, 0]);
        let item = Item::new(4, 1);
        for (cell, is_removed) in [
            (Cell::Number(0), false),
            (Cell::Null, false),
            (Cell::Zero, false),
            (Cell::Number(-1), true),
            (Cell::NotZero, true),
        ] {
            let mut after = row;
            after[2] = cell;
            let told = history(&subject, RowsKind::Update, row, after);
            let expected = match is_removed {
                true => Told::Remove(UserId::new(7), item),
                false => Told::Add(UserId::new(7), item),
            };
            assert_eq!(told, [expected], "{cell:?}");
        }
        let mut after = row;
        after[2] = Cell::Other;
        let told = history(&subject, RowsKind::Insert, row, after);
        assert_eq!(told, [Told::Gap(GapScope::User(UserId::new(7)), "value_type")]);
    }

    #[test]
    fn what_cannot_be_read_is_a_doubt_about_as_little_as_possible() {
        let subject = subject();
        let user = GapScope::User(UserId::new(7));
        for (row, scope, reason) in [
            (cells(&[7, 1, 256]), user, "kind_range"),
            (cells(&[7, 1, -1]), user, "kind_range"),
            (cells(&[7, -(1 << 70), 1]), user, "value_range"),
            (cells(&[1 << 70, 1, 1]), GapScope::Partition, "value_range"),
            (cells(&[7, 1]), GapScope::Partition, "binlog_row_image"),
            (cells(&[]), GapScope::Partition, "binlog_row_image"),
        ] {
            let told = history(&subject, RowsKind::Insert, row, row);
            assert_eq!(told, [Told::Gap(scope, reason)]);
        }
        let mut null = cells(&[7, 1, 1]);
        null[1] = Cell::Null;
        let told = history(&subject, RowsKind::Delete, null, null);
        assert_eq!(told, [Told::Gap(user, "value_null")]);
    }

    #[test]
    fn users_of_other_shards_are_left_out() {
        let mut subject = subject();
        subject.shards = 4;
        let mut told = Vec::new();
        for user in 0..100 {
            let row = cells(&[user, 1, 1]);
            subject.history(RowsKind::Insert, &row, &row, &mut told);
            subject.history(RowsKind::Insert, &row, &cells(&[user, 1, 999]), &mut told);
        }
        assert!((20..80).contains(&told.len()), "{}", told.len());
    }

    #[test]
    fn control_rows_are_fences_and_forgets_of_the_own_namespace() {
        let subject = subject();
        let told = |numbers: &[i128]| {
            subject.control(&cells(numbers)).map(|read| read.map(|(_, told)| told))
        };
        let fence = Told::Fence(UserId::new(1), Incarnation::new(5), FenceSeq::new(u64::MAX));
        assert_eq!(told(&[1, 9, 5, u64::MAX.into()]), Some(Ok(fence)));
        let forgotten = Told::Forgotten(UserId::new(1), UserEpoch::new(2));
        assert_eq!(told(&[1, 9, 0, 2]), Some(Ok(forgotten)));
        assert_eq!(told(&[1, 8, 5, 1]), None);
        assert_eq!(told(&[1, 9, 0, 1 << 40]), Some(Err("value_range")));
        assert_eq!(told(&[1, 9, 5]), Some(Err("binlog_row_image")));
    }
}
