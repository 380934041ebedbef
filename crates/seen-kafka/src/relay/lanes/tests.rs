//! Whole batches against what comes out.

use seen_dialect::seen_event::ReadRecord;
use seen_filter::hash::HashKey;
use seen_filter::{FenceSeq, Incarnation, Item};

use super::*;

const NS: NamespaceId = NamespaceId::new(0);

fn lanes(sources: u16, now: Instant) -> Lanes {
    let options = LanesOptions {
        name: "first",
        shard: Shard::new(0),
        sources: (0..sources).map(|at| (Partition::new(at), None)).collect(),
        partitions: 2,
        partitioner: Partitioner::Slots(HashKey::new(1, [7; 16])),
        quiet: Duration::from_millis(500),
    };
    Lanes::new(options, now).expect("lanes")
}

fn stamp(timeline: u64, position: u64) -> CommitStamp {
    CommitStamp::new(Domain::new(0), Timeline::new(timeline), position)
}

fn batch(events: Vec<FeedEvent>, offset: u64) -> FeedBatch {
    let resume = FeedCursor { timeline: Timeline::new(1), offset };
    FeedBatch { events, resume, caught_up: false }
}

fn add(position: u64, user: u64) -> FeedEvent {
    let item = Item::new(1, position);
    FeedEvent::Add { stamp: stamp(1, position), user: UserId::new(user), item }
}

/// What comes out: lane, where the source goes on, events.
fn flushed(lanes: &mut Lanes, now: Instant, all: bool) -> Vec<(u16, u64, Vec<FeedEvent>)> {
    let mut out = Vec::new();
    lanes.flush(now, all, &mut out);
    out.into_iter()
        .map(|(lane, value)| {
            let read = ReadRecord::read(&value).expect("a record");
            let events = read.changes().map(|change| change.event).collect();
            (lane, read.source.resume.offset, events)
        })
        .collect()
}

#[test]
fn a_full_record_names_the_place_before_its_batch() {
    let now = Instant::now();
    let mut lanes = lanes(1, now);
    lanes.take(0, &batch(vec![add(1, 5)], 10), NS).expect("taken");
    lanes.take(0, &batch((2..1_500).map(|at| add(at, 5)).collect(), 20), NS).expect("taken");
    let out = flushed(&mut lanes, now, false);
    let said: Vec<_> = out.iter().map(|(_, offset, events)| (*offset, events.len())).collect();
    assert_eq!(said, [(10, 1_024), (20, 475)]);
}

#[test]
fn quiet_lanes_are_told_their_place_after_a_while() {
    let now = Instant::now();
    let mut lanes = lanes(1, now);
    lanes.take(0, &batch(vec![add(1, 5)], 10), NS).expect("taken");
    let first = flushed(&mut lanes, now, false);
    assert_eq!(first.len(), 1, "{first:?}");
    let later = flushed(&mut lanes, now + Duration::from_millis(500), false);
    assert_eq!(later, [(1 - first[0].0, 10, Vec::new())]);
    assert_eq!(flushed(&mut lanes, now + Duration::from_secs(2), true), []);
    assert_eq!(flushed(&mut lanes, now + Duration::from_secs(61), false).len(), 2, "said again");
}

#[test]
fn complete_is_what_is_complete_in_all_partitions_of_the_source() {
    let now = Instant::now();
    let mut lanes = lanes(2, now);
    let complete = |position| FeedEvent::Complete { stamp: stamp(1, position) };
    lanes.take(0, &batch(vec![complete(9)], 1), NS).expect("taken");
    let alone = flushed(&mut lanes, now, true);
    assert!(alone.iter().all(|(_, _, events)| events.is_empty()), "{alone:?}");
    lanes.take(1, &batch(vec![complete(4)], 2), NS).expect("taken");
    let both = flushed(&mut lanes, now, true);
    let told: Vec<_> = both.iter().flat_map(|(_, _, events)| events).collect();
    assert_eq!(told, [&complete(4); 2]);
}

#[test]
fn a_fence_comes_after_what_another_partition_told_before() {
    let now = Instant::now();
    let mut lanes = lanes(2, now);
    let user = UserId::new(5);
    let (writer, seq) = (Incarnation::new(1), FenceSeq::new(1));
    let fence = FeedEvent::Fence { stamp: stamp(1, 7), user, writer, seq };
    lanes.take(0, &batch(vec![add(1, 5), fence], 1), NS).expect("taken");
    lanes.take(1, &batch(vec![add(2, 5), fence], 1), NS).expect("taken");
    let events: Vec<_> =
        flushed(&mut lanes, now, false).into_iter().flat_map(|(_, _, events)| events).collect();
    assert_eq!(events, [add(1, 5), add(2, 5), fence]);
}

#[test]
fn partitions_that_are_numbered_apart_are_refused() {
    let mut lanes = lanes(2, Instant::now());
    lanes.take(0, &batch(vec![add(1, 5)], 1), NS).expect("taken");
    let other = FeedEvent::Complete { stamp: stamp(2, 1) };
    let refused = lanes.take(1, &batch(vec![other], 1), NS).expect_err("another timeline");
    assert!(matches!(refused, RelayError::NumberedApart { .. }), "{refused}");
}
