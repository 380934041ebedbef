//! Reads a record's events without copying any.

use seen_filter::{
    CommitStamp, Domain, FeedCursor, FeedEvent, FenceSeq, GapScope, Incarnation, Item, Partition,
    Shard, Timeline, UserEpoch, UserId,
};

use super::{
    CHANGE_RECORD_BYTES_MAX, CHANGE_RECORD_EVENTS_MAX, CHANGE_RECORD_START, Change, ChangeHead,
    ChangeRecordError, ChangeSource, FORMAT, NAMESPACE_BYTES_MAX, Numbering, Op, REASON_BYTES_MAX,
    RELAYED, field,
};
use crate::protobuf::{Fields, Malformed, Value, take_array, take_varint, unzigzag};

type Read<T> = Result<T, ChangeRecordError>;

const fn damaged<T>(what: &'static str) -> Read<T> {
    Err(ChangeRecordError::Damaged(what))
}

/// A record whose events can all be read.
#[derive(Clone, Debug)]
pub struct ReadRecord<'a> {
    /// Whose events it holds.
    pub head: ChangeHead<'a>,
    /// Where its writer goes on.
    pub source: ChangeSource,
    numbering: Numbering,
    columns: Columns<'a>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Columns<'a> {
    ops: &'a [u8],
    positions: &'a [u8],
    users: &'a [u8],
    item_kinds: &'a [u8],
    item_ids: &'a [u8],
    marked_at_ms: &'a [u8],
    epochs: &'a [u8],
    fence_writers: &'a [u8],
    fence_seqs: &'a [u8],
    /// The record from its first reason on.
    reasons: &'a [u8],
}

/// How many values the events have in each column.
#[derive(Default)]
struct Counts {
    positions: usize,
    users: usize,
    rows: usize,
    timed: usize,
    epochs: usize,
    fences: usize,
    reasons: usize,
}

impl Counts {
    fn of(ops: &[u8]) -> Option<Self> {
        let mut seen = [0; 10];
        for &byte in ops {
            *seen.get_mut(usize::from(byte))? += 1;
        }
        let of = |op: Op| seen[op as usize];
        let rows = of(Op::Add) + of(Op::AddTimed) + of(Op::Remove);
        let by_user = rows + of(Op::RemoveAll) + of(Op::Forgotten) + of(Op::Fence);
        (seen[0] == 0).then(|| Self {
            positions: by_user + of(Op::Complete),
            users: by_user + of(Op::GapUser),
            rows,
            timed: of(Op::AddTimed),
            epochs: of(Op::Forgotten),
            fences: of(Op::Fence),
            reasons: of(Op::GapUser) + of(Op::GapPartition),
        })
    }
}

/// True if these are exactly so many numbers, none above the bound.
fn are_numbers(mut bytes: &[u8], count: usize, most: u64) -> bool {
    for _ in 0..count {
        if !take_varint(&mut bytes).is_ok_and(|number| number <= most) {
            return false;
        }
    }
    bytes.is_empty()
}

impl<'a> ReadRecord<'a> {
    /// Looks whether a record can be read whole, which its events then can without fail.
    ///
    /// # Errors
    /// What is wrong with it. Nothing of it may be used then, and events may be missing.
    pub fn read(value: &'a [u8]) -> Result<Self, ChangeRecordError> {
        if value.len() > CHANGE_RECORD_BYTES_MAX {
            return Err(ChangeRecordError::TooLarge);
        }
        let rest = value.strip_prefix(&CHANGE_RECORD_START).ok_or(ChangeRecordError::Start)?;
        let mut parts = Parts::default();
        let mut fields = Fields(rest);
        loop {
            let before = fields.0;
            match fields.next() {
                None => break,
                Some(Err(Malformed)) => return damaged("a field"),
                Some(Ok((number, value))) => parts.take(number, value, before)?,
            }
        }
        parts.checked()
    }

    /// How many events it holds.
    pub fn len(&self) -> usize {
        self.columns.ops.len()
    }

    /// True if it holds no event.
    pub fn is_empty(&self) -> bool {
        self.columns.ops.is_empty()
    }

    /// The events, in their order.
    pub fn changes(&self) -> Changes<'a> {
        Changes { numbering: self.numbering, rest: self.columns, position: 0, marked_at_ms: 0 }
    }
}

/// What has been read of a record's fields.
#[derive(Default)]
struct Parts<'a> {
    /// Which fields there were, each by its bit.
    seen: u64,
    format: u64,
    namespace: &'a str,
    shard: u64,
    partition: u64,
    partitions: u64,
    domain: u64,
    timeline: u64,
    source: Option<ChangeSource>,
    columns: Columns<'a>,
    reasons: usize,
}

impl<'a> Parts<'a> {
    fn take(&mut self, number: u64, value: Value<'a>, before: &'a [u8]) -> Read<()> {
        // Twice would be joined by a library, which nobody writes and nobody has to read.
        if number < 64 && number != field::REASONS {
            if self.seen & (1 << number) != 0 {
                return damaged("a field comes twice");
            }
            self.seen |= 1 << number;
        }
        self.set(number, value, before)
            .map_err(|Malformed| ChangeRecordError::Damaged("a field is of another type"))
    }

    fn set(&mut self, number: u64, value: Value<'a>, before: &'a [u8]) -> Result<(), Malformed> {
        let columns = &mut self.columns;
        match number {
            field::FORMAT => self.format = value.varint()?,
            field::NAMESPACE => self.namespace = value.text()?,
            field::SHARD => self.shard = value.varint()?,
            field::PARTITION => self.partition = value.varint()?,
            field::PARTITIONS => self.partitions = value.varint()?,
            field::DOMAIN => self.domain = value.varint()?,
            field::TIMELINE => self.timeline = value.fixed64()?,
            field::SOURCE => self.source = Some(source(value.bytes()?)?),
            field::OPS => columns.ops = value.bytes()?,
            field::POSITIONS => columns.positions = value.bytes()?,
            field::USERS => columns.users = value.bytes()?,
            field::ITEM_KINDS => columns.item_kinds = value.bytes()?,
            field::ITEM_IDS => columns.item_ids = value.bytes()?,
            field::MARKED_AT_MS => columns.marked_at_ms = value.bytes()?,
            field::EPOCHS => columns.epochs = value.bytes()?,
            field::FENCE_WRITERS => columns.fence_writers = value.bytes()?,
            field::FENCE_SEQS => columns.fence_seqs = value.bytes()?,
            field::REASONS => {
                if value.text()?.len() > REASON_BYTES_MAX {
                    return Err(Malformed);
                }
                if self.reasons == 0 {
                    columns.reasons = before;
                }
                self.reasons += 1;
            }
            // Of a later version, which says by `format` if it must not be passed over.
            _ => {}
        }
        Ok(())
    }

    fn checked(self) -> Read<ReadRecord<'a>> {
        if self.format != FORMAT {
            return Err(ChangeRecordError::Version(self.format));
        }
        if self.namespace.is_empty() || self.namespace.len() > NAMESPACE_BYTES_MAX {
            return Err(ChangeRecordError::Namespace);
        }
        let (Ok(shard), Ok(partition), Ok(partitions), Ok(domain), Some(source)) = (
            u16::try_from(self.shard),
            u16::try_from(self.partition),
            u32::try_from(self.partitions),
            u32::try_from(self.domain),
            self.source,
        ) else {
            return damaged("the head");
        };
        let columns = self.columns;
        if columns.ops.len() > CHANGE_RECORD_EVENTS_MAX {
            return Err(ChangeRecordError::TooLarge);
        }
        let Some(counts) = Counts::of(columns.ops) else { return damaged("an unknown event") };
        let whole = are_numbers(columns.positions, counts.positions, u64::MAX)
            && columns.users.len() == counts.users * 8
            && columns.item_kinds.len() == counts.rows
            && columns.item_ids.len() == counts.rows * 8
            && are_numbers(columns.marked_at_ms, counts.timed, u64::MAX)
            && are_numbers(columns.epochs, counts.epochs, u32::MAX.into())
            && columns.fence_writers.len() == counts.fences * 8
            && are_numbers(columns.fence_seqs, counts.fences, u64::MAX)
            && self.reasons == counts.reasons;
        if !whole {
            return damaged("a column does not fit the events");
        }
        Ok(ReadRecord {
            head: ChangeHead {
                namespace: self.namespace,
                shard: Shard::new(shard),
                partition: Partition::new(partition),
                partitions,
            },
            source,
            numbering: Numbering {
                domain: Domain::new(domain),
                timeline: Timeline::new(self.timeline),
            },
            columns,
        })
    }
}

fn source(bytes: &[u8]) -> Result<ChangeSource, Malformed> {
    let mut source = ChangeSource::default();
    let FeedCursor { timeline, offset } = &mut source.resume;
    for field in Fields(bytes) {
        match field? {
            (field::SOURCE_PARTITION, value) => {
                let partition = u16::try_from(value.varint()?).map_err(|_| Malformed)?;
                source.partition = Partition::new(partition);
            }
            (field::SOURCE_TIMELINE, value) => *timeline = Timeline::new(value.fixed64()?),
            (field::SOURCE_OFFSET, value) => *offset = value.varint()?,
            _ => {}
        }
    }
    Ok(source)
}

/// A record's events, one by one.
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    numbering: Numbering,
    rest: Columns<'a>,
    position: u64,
    marked_at_ms: u64,
}

/// The next number of a column. It is there: the record was looked through before.
#[inline]
fn number(column: &mut &[u8]) -> u64 {
    take_varint(column).unwrap_or_default()
}

#[inline]
fn fixed(column: &mut &[u8]) -> u64 {
    u64::from_le_bytes(take_array(column).unwrap_or_default())
}

impl<'a> Changes<'a> {
    #[inline]
    fn stamp(&mut self) -> CommitStamp {
        let step = unzigzag(number(&mut self.rest.positions));
        self.position = self.position.wrapping_add(step.cast_unsigned());
        CommitStamp::new(self.numbering.domain, self.numbering.timeline, self.position)
    }

    #[inline]
    fn user(&mut self) -> UserId {
        UserId::new(fixed(&mut self.rest.users))
    }

    #[inline]
    fn item(&mut self) -> Item {
        let kind = self.rest.item_kinds.split_off_first().copied().unwrap_or_default();
        Item::new(kind, fixed(&mut self.rest.item_ids))
    }

    fn reason(&mut self) -> &'a str {
        let mut fields = Fields(self.rest.reasons);
        while let Some(Ok((number, value))) = fields.next() {
            if number == field::REASONS {
                self.rest.reasons = fields.0;
                return value.text().unwrap_or_default();
            }
        }
        ""
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Change<'a>;

    #[inline]
    fn next(&mut self) -> Option<Change<'a>> {
        let op = Op::of(*self.rest.ops.split_off_first()?)?;
        let mut marked_at_ms = None;
        let mut why = "";
        let event = match op {
            Op::Add | Op::AddTimed => {
                let (stamp, user, item) = (self.stamp(), self.user(), self.item());
                if op == Op::AddTimed {
                    let step = unzigzag(number(&mut self.rest.marked_at_ms));
                    self.marked_at_ms = self.marked_at_ms.wrapping_add(step.cast_unsigned());
                    marked_at_ms = Some(self.marked_at_ms);
                }
                FeedEvent::Add { stamp, user, item }
            }
            Op::Remove => {
                FeedEvent::Remove { stamp: self.stamp(), user: self.user(), item: self.item() }
            }
            Op::RemoveAll => FeedEvent::RemoveAll { stamp: self.stamp(), user: self.user() },
            Op::Forgotten => FeedEvent::Forgotten {
                stamp: self.stamp(),
                user: self.user(),
                epoch: UserEpoch::new(number(&mut self.rest.epochs) as u32),
            },
            Op::Fence => FeedEvent::Fence {
                stamp: self.stamp(),
                user: self.user(),
                writer: Incarnation::new(fixed(&mut self.rest.fence_writers)),
                seq: FenceSeq::new(number(&mut self.rest.fence_seqs)),
            },
            Op::Complete => FeedEvent::Complete { stamp: self.stamp() },
            Op::GapUser => {
                why = self.reason();
                FeedEvent::Gap { scope: GapScope::User(self.user()), reason: RELAYED }
            }
            Op::GapPartition => {
                why = self.reason();
                FeedEvent::Gap { scope: GapScope::Partition, reason: RELAYED }
            }
        };
        Some(Change { event, marked_at_ms, reason: why })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.rest.ops.len(), Some(self.rest.ops.len()))
    }
}

impl ExactSizeIterator for Changes<'_> {}
