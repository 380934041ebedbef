//! Messages that are committed together, joined by user.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Mark, Said};
use crate::dead_letters::DeadLetters;
use crate::sample::KafkaRecord;

/// Some messages.
#[derive(Debug, Default)]
pub(super) struct Window {
    calls: BTreeMap<(String, u64), Vec<Call>>,
    /// Messages of which something says nothing, and why.
    pub dead: Vec<(Arc<KafkaRecord>, &'static str)>,
    /// By partition, the first message after these.
    pub ends: BTreeMap<i32, i64>,
    pub messages: u64,
    items: usize,
    bytes: usize,
}

/// What is sent at once: of one user, messages with what they say.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub parts: Vec<(Arc<KafkaRecord>, Mark)>,
    items: usize,
}

impl Call {
    /// One message alone.
    pub fn of((message, mark): (Arc<KafkaRecord>, Mark)) -> Self {
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
    pub fn add(&mut self, message: KafkaRecord, said: Said, items_max: usize) {
        self.ends.insert(message.partition, message.offset + 1);
        self.messages += 1;
        self.bytes += message.bytes();
        let message = Arc::new(message);
        for mark in said.marks {
            if mark.items.is_empty() {
                self.add_part((Arc::clone(&message), mark), items_max);
                continue;
            }
            // One message may hold more than one call may.
            for items in mark.items.chunks(items_max.max(1)) {
                let part = Mark { items: items.to_vec(), ..mark.clone() };
                self.add_part((Arc::clone(&message), part), items_max);
            }
        }
        if let Some(reason) = said.dead {
            self.dead.push((message, reason));
        }
    }

    fn add_part(&mut self, (message, mark): (Arc<KafkaRecord>, Mark), items_max: usize) {
        let count = mark.items.len();
        self.items += count;
        let calls = self.calls.entry((mark.namespace.clone(), mark.user)).or_default();
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
pub(super) fn keep(letters: Option<&mut DeadLetters>, message: &KafkaRecord, reason: &str) {
    let KafkaRecord { topic, partition, offset, .. } = message;
    tracing::warn!(topic, partition, offset, reason, "a message can never be written");
    if let Some(letters) = letters {
        message.with(|record| letters.keep(record, reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seen_filter::Item;

    fn message(partition: i32, offset: i64) -> KafkaRecord {
        KafkaRecord { partition, offset, value: Some(vec![0; 10]), ..KafkaRecord::default() }
    }

    fn mark(user: u64, items: std::ops::Range<u64>) -> Mark {
        let items = items.map(|id| (Item::new(1, id), None)).collect();
        Mark { namespace: "first".to_owned(), user, items }
    }

    fn said(marks: impl IntoIterator<Item = Mark>) -> Said {
        Said { marks: marks.into_iter().collect(), ..Said::default() }
    }

    #[test]
    fn messages_are_joined_by_user_up_to_a_bound() {
        let mut window = Window::default();
        window.add(message(0, 5), said([mark(1, 0..2)]), 4);
        window.add(message(0, 6), said([mark(2, 0..1)]), 4);
        window.add(message(1, 9), said([mark(1, 2..4)]), 4);
        window.add(message(0, 7), said([mark(1, 4..5)]), 4);
        window.add(message(1, 10), Err("not_json").into(), 4);
        assert_eq!(window.ends, BTreeMap::from([(0, 8), (1, 11)]));
        assert_eq!((window.messages, window.items(), window.bytes()), (5, 6, 50));
        let reasons: Vec<_> = window.dead.iter().map(|(_, reason)| *reason).collect();
        assert_eq!(reasons, ["not_json"]);
        let marks: Vec<_> = window.take_calls().iter().filter_map(Call::mark).collect();
        assert_eq!(marks, [mark(1, 0..4), mark(1, 4..5), mark(2, 0..1)]);
    }

    #[test]
    fn one_message_may_be_many_calls() {
        let mut window = Window::default();
        let marks = vec![mark(1, 0..9), mark(2, 0..3)];
        let many = Said { marks, dead: Some("row_deleted"), later: None };
        window.add(message(0, 5), many, 4);
        assert_eq!((window.messages, window.items(), window.dead.len()), (1, 12, 1));
        let marks: Vec<_> = window.take_calls().iter().filter_map(Call::mark).collect();
        assert_eq!(marks, [mark(1, 0..4), mark(1, 4..8), mark(1, 8..9), mark(2, 0..3)]);
    }
}
