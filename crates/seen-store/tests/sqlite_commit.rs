//! Group commit, its bounds, and the end of a store.

mod store;

use std::sync::Arc;

use seen_filter::{ChangeFeed, FeedStart, History, StoreErrorKind, UserId};
use seen_store::{SqliteOptions, SqliteStore};
use store::{NS, ids, kind, mark, open, options, plain};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_marks_share_commits() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("seen.db")).await;
    let mut callers = Vec::new();
    for caller in 0..64_u64 {
        let store = Arc::clone(&store);
        callers.push(tokio::spawn(async move {
            for round in 0..8 {
                let ids = (0..10).map(|n| round * 10 + n);
                store.write(mark(caller, ids)).await.expect("a write");
            }
        }));
    }
    for caller in callers {
        caller.await.expect("a caller");
    }
    let stats = store.stats();
    assert_eq!((stats.calls, stats.rows_appended), (512, 5_120));
    assert!(stats.commits < stats.calls / 2, "{} commits of {} calls", stats.commits, stats.calls);
    assert_eq!(stats.head, stats.commits, "each commit has one number");
    assert_eq!(stats.commit_calls.buckets.iter().sum::<u64>(), stats.commits);
    for caller in 0..64 {
        assert_eq!(ids(&*store, caller).await.len(), 80);
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_takes_no_more_rows_than_its_bound() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let options = SqliteOptions { commit_rows_max: 100, ..options(&path) };
    let store = SqliteStore::open(options, plain()).await.expect("a store");
    let mut calls = Vec::new();
    for user in 0..50_u64 {
        // Some calls are larger than the bound: they are committed alone.
        let rows = if user % 10 == 0 { 300 } else { 30 };
        calls.push(store.write(mark(user, 0..rows)));
    }
    for outcome in join(calls).await {
        outcome.expect("a write");
    }
    let stats = store.stats();
    let sizes = stats.commit_rows.buckets;
    // Buckets 2^0 to 2^7 hold up to 128 rows, 2^9 the large calls.
    assert_eq!((sizes[8], sizes[9], sizes[10..].iter().sum::<u64>()), (0, 5, 0), "{sizes:?}");
    assert!(stats.commits >= 5 + 45 * 30 / 100, "{} commits", stats.commits);
    store.close().await;
}

/// Polls all futures together.
async fn join<T: Send + 'static>(futures: Vec<impl Future<Output = T> + Send>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|context| {
        let mut all = true;
        for (future, done) in &mut waiting {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(outcome) => *done = Some(outcome),
                    std::task::Poll::Pending => all = false,
                }
            }
        }
        if all { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test]
async fn a_full_queue_refuses_and_writes_nothing_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let options = SqliteOptions { pending_writes_max: 4, ..options(&path) };
    let store = SqliteStore::open(options, plain()).await.expect("a store");
    let calls = (0..40).map(|user| store.write(mark(user, [1]))).collect();
    let outcomes = join(calls).await;
    let refused = outcomes.iter().filter(|o| o.is_err()).count();
    assert!((1..=36).contains(&refused), "{refused} of 40 refused");
    for (user, outcome) in (0..).zip(outcomes) {
        let written = outcome.is_ok();
        assert_eq!(ids(&*store, user).await.len(), usize::from(written), "user {user}");
        if !written {
            assert_eq!(kind(outcome), Some(StoreErrorKind::Overloaded));
        }
    }
    store.write(mark(99, [1])).await.expect("room again");
    store.close().await;
}

#[tokio::test]
async fn closing_commits_what_was_accepted_and_refuses_the_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let store = open(&path).await;
    let feed = store.feed_of(NS, UserId::new(7));
    let mut reader = ChangeFeed::open(&*store, feed, FeedStart::Head).await.expect("a reader");
    let (written, ()) = tokio::join!(store.write(mark(7, 0..100)), store.close());
    written.expect("accepted before the end");
    let unavailable = Some(StoreErrorKind::Unavailable);
    assert_eq!(kind(store.write(mark(7, [1])).await), unavailable);
    assert_eq!(kind(store.page(store::page(7)).await), unavailable);
    assert_eq!(kind(store.check(NS, Vec::new()).await), unavailable);
    let ended = loop {
        if let Err(error) = reader.next(10).await {
            break error;
        }
    };
    assert!(!ended.retry_helps);
    store.close().await;
    assert!(!folder.path().join("seen.db-wal").exists(), "the last one to close tidies up");
    let again = open(&path).await;
    assert_eq!(ids(&*again, 7).await.len(), 100);
    again.close().await;
}

#[test]
fn a_store_opened_on_one_runtime_serves_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let storage = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let store = storage.block_on(open(&path));
    let callers: Vec<_> = (0..3_u64)
        .map(|caller| {
            let store = Arc::clone(&store);
            std::thread::spawn(move || {
                let serving = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                serving.block_on(async {
                    store.write(mark(caller, 0..50)).await.expect("a write");
                    assert_eq!(ids(&*store, caller).await.len(), 50);
                });
            })
        })
        .collect();
    for caller in callers {
        caller.join().expect("a caller");
    }
    storage.block_on(store.close());
}

#[tokio::test]
async fn forgetting_much_lets_others_in_between() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("seen.db")).await;
    for block in 0..24 {
        store.write(mark(7, block * 1_000..(block + 1) * 1_000)).await.expect("a write");
    }
    let before = store.stats().commits;
    let marks = async {
        let mut stamps = Vec::new();
        for id in 0..3 {
            stamps.push(store.write(mark(8, [id])).await.expect("a write"));
        }
        stamps
    };
    let (forgotten, stamps) = tokio::join!(store.forget(NS, UserId::new(7)), marks);
    let forgotten = forgotten.expect("forgotten");
    assert_eq!(forgotten.rows, 24_000);
    assert!(store.stats().commits >= before + 5 + 3, "in transactions of 5,000 rows");
    assert!(stamps[0] < forgotten.stamp, "the first mark did not wait for all of it");
    assert!(ids(&*store, 7).await.is_empty());
    assert_eq!(ids(&*store, 8).await, [0, 1, 2]);
    store.close().await;
}
