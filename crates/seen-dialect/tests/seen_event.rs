//! The project's own format, held against the library that everybody else reads it with.

use proptest::prelude::*;
use prost::Message;
use seen_dialect::seen_event::{
    CHANGE_RECORD_BYTES_MAX, CHANGE_RECORD_EVENTS_MAX, CHANGE_RECORD_START, Change, ChangeHead,
    ChangeRecord, ChangeRecordError, ChangeSource, RELAYED, ReadRecord,
};
use seen_filter::{
    CommitStamp, Domain, FeedCursor, FeedEvent, FenceSeq, GapScope, Incarnation, Item, Partition,
    Shard, Timeline, UserEpoch, UserId,
};
use seen_proto::v1;

fn head() -> ChangeHead<'static> {
    let (shard, partition) = (Shard::new(3), Partition::new(17));
    ChangeHead { namespace: "feed", shard, partition, partitions: 64 }
}

fn place(offset: u64) -> ChangeSource {
    let resume = FeedCursor { timeline: Timeline::new(9), offset };
    ChangeSource { partition: Partition::new(2), resume }
}

fn stamp(position: u64) -> CommitStamp {
    CommitStamp::new(Domain::new(5), Timeline::new(77), position)
}

const REASONS: [&str; 3] = ["gtid_gap", "retention", ""];

/// An event, and when its item was read.
type Written = (FeedEvent, Option<u64>);

fn one() -> impl Strategy<Value = Written> {
    let number = || prop_oneof![any::<u64>(), 0..300_u64, Just(u64::MAX)];
    let row = (number(), number(), any::<u8>(), number());
    let add =
        (row.clone(), proptest::option::of(number())).prop_map(|((at, user, kind, id), time)| {
            let item = Item::new(kind, id);
            (FeedEvent::Add { stamp: stamp(at), user: UserId::new(user), item }, time)
        });
    let remove = row.prop_map(|(at, user, kind, id)| {
        let item = Item::new(kind, id);
        (FeedEvent::Remove { stamp: stamp(at), user: UserId::new(user), item }, None)
    });
    let of_user =
        (number(), number(), any::<u32>(), 0..3_u8).prop_map(|(at, user, epoch, what)| {
            let (stamp, user, epoch) = (stamp(at), UserId::new(user), UserEpoch::new(epoch));
            let event = match what {
                0 => FeedEvent::RemoveAll { stamp, user },
                1 => FeedEvent::Forgotten { stamp, user, epoch },
                _ => FeedEvent::Complete { stamp },
            };
            (event, None)
        });
    let fence = (number(), number(), number(), number()).prop_map(|(at, user, writer, seq)| {
        let (writer, seq) = (Incarnation::new(writer), FenceSeq::new(seq));
        (FeedEvent::Fence { stamp: stamp(at), user: UserId::new(user), writer, seq }, None)
    });
    let gap = (proptest::option::of(number()), 0..REASONS.len()).prop_map(|(user, reason)| {
        let scope = user.map_or(GapScope::Partition, |user| GapScope::User(UserId::new(user)));
        (FeedEvent::Gap { scope, reason: REASONS[reason] }, None)
    });
    prop_oneof![4 => add, 2 => remove, 1 => of_user, 1 => fence, 1 => gap]
}

fn written(events: &[Written]) -> Vec<u8> {
    let mut record = ChangeRecord::new(&head()).expect("a name");
    for (event, marked_at_ms) in events {
        assert!(record.push(event, *marked_at_ms), "it fits");
    }
    record.finish(place(1_000))
}

/// What reading gives for it.
fn expected((event, marked_at_ms): &Written) -> Change<'static> {
    match *event {
        FeedEvent::Gap { scope, reason } => {
            let event = FeedEvent::Gap { scope, reason: RELAYED };
            Change { event, marked_at_ms: None, reason }
        }
        event => Change { event, marked_at_ms: *marked_at_ms, reason: "" },
    }
}

/// The same as the library's message: what `proto/seen/v1/change.proto` says that it is.
fn as_message(events: &[Written]) -> v1::ChangeRecord {
    use v1::ChangeOp as Op;
    let mut message = v1::ChangeRecord {
        magic: 0x4e45_4553,
        format: 1,
        namespace: "feed".to_owned(),
        shard: 3,
        partition: 17,
        partitions: 64,
        source: Some(v1::ChangeSource { partition: 2, timeline: 9, offset: 1_000 }),
        ..Default::default()
    };
    let (mut last_position, mut last_time) = (0_u64, 0_u64);
    for (event, time) in events {
        let (stamp, user, item) = match *event {
            FeedEvent::Add { stamp, user, item } | FeedEvent::Remove { stamp, user, item } => {
                (Some(stamp), Some(user), Some(item))
            }
            FeedEvent::RemoveAll { stamp, user }
            | FeedEvent::Forgotten { stamp, user, .. }
            | FeedEvent::Fence { stamp, user, .. } => (Some(stamp), Some(user), None),
            FeedEvent::Complete { stamp } => (Some(stamp), None, None),
            FeedEvent::Gap { scope: GapScope::User(user), .. } => (None, Some(user), None),
            FeedEvent::Gap { scope: GapScope::Partition, .. } => (None, None, None),
        };
        if let Some(stamp) = stamp {
            (message.domain, message.timeline) = (5, 77);
            message.positions.push(stamp.position.wrapping_sub(last_position).cast_signed());
            last_position = stamp.position;
        }
        message.users.extend(user.map(UserId::get));
        message.item_kinds.extend(item.map(|item| item.kind.get()));
        message.item_ids.extend(item.map(|item| item.id.get()));
        let op = match *event {
            FeedEvent::Add { .. } => match time {
                None => Op::Add,
                Some(time) => {
                    message.marked_at_ms.push(time.wrapping_sub(last_time).cast_signed());
                    last_time = *time;
                    Op::AddTimed
                }
            },
            FeedEvent::Remove { .. } => Op::Remove,
            FeedEvent::RemoveAll { .. } => Op::RemoveAll,
            FeedEvent::Forgotten { epoch, .. } => {
                message.epochs.push(epoch.get());
                Op::Forgotten
            }
            FeedEvent::Fence { writer, seq, .. } => {
                message.fence_writers.push(writer.get());
                message.fence_seqs.push(seq.get());
                Op::Fence
            }
            FeedEvent::Complete { .. } => Op::Complete,
            FeedEvent::Gap { scope, reason } => {
                message.reasons.push(reason.to_owned());
                if scope == GapScope::Partition { Op::GapPartition } else { Op::GapUser }
            }
        };
        message.ops.push(op.into());
    }
    message
}

proptest! {
    #[test]
    fn what_is_written_is_what_the_library_writes_and_is_read(
        events in proptest::collection::vec(one(), 0..60),
    ) {
        let bytes = written(&events);
        prop_assert!(bytes.starts_with(&CHANGE_RECORD_START));
        let message = as_message(&events);
        prop_assert_eq!(&bytes, &message.encode_to_vec());
        prop_assert_eq!(v1::ChangeRecord::decode(&*bytes).expect("protobuf"), message);
        let read = ReadRecord::read(&bytes).expect("a record");
        prop_assert_eq!((&read.head, read.source, read.len()), (&head(), place(1_000), events.len()));
        let expected: Vec<_> = events.iter().map(expected).collect();
        prop_assert_eq!(read.changes().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn damage_is_an_error_or_leaves_as_many_events_as_are_said(
        events in proptest::collection::vec(one(), 0..20),
        cut in any::<proptest::sample::Index>(),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), 1..=255_u8), 0..4),
    ) {
        let mut bytes = written(&events);
        for (at, bits) in &flips {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(read) = ReadRecord::read(bytes) {
                prop_assert_eq!(read.changes().count(), read.len());
                prop_assert!(v1::ChangeRecord::decode(bytes).is_ok());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        bytes.splice(0..0, CHANGE_RECORD_START);
        if let Ok(read) = ReadRecord::read(&bytes) {
            prop_assert_eq!(read.changes().count(), read.len());
        }
    }
}

#[test]
fn a_cut_record_is_never_a_shorter_one() {
    let add = |n| {
        (FeedEvent::Add { stamp: stamp(n), user: UserId::new(n), item: Item::new(1, n) }, Some(n))
    };
    let bytes = written(&(1..40).map(add).collect::<Vec<_>>());
    for end in 0..bytes.len() {
        assert!(ReadRecord::read(&bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn records_are_bounded_and_begun_anew() {
    let complete = |n| FeedEvent::Complete { stamp: stamp(n) };
    let mut record = ChangeRecord::new(&head()).expect("a name");
    for n in 0..CHANGE_RECORD_EVENTS_MAX as u64 {
        assert!(record.push(&complete(n), None));
    }
    assert!(!record.push(&complete(0), None), "as many as a record holds");
    let first = record.finish(place(1));
    assert_eq!(ReadRecord::read(&first).expect("whole").len(), CHANGE_RECORD_EVENTS_MAX);
    assert!(record.is_empty());

    let long = "a_reason_that_is_far_longer_than_any_that_is_a_name_and_is_therefore_cut_somewhere";
    let gap = FeedEvent::Gap { scope: GapScope::User(UserId::new(u64::MAX)), reason: long };
    let mut pushed = 0;
    while record.push(&gap, None) {
        pushed += 1;
    }
    let second = record.finish(place(2));
    assert!(second.len() <= CHANGE_RECORD_BYTES_MAX && pushed < CHANGE_RECORD_EVENTS_MAX);
    let read = ReadRecord::read(&second).expect("whole");
    assert_eq!(read.changes().filter(|change| change.reason == &long[..64]).count(), pushed);

    assert!(record.push(&complete(1), None));
    let elsewhere = CommitStamp::new(Domain::new(5), Timeline::new(78), 1);
    assert!(!record.push(&FeedEvent::Complete { stamp: elsewhere }, None), "another timeline");
    let third = record.finish(place(3));
    let changes: Vec<_> = ReadRecord::read(&third).expect("whole").changes().collect();
    assert_eq!(changes, [expected(&(complete(1), None))]);
    assert!(record.push(&FeedEvent::Complete { stamp: elsewhere }, None));
}

#[test]
fn records_of_another_form_are_refused() {
    let good = as_message(&[(FeedEvent::Complete { stamp: stamp(1) }, None)]);
    let read = |message: &v1::ChangeRecord| ReadRecord::read(&message.encode_to_vec()).map(drop);
    assert_eq!(read(&good), Ok(()));
    let version = v1::ChangeRecord { format: 2, ..good.clone() };
    assert_eq!(read(&version), Err(ChangeRecordError::Version(2)));
    let start = v1::ChangeRecord { magic: 1, ..good.clone() };
    assert_eq!(read(&start), Err(ChangeRecordError::Start));
    for name in [String::new(), "n".repeat(49)] {
        let named = v1::ChangeRecord { namespace: name, ..good.clone() };
        assert_eq!(read(&named), Err(ChangeRecordError::Namespace));
    }
    for damaged in [
        v1::ChangeRecord { shard: 65_536, ..good.clone() },
        v1::ChangeRecord { source: None, ..good.clone() },
        v1::ChangeRecord { ops: vec![10], ..good.clone() },
        v1::ChangeRecord { ops: vec![0], ..good.clone() },
        v1::ChangeRecord { ops: vec![1], ..good.clone() },
        v1::ChangeRecord { positions: vec![1, 1], ..good.clone() },
        v1::ChangeRecord { positions: vec![], ..good.clone() },
        v1::ChangeRecord { users: vec![1], ..good.clone() },
        v1::ChangeRecord { reasons: vec!["a".to_owned()], ..good.clone() },
        v1::ChangeRecord { ops: vec![7, 9], reasons: vec!["a".repeat(65)], ..good.clone() },
    ] {
        let refused = read(&damaged);
        assert!(matches!(refused, Err(ChangeRecordError::Damaged(_))), "{refused:?} {damaged:?}");
    }
    let many = v1::ChangeRecord { ops: vec![7; 1_025], positions: vec![0; 1_025], ..good.clone() };
    assert_eq!(read(&many), Err(ChangeRecordError::TooLarge));
    let doubled = [good.encode_to_vec(), vec![0x10, 1]].concat();
    assert!(matches!(ReadRecord::read(&doubled), Err(ChangeRecordError::Damaged(_))));
    let unnamed = ChangeHead { namespace: "", ..head() };
    assert_eq!(ChangeRecord::new(&unnamed).map(drop), Err(ChangeRecordError::Namespace));
}
