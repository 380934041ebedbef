//! Messages that are committed together, joined by user.

use std::collections::BTreeMap;

use rdkafka::Message;
use rdkafka::message::OwnedMessage;
use seen_dialect::Record;

use super::Mark;
use crate::dead_letters::DeadLetters;

/// Some messages.
#[derive(Debug, Default)]
pub(super) struct Window {
    calls: BTreeMap<(String, u64), Vec<Call>>,
    /// Messages that say nothing, and why.
    pub dead: Vec<(OwnedMessage, &'static str)>,
    /// By partition, the first message after these.
    pub ends: BTreeMap<i32, i64>,
    pub messages: u64,
    items: usize,
    bytes: usize,
}

/// What is sent at once: one user's messages, each with what it says.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub parts: Vec<(OwnedMessage, Mark)>,
    items: usize,
}

impl Call {
    /// One message alone.
    pub fn of((message, mark): (OwnedMessage, Mark)) -> Self {
        Self { items: mark.items.len(), parts: vec![(message, mark)] }
    }

    /// All its parts as one.
    pub fn mark(&self) -> Option<Mark> {
        let mut marks = self.parts.iter().map(|(_, mark)| mark);
        let mut whole = marks.next()?.clone();
        marks.for_each(|mark| whole.items.extend_from_slice(&mark.items));
        Some(whole)
    }
}

impl Window {
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn items(&self) -> usize {
        self.items
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message and what it says.
    pub fn add(
        &mut self,
        message: OwnedMessage,
        said: Result<Mark, &'static str>,
        items_max: usize,
    ) {
        self.ends.insert(message.partition(), message.offset() + 1);
        self.messages += 1;
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        self.bytes += length(message.key()) + length(message.payload());
        let mark = match said {
            Ok(mark) if mark.items.len() > items_max => {
                return self.dead.push((message, "too_many_items"));
            }
            Ok(mark) => mark,
            Err(reason) => return self.dead.push((message, reason)),
        };
        self.items += mark.items.len();
        let calls = self.calls.entry((mark.namespace.clone(), mark.user)).or_default();
        let count = mark.items.len();
        match calls.last_mut().filter(|call| call.items + count <= items_max) {
            Some(call) => {
                call.items += count;
                call.parts.push((message, mark));
            }
            None => calls.push(Call::of((message, mark))),
        }
    }

    /// What is to be sent.
    pub fn take_calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls).into_values().flatten().collect()
    }
}

/// Keeps a message that can never be written.
pub(super) fn keep(letters: Option<&mut DeadLetters>, message: &OwnedMessage, reason: &str) {
    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
    tracing::warn!(topic, partition, offset, reason, "a message can never be written");
    let record = Record {
        topic,
        partition,
        offset,
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key(),
        value: message.payload(),
        ..Record::default()
    };
    if let Some(letters) = letters {
        letters.keep(&record, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::Timestamp;
    use seen_filter::Item;

    fn message(partition: i32, offset: i64) -> OwnedMessage {
        let value = Some(vec![0; 10]);
        let at = Timestamp::NotAvailable;
        OwnedMessage::new(value, None, "t".to_owned(), at, partition, offset, None)
    }

    fn mark(user: u64, items: std::ops::Range<u64>) -> Mark {
        let items = items.map(|id| (Item::new(1, id), None)).collect();
        Mark { namespace: "first".to_owned(), user, items }
    }

    #[test]
    fn messages_are_joined_by_user_up_to_a_bound() {
        let mut window = Window::default();
        window.add(message(0, 5), Ok(mark(1, 0..2)), 4);
        window.add(message(0, 6), Ok(mark(2, 0..1)), 4);
        window.add(message(1, 9), Ok(mark(1, 2..4)), 4);
        window.add(message(0, 7), Ok(mark(1, 4..5)), 4);
        window.add(message(1, 10), Err("not_json"), 4);
        window.add(message(0, 8), Ok(mark(1, 0..5)), 4);
        assert_eq!(window.ends, BTreeMap::from([(0, 9), (1, 11)]));
        assert_eq!((window.messages, window.items(), window.bytes()), (6, 6, 60));
        let reasons: Vec<_> = window.dead.iter().map(|(_, reason)| *reason).collect();
        assert_eq!(reasons, ["not_json", "too_many_items"]);
        let marks: Vec<_> = window.take_calls().iter().filter_map(Call::mark).collect();
        assert_eq!(marks, [mark(1, 0..4), mark(1, 4..5), mark(2, 0..1)]);
    }
}
