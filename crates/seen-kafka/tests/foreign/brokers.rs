//! Brokers that do not answer, and brokers of old: librdkafka's mock cluster.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaApiKey;
use seen_filter::{ChangeFeed, FeedProof, FeedStart};
use seen_kafka::KafkaOptions;

use super::world::{
    PARTITIONS, at_head, by_key, connect, feed_id, options, row, told_until, user_of,
};

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(brokers: i32, topic: &str) -> (Cluster, KafkaOptions) {
    let cluster = MockCluster::new(brokers).expect("a cluster");
    cluster.create_topic(topic, PARTITIONS as i32, 1).expect("a topic");
    let options = options(&cluster.bootstrap_servers(), topic, "db", by_key(), FeedProof::Fences);
    (cluster, options)
}

fn send(cluster: &Cluster, topic: &str, partition: i32, user: u64, item: u64) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .create()
        .expect("a producer");
    let (key, value) = (format!("{{\"user_id\":{user}}}"), row("c", item, user, item));
    let record = BaseRecord::to(topic).partition(partition).key(&key).payload(&value);
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    producer.flush(Duration::from_secs(60)).expect("sent");
}

/// A broker that does not answer holds up those who want its partitions, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_broker_holds_up_nobody_elses_feed() {
    let topic = "silent";
    let (cluster, options) = cluster(2, topic);
    for (partition, broker) in [(0, 1), (1, 2), (2, 1)] {
        cluster.partition_leader(topic, partition, Some(broker)).expect("a leader");
    }
    let feed = connect(KafkaOptions { connect_timeout_ms: 10_000, ..options }).await;
    let user = user_of(&feed, 0);
    let mut reader = at_head(&feed, 0).await;
    // Longer than anybody waits for it.
    cluster.broker_round_trip_time(2, Duration::from_secs(600)).expect("slow");
    let opening = feed.open(feed_id(1), FeedStart::Head);
    // The second one is sent when the reader is certainly being waited for.
    let told = async {
        for item in [5, 6] {
            send(&cluster, topic, 0, user, item);
            let told = told_until(&mut reader, &format!("+{user}:{item}")).await;
            assert_eq!(told, [format!("+{user}:{item}")]);
        }
    };
    tokio::select! {
        biased;
        opened = opening => panic!("it was waited for: {:?}", opened.map(|_| ()).err()),
        () = told => {}
    }
}

/// Before 2.8 topics have no ids: then everything works as it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_without_ids_is_followed_too() {
    let topic = "old";
    let (cluster, options) = cluster(1, topic);
    cluster.apiversion(RDKafkaApiKey::Metadata, Some(0), Some(9)).expect("an old one");
    let feed = connect(options.clone()).await;
    let user = user_of(&feed, 1);
    let mut reader = at_head(&feed, 1).await;
    send(&cluster, topic, 1, user, 5);
    let at = loop {
        let batch = reader.next(1).await.expect("a batch");
        if !batch.events.is_empty() {
            break batch.resume;
        }
    };
    let feed = connect(options).await;
    let mut reader = feed.open(feed_id(1), FeedStart::At(at)).await.expect("a reader");
    send(&cluster, topic, 1, user, 6);
    let told = told_until(&mut reader, &format!("+{user}:6")).await;
    assert_eq!(told, [format!("+{user}:6")]);
}

/// A log that another leader wrote anew, and further than the place, is told from the one that was read: by
/// the epoch of the last record that was (coherence row 20).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_another_leader_wrote_is_told_from_the_one_that_was_read() {
    let topic = "cut_off";
    // Whoever tells topics apart by their ids would not take these for one.
    let log = |epochs: u32| {
        let (cluster, options) = cluster(1, topic);
        cluster.apiversion(RDKafkaApiKey::Metadata, Some(0), Some(9)).expect("an old one");
        for _ in 0..epochs {
            cluster.partition_leader(topic, 1, Some(1)).expect("a leader");
        }
        (cluster, options)
    };
    let (first, options) = log(1);
    let feed = connect(options).await;
    let user = user_of(&feed, 1);
    let mut reader = at_head(&feed, 1).await;
    (1..=3).for_each(|item| send(&first, topic, 1, user, item));
    let mut place = None;
    for _ in 1..=3 {
        place = Some(reader.next(1).await.expect("a batch").resume);
    }
    let start = FeedStart::At(place.expect("read"));
    let (one, another) = (format!("+{user}:4"), "gap log_truncated".to_owned());
    for (epochs, told) in [(1, vec![one.clone()]), (2, vec![another, one.clone()])] {
        let (cluster, options) = log(epochs);
        (1..=4).for_each(|item| send(&cluster, topic, 1, user, item));
        let feed = connect(options).await;
        let mut reader = feed.open(feed_id(1), start).await.expect("a reader");
        assert_eq!(told_until(&mut reader, &one).await, told, "{epochs}");
    }
}
