//! Parts that stop, and come back.

use super::chain::Chain;
use super::watch::Watch;

/// Lets a part fail while somebody else writes and readers hold their tokens; heals it; then both
/// replicas agree with storage.
async fn outage(chain: &mut Chain, fail: impl Fn(&Chain), heal: impl Fn(&Chain), rows: &str) {
    chain.fill().await;
    let watch = Watch::begin(chain);
    tokio::task::block_in_place(|| fail(chain));
    chain.sql(rows).await;
    chain.is_stale().await;
    // By storage.
    watch.answers_more().await;
    tokio::task::block_in_place(|| heal(chain));
    chain.agree().await;
    watch.end(chain).await;
    chain.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_away_for_a_while() {
    let Some(mut chain) = Chain::start().await else { return };
    let fail = |chain: &Chain| chain.kafka.stop().expect("stopped");
    let heal = |chain: &Chain| chain.kafka.restart().expect("restarted");
    let rows = "INSERT INTO history_feed_read VALUES (1, 1, 20, 5); \
                DELETE FROM history_feed_read WHERE user_id = 2 AND item_id = 2";
    outage(&mut chain, fail, heal, rows).await;
}

/// What it had not noted as sent comes again, behind what came after it. Canal, as it is run here, keeps
/// no place: what was written meanwhile never comes, which the replicas' own fences show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_producer_is_killed_and_says_things_again() {
    let Some(mut chain) = Chain::start().await else { return };
    let fail = |chain: &Chain| chain.producer.kill_9().expect("killed");
    let heal = |chain: &Chain| chain.producer.restart().expect("restarted");
    let rows = "DELETE FROM history_feed_read WHERE user_id = 1; \
                INSERT INTO history_feed_read VALUES (1, 1, 1, 7); \
                DELETE FROM history_feed_read WHERE user_id = 3 AND item_id = 3";
    outage(&mut chain, fail, heal, rows).await;
}

/// It stands still, connected to both ends: nothing follows in the topic, and nothing is proven by that
/// (row 25).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_producer_stands_still() {
    let Some(mut chain) = Chain::start().await else { return };
    let fail = |chain: &Chain| chain.producer.freeze().expect("frozen");
    let heal = |chain: &Chain| chain.producer.thaw().expect("thawed");
    let rows = "INSERT INTO history_feed_read VALUES (4, 1, 21, 5), (5, 1, 21, 5)";
    outage(&mut chain, fail, heal, rows).await;
}
