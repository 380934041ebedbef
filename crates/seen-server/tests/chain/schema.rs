//! What happens to the table as a whole.

use super::chain::Chain;
use super::producer::Tool;
use super::watch::Watch;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_is_truncated_and_altered() {
    let Some(mut chain) = Chain::start().await else { return };
    chain.fill().await;
    if Tool::chosen().is_of(&[Tool::Debezium, Tool::Canal], "Maxwell says nothing of a truncate") {
        chain.sql("TRUNCATE TABLE history_feed_read").await;
        chain.agree().await;
        chain.fill().await;
    }
    let watch = Watch::begin(&chain);
    chain.sql("ALTER TABLE history_feed_read ADD COLUMN note VARCHAR(20) NULL").await;
    chain
        .sql(
            "INSERT INTO history_feed_read (user_id, kind, item_id, marked_at_ms, note)
               VALUES (1, 1, 30, 5, 'a\"b')",
        )
        .await;
    chain.agree().await;
    chain.sql("ALTER TABLE history_feed_read RENAME COLUMN note TO remark").await;
    chain.sql("INSERT INTO history_feed_read VALUES (2, 1, 31, 5, 'c')").await;
    chain.agree().await;
    chain.sql("ALTER TABLE history_feed_read DROP COLUMN remark").await;
    chain.sql("INSERT INTO history_feed_read VALUES (3, 1, 32, 5)").await;
    chain.agree().await;
    watch.end(&chain).await;
    chain.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_transaction_of_a_hundred_thousand_rows() {
    let Some(mut chain) = Chain::start().await else { return };
    chain.fill().await;
    let watch = Watch::begin(&chain);
    chain
        .sql(
            "INSERT INTO history_feed_read SELECT 1 + a.seq % 5000, 1, 1 + a.seq, 9 \
             FROM seq_1_to_100000 a ON DUPLICATE KEY UPDATE marked_at_ms = 9",
        )
        .await;
    chain.agree().await;
    watch.end(&chain).await;
    chain.settle().await;
}
