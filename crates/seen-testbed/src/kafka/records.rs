//! Records, sent and received without compression.

use std::io;

use super::Kafka;
use super::wire::{Answer, Request};
use crate::error::{Error, While};

const PRODUCE: (i16, i16) = (0, 3);
const FETCH: (i16, i16) = (1, 4);
const LIMIT_MS: i32 = 30_000;
/// As much as one answer may carry.
const FETCH_BYTES: i32 = 64 << 20;
/// The one format of records that brokers still take.
const MAGIC: i8 = 2;
/// In a batch's attributes.
const COMPRESSION: i16 = 0b111;
const CONTROL: i16 = 0b10_0000;
/// From a batch's start: its base offset and its length.
const BATCH_HEAD_BYTES: usize = 12;

/// One record of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Where it lies. Not looked at when it is sent.
    pub partition: i32,
    /// Its place in the partition. Not looked at when it is sent.
    pub offset: i64,
    /// When it was made, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key; none for null.
    pub key: Option<Vec<u8>>,
    /// The value; none for null.
    pub value: Option<Vec<u8>>,
    /// Names and values.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// One to send: a key and a value as text.
    pub fn new(key: &str, value: &str) -> Self {
        let bytes = |text: &str| Some(text.as_bytes().to_vec());
        Self { key: bytes(key), value: bytes(value), ..Self::default() }
    }

    /// The key as text; empty for null.
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }

    /// The value as text; empty for null.
    pub fn value_text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }
}

impl Kafka {
    /// Appends records to a partition, in one batch. Gives the offset of the first.
    pub fn send(&self, topic: &str, partition: i32, records: &[Record]) -> Result<i64, Error> {
        let batch = batch(records);
        let mut body = Request::default();
        // No transaction; acknowledged by all.
        body.i16(-1).i16(-1).i32(LIMIT_MS).count(1).string(topic).count(1).i32(partition);
        body.count(batch.len()).bytes(&batch);
        let what = || format!("send to {topic} {partition}");
        let mut answer = self.ask(PRODUCE, &body, what, |answer| {
            answer.count()?;
            answer.string()?;
            answer.count()?;
            answer.i32()?;
            Ok((answer.i16()?, String::new()))
        })?;
        answer.i64().when(what)
    }

    /// Everything that a topic holds now, partition by partition; nothing where there is no such topic.
    pub fn records(&self, topic: &str) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        for partition in 0..i32::try_from(self.partitions(topic)?).unwrap_or(i32::MAX) {
            let offsets = self.offsets(topic, partition)?;
            records.extend(self.records_from(topic, partition, offsets.start)?);
        }
        Ok(records)
    }

    /// What a partition holds now from an offset on.
    pub fn records_from(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
    ) -> Result<Vec<Record>, Error> {
        let end = self.offsets(topic, partition)?.end;
        let mut records = Vec::new();
        let mut next = from;
        while next < end {
            next = self.fetch(topic, partition, next, &mut records)?;
        }
        Ok(records)
    }

    /// Reads once. Gives where to go on.
    fn fetch(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        records: &mut Vec<Record>,
    ) -> Result<i64, Error> {
        let mut body = Request::default();
        // A consumer, which waits for one byte at least and sees what is not committed.
        body.i32(-1).i32(LIMIT_MS).i32(1).i32(FETCH_BYTES).i8(0);
        body.count(1).string(topic).count(1).i32(partition).i64(from).i32(FETCH_BYTES);
        let what = || format!("read {topic} {partition} from {from}");
        let mut answer = self.ask(FETCH, &body, what, |answer| {
            answer.i32()?;
            answer.count()?;
            answer.string()?;
            answer.count()?;
            answer.i32()?;
            Ok((answer.i16()?, String::new()))
        })?;
        let mut rest = || -> io::Result<i64> {
            answer.i64()?;
            answer.i64()?;
            for _ in 0..answer.count()? {
                answer.i64()?;
                answer.i64()?;
            }
            let length = answer.count()?;
            let mut batches = Answer::new(answer.take(length)?.to_vec());
            read_batches(&mut batches, partition, from, records)
        };
        rest().when(what)
    }
}

/// Reads the whole batches of an answer, the last of which may be cut off. Gives the offset after them.
fn read_batches(
    batches: &mut Answer,
    partition: i32,
    from: i64,
    records: &mut Vec<Record>,
) -> io::Result<i64> {
    let mut next = from;
    while batches.remaining() >= BATCH_HEAD_BYTES {
        let base = batches.i64()?;
        let length = batches.count()?;
        if batches.remaining() < length {
            break;
        }
        let mut batch = Answer::new(batches.take(length)?.to_vec());
        let (last, read) = read_batch(&mut batch, partition, base)?;
        // A batch begins before what was asked for, where that lies within it.
        records.extend(read.into_iter().filter(|record| record.offset >= from));
        next = last + 1;
    }
    if next == from {
        return Err(io::Error::other("no whole batch in the answer"));
    }
    Ok(next)
}

/// One batch, after its head. Gives its last offset too.
fn read_batch(batch: &mut Answer, partition: i32, base: i64) -> io::Result<(i64, Vec<Record>)> {
    batch.i32()?;
    if batch.i8()? != MAGIC {
        return Err(io::Error::other("records of another format"));
    }
    batch.i32()?;
    let attributes = batch.i16()?;
    let last = base + i64::from(batch.i32()?);
    let first_timestamp = batch.i64()?;
    batch.i64()?;
    // The producer's id, epoch and sequence.
    batch.i64()?;
    batch.i16()?;
    batch.i32()?;
    if attributes & CONTROL != 0 {
        return Ok((last, Vec::new()));
    }
    if attributes & COMPRESSION != 0 {
        return Err(io::Error::other("compressed records are not read here"));
    }
    let mut records = Vec::new();
    for _ in 0..batch.count()? {
        batch.varint()?;
        batch.i8()?;
        let timestamp_ms = first_timestamp + batch.varint()?;
        let offset = base + batch.varint()?;
        let (key, value) = (nullable(batch)?, nullable(batch)?);
        let mut headers = Vec::new();
        for _ in 0..batch.varint()? {
            let name = nullable(batch)?.unwrap_or_default();
            headers.push((String::from_utf8_lossy(&name).into_owned(), nullable(batch)?));
        }
        records.push(Record { partition, offset, timestamp_ms, key, value, headers });
    }
    Ok((last, records))
}

fn nullable(batch: &mut Answer) -> io::Result<Option<Vec<u8>>> {
    match usize::try_from(batch.varint()?) {
        Ok(length) => Ok(Some(batch.take(length)?.to_vec())),
        Err(_) => Ok(None),
    }
}

/// Records as they are sent and lie on disk.
fn batch(records: &[Record]) -> Vec<u8> {
    let first_timestamp = records.first().map_or(0, |record| record.timestamp_ms);
    let max_timestamp = records.iter().map(|record| record.timestamp_ms).max().unwrap_or_default();
    // What the checksum covers.
    let mut body = Request::default();
    let last = i32::try_from(records.len()).unwrap_or(i32::MAX) - 1;
    body.i16(0).i32(last).i64(first_timestamp).i64(max_timestamp);
    // Not an idempotent producer.
    body.i64(-1).i16(-1).i32(-1).count(records.len());
    for (at, record) in (0..).zip(records) {
        let mut one = vec![0];
        put_varint(&mut one, record.timestamp_ms - first_timestamp);
        put_varint(&mut one, at);
        put_nullable(&mut one, record.key.as_deref());
        put_nullable(&mut one, record.value.as_deref());
        put_length(&mut one, record.headers.len());
        for (name, value) in &record.headers {
            put_nullable(&mut one, Some(name.as_bytes()));
            put_nullable(&mut one, value.as_deref());
        }
        put_length(&mut body.0, one.len());
        body.bytes(&one);
    }
    let mut batch = Request::default();
    // The leader's epoch, the format and the checksum are part of the length.
    batch.i64(0).count(4 + 1 + 4 + body.0.len()).i32(-1).i8(MAGIC);
    batch.bytes(&crc32c(&body.0).to_be_bytes()).bytes(&body.0);
    batch.0
}

fn put_nullable(to: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(to, -1),
        Some(bytes) => {
            put_length(to, bytes.len());
            to.extend_from_slice(bytes);
        }
    }
}

fn put_length(to: &mut Vec<u8>, length: usize) {
    put_varint(to, i64::try_from(length).unwrap_or(i64::MAX));
}

fn put_varint(to: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        to.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    to.push(raw as u8);
}

/// Castagnoli's checksum, a bit at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, -1, 63, 64, -64, -65, 300, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(Answer::new(bytes).varint().ok(), Some(value));
        }
    }
}
