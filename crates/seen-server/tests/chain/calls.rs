//! The API's own writes, when the feed says them again.

use super::ask::{READ, forget, mark, patient, unmark};
use super::chain::Chain;
use super::watch::Watch;

/// Unmarked and marked again, forgotten and marked again; then Debezium says all of it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_back_and_done_again_is_told_again() {
    let Some(mut chain) = Chain::start().await else { return };
    chain.fill().await;
    let watch = Watch::begin(&chain);
    let mut api = chain.replicas[0].api.clone();
    for round in 0..3 {
        for user in [1, 2, 3] {
            api.unmark(patient(unmark(user, READ, [user, 30]))).await.expect("unmarked");
            api.mark(patient(mark(user, READ, [user, 31 + round]))).await.expect("marked");
        }
        api.forget(patient(forget(4 + round, READ))).await.expect("forgotten");
        api.mark(patient(mark(4 + round, READ, [33]))).await.expect("marked");
    }
    tokio::task::block_in_place(|| {
        chain.debezium.kill_9().expect("killed");
        chain.debezium.restart().expect("restarted");
    });
    chain.agree().await;
    assert!(watch.end().await > 0);
    chain.settle().await;
}
