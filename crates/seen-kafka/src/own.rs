//! Records of the project's own format, as `seen relay` writes them: each holds events of one feed
//! partition, which go to its readers as they are, with the stamps of their source.

use seen_dialect::Record;
use seen_dialect::seen_event::{CHANGE_RECORD_START, ReadRecord};
use seen_filter::{FeedEvent, GapScope, Partition, Shard};

use crate::topic::Topic;

/// True if the value is a record of this format.
pub(crate) fn is_own(value: Option<&[u8]>) -> bool {
    value.is_some_and(|value| value.starts_with(&CHANGE_RECORD_START))
}

impl Topic {
    /// Hands an own record's events to the readers that want them.
    pub(crate) fn own(&mut self, partition: u16, offset: u64, record: &Record<'_>) {
        match self.read_own(partition, record) {
            Ok(Some(read)) => self.take_own(partition, offset, &read),
            // Of a history that is not followed here.
            Ok(None) => {}
            Err(reason) => {
                self.keep_dead(record, reason);
                let event = FeedEvent::Gap { scope: GapScope::Partition, reason };
                for reader in &mut self.readers {
                    if reader.wants(partition, offset) {
                        reader.take(offset, event);
                    }
                }
            }
        }
        self.end_record(partition, offset);
    }

    fn read_own<'a>(
        &self,
        partition: u16,
        record: &Record<'a>,
    ) -> Result<Option<ReadRecord<'a>>, &'static str> {
        let value = record.value.unwrap_or_default();
        let read = ReadRecord::read(value).map_err(|_| "record_damaged")?;
        let head = &read.head;
        let followed = |(_, name): &(_, String)| name == head.namespace;
        if head.shard != self.topic.shard || !self.topic.namespaces.iter().any(followed) {
            return Ok(None);
        }
        // Whoever wrote it spread users otherwise than they are looked for here.
        let partitions = u32::from(self.shape.partitions());
        if head.partition != Partition::new(partition) || head.partitions != partitions {
            return Err("other_partitions");
        }
        Ok(Some(read))
    }

    fn take_own(&mut self, partition: u16, offset: u64, read: &ReadRecord<'_>) {
        let (name, shard): (&str, Shard) = (read.head.namespace, read.head.shard);
        let named = self.topic.namespaces.iter().find(|(_, known)| known == name);
        let Some((namespace, _)) = named else { return };
        let takes_fences = self.shape.takes_fences();
        for reader in &mut self.readers {
            let feed = reader.feed;
            if feed.namespace != *namespace
                || feed.shard != shard
                || !reader.wants(partition, offset)
            {
                continue;
            }
            for change in read.changes() {
                reader.says_more(offset);
                match change.event {
                    FeedEvent::Fence { .. } if !takes_fences => {}
                    FeedEvent::Fence { writer, seq, .. } => {
                        if reader.fence_came(partition, writer.get(), seq.get()) {
                            reader.take(offset, change.event);
                        }
                    }
                    // Of one partition: where several are one feed, what all of them have completed.
                    FeedEvent::Complete { stamp } if reader.sources().len() > 1 => {
                        if let Some(stamp) = reader.watermark_came(partition, stamp) {
                            reader.take(offset, FeedEvent::Complete { stamp });
                        }
                    }
                    event => reader.take(offset, event),
                }
            }
        }
    }
}
