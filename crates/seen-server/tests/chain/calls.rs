//! The API's own writes, when the feed says them again.

use super::ask::{READ, forget, mark, patient, unmark};
use super::chain::Chain;
use super::watch::Watch;

/// Unmarked and marked again, forgotten and marked again; then the producer is killed, and says
/// all of it again.
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
    }
    // Each waits out what stalled commits may bring back: some seconds.
    let mut forgets = tokio::task::JoinSet::new();
    for user in [4, 5, 6] {
        let mut api = api.clone();
        forgets.spawn(async move {
            api.forget(patient(forget(user, READ))).await.expect("forgotten");
            api.mark(patient(mark(user, READ, [33]))).await.expect("marked");
        });
    }
    while let Some(done) = forgets.join_next().await {
        done.expect("no panic");
    }
    tokio::task::block_in_place(|| {
        chain.producer.kill_9().expect("killed");
        chain.producer.restart().expect("restarted");
    });
    chain.agree().await;
    watch.end(&chain).await;
    chain.settle().await;
}
