//! What cannot work is refused when the feed is made.

use rdkafka::mocking::MockCluster;
use seen_dialect::FollowedTable;
use seen_filter::FeedProof;
use seen_filter::hash::HashKey;
use seen_kafka::{KafkaFeed, KafkaOptions, Partitioner};

use super::world::{NS, by_key, options};

/// Nobody answers there.
const NOWHERE: &str = "127.0.0.1:1";

async fn refusal(options: KafkaOptions) -> String {
    let connecting = tokio::task::spawn_blocking(move || KafkaFeed::connect(options));
    let connected = connecting.await.expect("no panic");
    connected.err().expect("it is refused").to_string()
}

/// Canal hashes the name of the row's own database along.
#[tokio::test]
async fn canal_spreads_rows_of_one_database_only() {
    let canal = Partitioner::Canal { database: "db".to_owned() };
    let mut options = options(NOWHERE, "t", "db", canal, FeedProof::Fences);
    options.topics[0].tables[0] = (Some(NS), FollowedTable::own("shop", "reads"));
    let refused = refusal(options.clone()).await;
    for part in ["kafka.partitioner = canal", "shop.reads", "tables of db"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    // With its own tables only Kafka is missing.
    options.topics[0].tables[0] = (Some(NS), FollowedTable::own("db", "reads"));
    options.connect_timeout_ms = 100;
    let failed = refusal(options).await;
    assert!(failed.contains(NOWHERE), "{failed}");
}

#[tokio::test]
async fn the_number_of_partitions_is_the_topics() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("three", 3, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    let said = |partitions| KafkaOptions {
        partitions: Some(partitions),
        ..options(&brokers, "three", "db", by_key(), FeedProof::Fences)
    };
    let refused = refusal(said(4)).await;
    for part in ["kafka.partitions = 4", "\"three\" has 3", "allowed: 3"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let three = said(3);
    let connecting = tokio::task::spawn_blocking(move || KafkaFeed::connect(three));
    assert!(connecting.await.expect("no panic").is_ok());
}

/// A relay spreads users by 4,096 slots: further partitions would stay empty, and no fence could be led
/// through them.
#[tokio::test]
async fn slots_fill_so_many_partitions() {
    let slots = Partitioner::Slots(HashKey::new(1, [7; 16]));
    let options = options(NOWHERE, "t", "db", slots, FeedProof::Fences);
    let options = KafkaOptions { partitions: Some(5_000), connect_timeout_ms: 100, ..options };
    let refused = refusal(options).await;
    for part in ["5000 partitions", "kafka.partitioner = slots", "1 to 4096"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
}
