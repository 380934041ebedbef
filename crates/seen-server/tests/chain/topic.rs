//! What happens to the topic.

use seen_testbed::Record;

use super::chain::{Chain, PARTITIONS, TOPIC};
use super::producer::Tool;
use super::watch::Watch;

/// Records are deleted that the replicas have not read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_cuts_what_was_not_read() {
    let Some(mut chain) = Chain::start().await else { return };
    chain.fill().await;
    let watch = Watch::begin(&chain);
    for replica in &chain.replicas {
        replica.process.signal("-STOP");
    }
    let before = chain.records();
    chain
        .sql(
            "INSERT INTO history_feed_read SELECT 1 + seq % 11, 1, 1 + seq % 39, 3 \
               FROM seq_1_to_400 ON DUPLICATE KEY UPDATE marked_at_ms = 3",
        )
        .await;
    chain.sql("DELETE FROM history_feed_read WHERE user_id = 5").await;
    chain.wait_for_records(before + 10).await;
    tokio::task::block_in_place(|| {
        for partition in 0..PARTITIONS as i32 {
            let offsets = chain.kafka.offsets(TOPIC, partition).expect("offsets");
            chain.kafka.delete_records(TOPIC, partition, offsets.end).expect("deleted");
        }
    });
    for replica in &chain.replicas {
        replica.process.signal("-CONT");
    }
    chain.agree().await;
    watch.end(&chain).await;
    chain.settle().await;
}

/// A record that nobody can read puts its partition in doubt, is kept, and does not hold up the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_read() {
    let Some(mut chain) = Chain::start().await else { return };
    chain.fill().await;
    let watch = Watch::begin(&chain);
    tokio::task::block_in_place(|| {
        for partition in 0..PARTITIONS as i32 {
            let poison = Record::new("{\"user_id\":1}", "{\"op\":\"c\",\"after\":{\"user_id\"");
            chain.kafka.send(TOPIC, partition, &[poison]).expect("sent");
        }
    });
    chain.sql("INSERT INTO history_feed_read VALUES (6, 1, 22, 5), (7, 1, 22, 5)").await;
    chain.agree().await;
    let doubts = chain.replicas[0].metric("seen_feed_gaps_total").await;
    assert!(doubts >= PARTITIONS as f64, "{doubts} gaps");
    watch.end(&chain).await;
    chain.settle().await;
}

/// The producer spreads users anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_added() {
    let why_not = "Canal is told the number of partitions and never asks";
    if !Tool::chosen().is_of(&[Tool::Debezium, Tool::Maxwell], why_not) {
        return;
    }
    let Some(mut chain) = Chain::start().await else { return };
    chain.fill().await;
    let watch = Watch::begin(&chain);
    tokio::task::block_in_place(|| {
        chain.kafka.add_partitions(TOPIC, PARTITIONS + 1).expect("added");
    });
    chain.sql("INSERT INTO history_feed_read VALUES (8, 1, 23, 5), (9, 1, 23, 5)").await;
    chain.agree().await;
    // The producer learns of it by and by.
    chain.wait_for_records_in(PARTITIONS).await;
    chain.sql("INSERT INTO history_feed_read SELECT seq, 1, 24, 5 FROM seq_1_to_11").await;
    chain.agree().await;
    chain.sql("DELETE FROM history_feed_read WHERE item_id = 24 AND user_id < 100").await;
    chain.agree().await;
    watch.end(&chain).await;
    chain.settle().await;
}
