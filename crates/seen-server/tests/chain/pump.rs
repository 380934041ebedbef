//! Carries the records of a relay's topic to another one, an event in each, and stands still half-way
//! through a transaction of two users when it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seen_dialect::seen_event::{ChangeRecord, ReadRecord};
use seen_filter::FeedEvent;
use seen_testbed::{Kafka, Record};
use tokio::task::{AbortHandle, block_in_place};

use super::ask::READ;

/// Of both topics.
const PARTITION: i32 = 0;

/// A row of a history.
#[derive(Clone, Copy, Debug)]
struct Row {
    transaction: u64,
    user: u64,
    item: u64,
}

/// Ends with this.
pub struct Pump {
    gate: Arc<Mutex<Gate>>,
    task: AbortHandle,
}

#[derive(Default)]
struct Gate {
    /// Whose transaction it is to stand still in, and before the row of whom.
    halves: Option<(u64, u64)>,
    /// The items of the row that has passed, and of the one that has not.
    held: Option<(u64, u64)>,
    /// The rows of the newest transaction that have passed: items by user.
    transaction: u64,
    passed: BTreeMap<u64, u64>,
    /// How many rows have come as far as this.
    rows: u64,
}

impl Gate {
    fn lets_pass(&mut self, row: Option<Row>) -> bool {
        if self.held.is_some() {
            return false;
        }
        let Some(row) = row else { return true };
        if self.transaction != row.transaction {
            (self.transaction, self.passed) = (row.transaction, BTreeMap::new());
        }
        if let Some((first, second)) = self.halves
            && row.user == second
            && let Some(item) = self.passed.get(&first)
        {
            self.held = Some((*item, row.item));
            return false;
        }
        self.passed.insert(row.user, row.item);
        self.rows += 1;
        true
    }
}

impl Pump {
    /// Begins with the first record of `from`.
    pub fn start(kafka: Arc<Kafka>, from: &'static str, to: &'static str) -> Self {
        let gate = Arc::new(Mutex::new(Gate::default()));
        let task = tokio::spawn(run(kafka, from, to, Arc::clone(&gate)));
        Self { gate, task: task.abort_handle() }
    }

    /// From now on it stands still in any transaction that has a row of `second` behind one of `first`.
    pub fn halve(&self, first: u64, second: u64) {
        self.gate.lock().expect("no panic").halves = Some((first, second));
    }

    /// The items of `first` and `second` between which it stands still.
    pub fn held(&self) -> Option<(u64, u64)> {
        self.gate.lock().expect("no panic").held
    }

    /// How many rows have passed.
    pub fn rows(&self) -> u64 {
        self.gate.lock().expect("no panic").rows
    }

    /// Goes on.
    pub fn release(&self) {
        let mut gate = self.gate.lock().expect("no panic");
        (gate.halves, gate.held) = (None, None);
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(kafka: Arc<Kafka>, from: &'static str, to: &'static str, gate: Arc<Mutex<Gate>>) {
    let (mut next, mut waiting) = (0, VecDeque::new());
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    loop {
        looks.tick().await;
        let come = block_in_place(|| kafka.records_from(from, PARTITION, next)).expect("records");
        if let Some(last) = come.last() {
            next = last.offset + 1;
        }
        waiting.extend(come.iter().flat_map(pieces));
        let mut passing = Vec::new();
        while let Some((row, record)) = waiting.pop_front() {
            if !gate.lock().expect("no panic").lets_pass(row) {
                waiting.push_front((row, record));
                break;
            }
            passing.push(record);
        }
        for batch in passing.chunks(500) {
            block_in_place(|| kafka.send(to, PARTITION, batch)).expect("sent");
        }
    }
}

/// A record for each of its events; one without events is left as it is.
fn pieces(record: &Record) -> Vec<(Option<Row>, Record)> {
    let value = record.value.as_deref().expect("a relay's record");
    let read = ReadRecord::read(value).expect("a relay's record");
    if read.is_empty() {
        return vec![(None, record.clone())];
    }
    let changes = read.changes().map(|change| {
        let mut one = ChangeRecord::new(&read.head).expect("a head");
        assert!(one.push(&change.event, change.marked_at_ms), "an empty record takes any event");
        let row = match change.event {
            FeedEvent::Add { stamp, user, item } if read.head.namespace == READ => {
                let (user, item) = (user.get(), item.id.get());
                Some(Row { transaction: stamp.position, user, item })
            }
            _ => None,
        };
        (row, Record { value: Some(one.finish(read.source)), ..record.clone() })
    });
    changes.collect()
}
