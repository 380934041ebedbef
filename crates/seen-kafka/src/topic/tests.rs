//! What readers are told of a topic's ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;

use rdkafka::ClientConfig;
use seen_filter::hash::HashKey;
use seen_filter::{FeedCursor, FeedId, FeedProof, FeedReader, NamespaceId, Partition, Shard};
use tokio::sync::watch;

use super::*;
use crate::context::Quiet;
use crate::partitioner::Partitioner;
use crate::queue::{KafkaReader, ReaderQueue};
use crate::schemas::SchemaOptions;

/// A topic of two partitions at brokers that are not there.
fn topic() -> Topic {
    let hash_key = HashKey::new(1, [7; 16]);
    let options = TopicOptions {
        shard: Shard::new(0),
        topic: "t".to_owned(),
        partitioner: Partitioner::Slots(hash_key),
        namespaces: Vec::new(),
        tables: Vec::new(),
        namespace_ids: watch::channel(HashMap::new()).1,
    };
    let all = KafkaOptions {
        brokers: String::new(),
        client: BTreeMap::new(),
        topics: vec![options.clone()],
        hash_key,
        dialect: None,
        schemas: SchemaOptions::default(),
        proof: FeedProof::Fences,
        stamp_of: Arc::new(|_, _| None),
        partitions: Some(2),
        connect_timeout_ms: 1,
        heartbeat_ms: 1,
        queue_events_max: 10,
        fetch_kib_max: 1,
        dead_letters: None,
    };
    let consumer = ClientConfig::new().set("group.id", "t").create_with_context(Quiet);
    let consumer: TopicConsumer = consumer.expect("a consumer");
    let consumer = Arc::new(Leaving::new(consumer, "a consumer"));
    let (long, short) = (Duration::from_secs(600), Duration::from_millis(1));
    let looker = Looker::start(Arc::clone(&consumer), "t".to_owned(), long, short);
    let shape = Arc::new(Shape::new(options.partitioner.clone(), 2));
    Topic::new(Arc::new(all), options, shape, consumer, looker.expect("a thread"), None)
}

/// A reader of this partition, and its end.
fn reader(topic: &mut Topic, partition: u16) -> KafkaReader {
    let feed = FeedId::new(NamespaceId::new(0), Shard::new(0), Partition::new(partition));
    let queue = ReaderQueue::new(feed, FeedCursor::default(), 10);
    let timeline = topic.timeline(partition);
    let next = BTreeMap::from([(partition, 0)]);
    topic.readers.push(Reader::new(Arc::clone(&queue), timeline, next, None, false));
    topic.parts[usize::from(partition)].next = Some(0);
    KafkaReader::new(queue, Duration::from_millis(1))
}

#[tokio::test]
async fn a_reader_stays_at_its_end_while_others_come_to_theirs() {
    let mut topic = topic();
    let (mut first, mut second) = (reader(&mut topic, 0), reader(&mut topic, 1));
    topic.ended(0);
    assert!(first.next(1).await.expect("a beat").caught_up);
    assert!(!second.next(1).await.expect("a beat").caught_up, "it has not come to its end");
    // A record passes that says nothing to the reader of its partition.
    topic.parts[0].next = Some(1);
    topic.parts[0].at_end = false;
    topic.end_record(0, 0);
    topic.ended(1);
    assert!(second.next(1).await.expect("a beat").caught_up);
    assert!(first.next(1).await.expect("a beat").caught_up, "nothing has come for it");
}

#[test]
fn whoever_begins_at_the_end_is_there() {
    let mut topic = topic();
    topic.parts[0].next = Some(4);
    assert!(topic.ends_at(0, 7, 7), "what others have still to read is not for it");
    assert!(!topic.ends_at(0, 5, 7));
    topic.parts[0].next = Some(7);
    assert!(topic.ends_at(0, 7, 7) && topic.parts[0].is_at_end());
}

/// What a reader is told that goes on after record 6 of epoch 3, when this comes by and then the next one.
async fn told_of(comes: (u64, Option<u32>)) -> Vec<FeedEvent> {
    let mut topic = topic();
    let mut reader = reader(&mut topic, 0);
    let one = topic.readers.last_mut().expect("a reader");
    one.move_to(0, 7, Timeline::new(5));
    one.follows(Some((6, 3)));
    for (offset, epoch) in [(5, Some(1)), comes, (8, Some(4))] {
        topic.parts[0].epoch = epoch;
        topic.compare_with_places(0, offset);
    }
    reader.next(10).await.expect("a batch").events
}

#[tokio::test]
async fn a_log_that_was_written_anew_is_a_gap_for_whoever_goes_on_in_it() {
    let gap = FeedEvent::Gap { scope: GapScope::Partition, reason: "log_truncated" };
    for still_there in [(6, Some(3)), (6, None)] {
        assert_eq!(told_of(still_there).await, [], "{still_there:?}");
    }
    for another in [(6, Some(2)), (6, Some(4)), (7, Some(3)), (7, None)] {
        let told = told_of(another).await;
        assert!(
            matches!(told[..], [first, FeedEvent::Complete { .. }] if first == gap),
            "{told:?}"
        );
    }
}

/// Counts what is told in the log.
#[derive(Clone, Default)]
struct Told(Arc<AtomicUsize>);

impl tracing::Subscriber for Told {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn that_partitions_are_missing_is_said_once() {
    let (mut topic, told) = (topic(), Told::default());
    let mut looks = |partitions: usize| {
        let id = Some(TopicId::new(1));
        let look = Look { began: Instant::now(), id, ends: vec![Some((0, 0)); partitions] };
        tracing::subscriber::with_default(told.clone(), || topic.looked(&look));
        told.0.load(Ordering::Relaxed)
    };
    let all: Vec<usize> = [2, 1, 1, 1, 0, 0, 2, 1, 1].into_iter().map(&mut looks).collect();
    assert_eq!(all, [0, 1, 1, 1, 2, 2, 2, 3, 3]);
}
