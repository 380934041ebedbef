//! What a sample of a topic holds, counted: the one pass over its records.

use std::collections::BTreeMap;

use seen_dialect::seen_event::ReadRecord;
use seen_dialect::{ControlRow, Decoder, Dialect, Event, FollowedTable, Position, Record, What};
use seen_filter::UserId;
use seen_kafka::KafkaRecord;

use super::producer;

/// Ids from here on are negative numbers to whoever knows only signed ones.
const SIGNED_MAX: u64 = i64::MAX as u64;

/// A row of a followed table, and where it lay.
#[derive(Clone, Debug)]
pub struct Row {
    /// Whose: of an update the user that it has now, which is whom producers place it by.
    pub user: UserId,
    /// Its partition.
    pub partition: u16,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// True for rows of the control table.
    pub is_control: bool,
}

/// Events of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// How many.
    pub count: u64,
    /// Where the first one lay.
    pub partition: i32,
    /// Where the first one lay.
    pub offset: i64,
    /// Its format.
    pub dialect: Option<Dialect>,
}

/// What one partition's share of the sample was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part {
    /// Records.
    pub records: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// The times of the first and the newest record, in milliseconds since 1970.
    pub span_ms: Option<(i64, i64)>,
}

/// What a sample holds.
#[derive(Debug)]
pub struct Census {
    decoder: Decoder,
    control: Option<usize>,
    /// Records.
    pub records: u64,
    /// Records without a value.
    pub tombstones: u64,
    /// By partition.
    pub parts: BTreeMap<i32, Part>,
    /// The largest record's bytes, and where it lay.
    pub largest: (usize, i32, i64),
    /// By format; `None` is none that is known.
    pub dialects: Vec<(Option<Dialect>, u64)>,
    /// By who wrote them, as far as the records say.
    pub producers: BTreeMap<String, u64>,
    /// Rows of followed tables.
    pub rows: Vec<Row>,
    /// Fences among them.
    pub fences: u64,
    /// Doubts, by their reason.
    pub doubts: BTreeMap<&'static str, Trouble>,
    /// What was passed over, by its reason.
    pub ignored: BTreeMap<&'static str, Trouble>,
    /// Events that lie before an earlier one of their partition in the source.
    pub backwards: u64,
    /// Rows that say where in the source they lie, and those that do not.
    pub positions: (u64, u64),
    /// Rows with an id from 2^63 on.
    pub wide_ids: u64,
    /// Watermarks.
    pub watermarks: u64,
    /// Truncates.
    pub truncates: u64,
    /// Rows that hold key columns only.
    pub only_keys: u64,
    /// Own records whose partition, or number of partitions, is not the topic's.
    pub misplaced: Option<(u32, u32)>,
    newest: BTreeMap<(i32, String), (u64, u64)>,
}

impl Census {
    /// A census of these tables; the last control table among them is the store's.
    pub fn new(tables: Vec<FollowedTable>, dialect: Option<Dialect>) -> Self {
        let is_control =
            |table: &FollowedTable| matches!(table.role, seen_dialect::TableRole::Control);
        Self {
            control: tables.iter().rposition(is_control),
            decoder: Decoder::new(tables, dialect),
            records: 0,
            tombstones: 0,
            parts: BTreeMap::new(),
            largest: (0, 0, 0),
            dialects: Vec::new(),
            producers: BTreeMap::new(),
            rows: Vec::new(),
            fences: 0,
            doubts: BTreeMap::new(),
            ignored: BTreeMap::new(),
            backwards: 0,
            positions: (0, 0),
            wide_ids: 0,
            watermarks: 0,
            truncates: 0,
            only_keys: 0,
            misplaced: None,
            newest: BTreeMap::new(),
        }
    }

    /// Counts a record of a topic with so many partitions.
    pub fn take(&mut self, record: &KafkaRecord, partitions: usize) {
        self.records += 1;
        let part = self.parts.entry(record.partition).or_default();
        part.records += 1;
        part.bytes += record.bytes() as u64;
        if let Some(ms) = record.timestamp_ms {
            let (first, newest) = part.span_ms.unwrap_or((ms, ms));
            part.span_ms = Some((first.min(ms), newest.max(ms)));
        }
        if record.bytes() > self.largest.0 {
            self.largest = (record.bytes(), record.partition, record.offset);
        }
        let mut events = Vec::new();
        record.with(|record| self.read(record, partitions, &mut events));
    }

    fn read(&mut self, record: &Record<'_>, partitions: usize, events: &mut Vec<Event>) {
        let dialect = self.decoder.decode(record, events);
        if record.value.is_none() {
            self.tombstones += 1;
        } else {
            match self.dialects.iter_mut().find(|(known, _)| *known == dialect) {
                Some((_, count)) => *count += 1,
                None => self.dialects.push((dialect, 1)),
            }
        }
        if let (Some(dialect), Some(value)) = (dialect, record.value) {
            let look = producer::look(dialect, value);
            self.only_keys += u64::from(look.is_only_key);
            *self.producers.entry(look.name).or_default() += 1;
        }
        if dialect == Some(Dialect::Seen)
            && let Some(Ok(read)) = record.value.map(ReadRecord::read)
        {
            let said = (u32::from(read.head.partition.get()), read.head.partitions);
            let is_here = i64::from(said.0) == i64::from(record.partition)
                && usize::try_from(said.1) == Ok(partitions);
            if !is_here {
                self.misplaced = Some(said);
            }
        }
        for event in events.iter() {
            self.event(record, dialect, event);
        }
        self.place(record, events);
    }

    fn event(&mut self, record: &Record<'_>, dialect: Option<Dialect>, event: &Event) {
        let list = match event.what {
            What::Dirty(_) => Some(&mut self.doubts),
            What::Ignore => Some(&mut self.ignored),
            _ => None,
        };
        if let (Some(list), Some(reason)) = (list, event.reason) {
            let (partition, offset) = (record.partition, record.offset);
            let first = Trouble { count: 0, partition, offset, dialect };
            list.entry(reason).or_insert(first).count += 1;
        }
        match event.what {
            What::Upsert { user, item, .. } | What::Delete { user, item } => {
                let is_wide = user.get() > SIGNED_MAX || item.id.get() > SIGNED_MAX;
                self.wide_ids += u64::from(is_wide);
                match event.position {
                    Some(_) => self.positions.0 += 1,
                    None => self.positions.1 += 1,
                }
            }
            What::Control(ControlRow { writer, .. }) => self.fences += u64::from(writer != 0),
            What::Watermark => self.watermarks += 1,
            What::Truncate => self.truncates += 1,
            _ => {}
        }
        // A watermark says what is complete, not where it lies itself.
        if event.what != What::Watermark
            && let Some(position) = &event.position
        {
            self.order(record.partition, position);
        }
    }

    fn order(&mut self, partition: i32, position: &Position) {
        let (of, at) = match position {
            Position::MariaDb { domain, seq, .. } => (domain.to_string(), (0, *seq)),
            Position::MySql { source, number } => (format!("{source:?}"), (0, *number)),
            Position::File { file, pos } => {
                let number = file.rsplit('.').next().and_then(|number| number.parse().ok());
                (String::new(), (number.unwrap_or(0), *pos))
            }
            Position::CommitTs(ts) => ("commit_ts".to_owned(), (0, *ts)),
            Position::Stamp(stamp) => {
                (format!("{}/{}", stamp.domain, stamp.timeline), (0, stamp.position))
            }
        };
        let newest = self.newest.entry((partition, of)).or_insert(at);
        self.backwards += u64::from(at < *newest);
        *newest = at.max(*newest);
    }

    /// Where the record's rows lie. A row that was another user's lies where its user of now does.
    fn place(&mut self, record: &Record<'_>, events: &[Event]) {
        let Ok(partition) = u16::try_from(record.partition) else { return };
        let is_upsert = |event: &&Event| matches!(event.what, What::Upsert { .. });
        let has_upserts = events.iter().any(|event| is_upsert(&event));
        for event in events {
            let (user, is_control) = match event.what {
                What::Upsert { user, .. } => (user, false),
                What::Delete { user, .. } if !has_upserts => (user, false),
                What::Control(ControlRow { user, .. }) => (user, true),
                _ => continue,
            };
            let is_control = is_control || (event.table.is_some() && event.table == self.control);
            let key = record.key.map(<[u8]>::to_vec);
            self.rows.push(Row { user, partition, key, is_control });
        }
    }

    /// The format of most records.
    pub fn main_dialect(&self) -> Option<Dialect> {
        let known = self.dialects.iter().filter_map(|(dialect, count)| Some(((*dialect)?, count)));
        known.max_by_key(|(_, count)| **count).map(|(dialect, _)| dialect)
    }
}
