//! Rows written by a foreign SQL client.

use super::chain::Chain;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_others_are_seen_at_both_replicas() {
    let Some(mut chain) = Chain::start().await else { return };
    chain.sql("INSERT INTO history_feed_read VALUES (1, 1, 1, 5), (2, 1, 2, 5)").await;
    chain.agree().await;
    // Everybody is in memory now; what comes is told by the feed alone.
    chain.sql("INSERT INTO history_feed_read VALUES (1, 1, 2, 6), (8, 1, 3, 6)").await;
    chain.agree().await;
    chain.sql("DELETE FROM history_feed_read WHERE user_id = 1 AND item_id = 1").await;
    chain.agree().await;
    chain.sql("UPDATE history_feed_read SET item_id = 9 WHERE user_id = 2").await;
    chain.agree().await;
    chain.sql("UPDATE history_feed_read SET user_id = 3 WHERE user_id = 8").await;
    chain.agree().await;
}
