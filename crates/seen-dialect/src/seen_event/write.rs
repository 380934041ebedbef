//! Collects events until a record is full.

use seen_filter::{FeedEvent, GapScope, Item, UserId};

use super::{
    CHANGE_RECORD_BYTES_MAX, CHANGE_RECORD_EVENTS_MAX, CHANGE_RECORD_START, ChangeHead,
    ChangeRecordError, ChangeSource, FORMAT, NAMESPACE_BYTES_MAX, Numbering, Op, REASON_BYTES_MAX,
    field,
};
use crate::protobuf::{put_varint, zigzag};

/// More than any event takes, and than everything takes that is no event.
const EVENT_BYTES_MAX: usize = 96;
const HEAD_BYTES_MAX: usize = 256;

/// A record that is being written.
#[derive(Debug)]
pub struct ChangeRecord {
    head: Vec<u8>,
    numbering: Option<Numbering>,
    columns: Columns,
    last_position: u64,
    last_marked_at_ms: u64,
}

#[derive(Debug, Default)]
struct Columns {
    ops: Vec<u8>,
    positions: Vec<u8>,
    users: Vec<u8>,
    item_kinds: Vec<u8>,
    item_ids: Vec<u8>,
    marked_at_ms: Vec<u8>,
    epochs: Vec<u8>,
    fence_writers: Vec<u8>,
    fence_seqs: Vec<u8>,
    /// With their tags and lengths: texts are not packed.
    reasons: Vec<u8>,
}

impl Columns {
    const fn all(&self) -> [(u64, &Vec<u8>); 9] {
        [
            (field::OPS, &self.ops),
            (field::POSITIONS, &self.positions),
            (field::USERS, &self.users),
            (field::ITEM_KINDS, &self.item_kinds),
            (field::ITEM_IDS, &self.item_ids),
            (field::MARKED_AT_MS, &self.marked_at_ms),
            (field::EPOCHS, &self.epochs),
            (field::FENCE_WRITERS, &self.fence_writers),
            (field::FENCE_SEQS, &self.fence_seqs),
        ]
    }

    fn bytes(&self) -> usize {
        self.all().iter().map(|(_, column)| column.len()).sum::<usize>() + self.reasons.len()
    }

    fn clear(&mut self) {
        let Self {
            ops,
            positions,
            users,
            item_kinds,
            item_ids,
            marked_at_ms,
            epochs,
            fence_writers,
            fence_seqs,
            reasons,
        } = self;
        for column in [
            ops,
            positions,
            users,
            item_kinds,
            item_ids,
            marked_at_ms,
            epochs,
            fence_writers,
            fence_seqs,
            reasons,
        ] {
            column.clear();
        }
    }
}

impl ChangeRecord {
    /// A record without events.
    ///
    /// # Errors
    /// [`ChangeRecordError::Namespace`].
    pub fn new(head: &ChangeHead<'_>) -> Result<Self, ChangeRecordError> {
        if head.namespace.is_empty() || head.namespace.len() > NAMESPACE_BYTES_MAX {
            return Err(ChangeRecordError::Namespace);
        }
        let mut bytes = CHANGE_RECORD_START.to_vec();
        put_number(field::FORMAT, FORMAT, &mut bytes);
        put_bytes(field::NAMESPACE, head.namespace.as_bytes(), &mut bytes);
        put_number(field::SHARD, head.shard.get().into(), &mut bytes);
        put_number(field::PARTITION, head.partition.get().into(), &mut bytes);
        put_number(field::PARTITIONS, head.partitions.into(), &mut bytes);
        Ok(Self {
            head: bytes,
            numbering: None,
            columns: Columns::default(),
            last_position: 0,
            last_marked_at_ms: 0,
        })
    }

    /// How many events it holds.
    pub fn len(&self) -> usize {
        self.columns.ops.len()
    }

    /// True if it holds no event.
    pub fn is_empty(&self) -> bool {
        self.columns.ops.is_empty()
    }

    /// Adds an event; `marked_at_ms` counts for rows added only. False if the event did not fit, or is
    /// of another domain or timeline: finish this record and push it again.
    pub fn push(&mut self, event: &FeedEvent, marked_at_ms: Option<u64>) -> bool {
        let bytes = self.columns.bytes() + EVENT_BYTES_MAX + HEAD_BYTES_MAX;
        if self.len() == CHANGE_RECORD_EVENTS_MAX || bytes > CHANGE_RECORD_BYTES_MAX {
            return false;
        }
        if let Some(stamp) = event.stamp() {
            let numbering = Numbering { domain: stamp.domain, timeline: stamp.timeline };
            if *self.numbering.get_or_insert(numbering) != numbering {
                return false;
            }
            let step = stamp.position.wrapping_sub(self.last_position).cast_signed();
            put_varint(zigzag(step), &mut self.columns.positions);
            self.last_position = stamp.position;
        }
        match *event {
            FeedEvent::Add { user, item, .. } => {
                self.row(if marked_at_ms.is_some() { Op::AddTimed } else { Op::Add }, user, item);
                if let Some(at) = marked_at_ms {
                    let step = at.wrapping_sub(self.last_marked_at_ms).cast_signed();
                    put_varint(zigzag(step), &mut self.columns.marked_at_ms);
                    self.last_marked_at_ms = at;
                }
            }
            FeedEvent::Remove { user, item, .. } => self.row(Op::Remove, user, item),
            FeedEvent::RemoveAll { user, .. } => self.of_user(Op::RemoveAll, user),
            FeedEvent::Forgotten { user, epoch, .. } => {
                self.of_user(Op::Forgotten, user);
                put_varint(epoch.get().into(), &mut self.columns.epochs);
            }
            FeedEvent::Fence { user, writer, seq, .. } => {
                self.of_user(Op::Fence, user);
                self.columns.fence_writers.extend(writer.get().to_le_bytes());
                put_varint(seq.get(), &mut self.columns.fence_seqs);
            }
            FeedEvent::Complete { .. } => self.columns.ops.push(Op::Complete as u8),
            FeedEvent::Gap { scope, reason } => {
                match scope {
                    GapScope::User(user) => self.of_user(Op::GapUser, user),
                    GapScope::Partition => self.columns.ops.push(Op::GapPartition as u8),
                }
                let end = reason.floor_char_boundary(REASON_BYTES_MAX);
                put_text(field::REASONS, &reason[..end], &mut self.columns.reasons);
            }
        }
        true
    }

    fn of_user(&mut self, op: Op, user: UserId) {
        self.columns.ops.push(op as u8);
        self.columns.users.extend(user.get().to_le_bytes());
    }

    fn row(&mut self, op: Op, user: UserId, item: Item) {
        self.of_user(op, user);
        self.columns.item_kinds.push(item.kind.get());
        self.columns.item_ids.extend(item.id.get().to_le_bytes());
    }

    /// The record's bytes, with where the writer goes on after it. What is pushed from now on begins
    /// another record with the same head.
    pub fn finish(&mut self, source: ChangeSource) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.columns.bytes() + HEAD_BYTES_MAX);
        out.extend(&self.head);
        let numbering = self.numbering.take().unwrap_or_default();
        put_number(field::DOMAIN, numbering.domain.get().into(), &mut out);
        put_fixed64(field::TIMELINE, numbering.timeline.get(), &mut out);
        for (number, column) in self.columns.all() {
            put_bytes(number, column, &mut out);
        }
        out.extend(&self.columns.reasons);
        let mut place = Vec::new();
        put_number(field::SOURCE_PARTITION, source.partition.get().into(), &mut place);
        put_fixed64(field::SOURCE_TIMELINE, source.resume.timeline.get(), &mut place);
        put_number(field::SOURCE_OFFSET, source.resume.offset, &mut place);
        // Last, and said even where all of it is 0: its absence means that the record was cut.
        put_text_bytes(field::SOURCE, &place, &mut out);
        self.columns.clear();
        (self.last_position, self.last_marked_at_ms) = (0, 0);
        out
    }
}

/// A number, left out where it is 0.
fn put_number(field: u64, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        put_varint(field << 3, out);
        put_varint(number, out);
    }
}

/// A number of eight bytes, left out where it is 0.
fn put_fixed64(field: u64, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        put_varint(field << 3 | 1, out);
        out.extend(number.to_le_bytes());
    }
}

/// Bytes, left out where there are none.
fn put_bytes(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        put_text_bytes(field, bytes, out);
    }
}

fn put_text(field: u64, text: &str, out: &mut Vec<u8>) {
    put_text_bytes(field, text.as_bytes(), out);
}

fn put_text_bytes(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(field << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend(bytes);
}
