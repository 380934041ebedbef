//! What is not promised any more goes, and nothing else does.

mod store;

use seen_filter::history::{Write, WriteOp};
use seen_filter::{
    ChangeFeed, FeedEvent, FeedStart, FenceSeq, History, Incarnation, Item, NamespaceSettings,
    Retention, UnixMillis, UserId,
};
use seen_store::conformance::ManualClock;
use seen_store::{SqliteOptions, SqliteStore};
use store::{NS, events, ids, mark, options, plain};

const HOUR_MS: u64 = 3_600_000;

fn expiring() -> Vec<NamespaceSettings> {
    let mut settings = plain();
    settings[0].retention = Some(Retention { span_ms: 24 * HOUR_MS, bucket_ms: HOUR_MS });
    settings
}

fn newest(newest_max: u32) -> Vec<NamespaceSettings> {
    let mut settings = plain();
    settings[0].newest_max = Some(newest_max);
    settings
}

async fn stored_rows(store: &SqliteStore) -> u64 {
    store.measure().await.expect("sizes")[0].rows
}

#[tokio::test]
async fn expired_rows_are_removed_and_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = ManualClock::at(1_790_000_000_000);
    let asked = SqliteOptions { clock: clock.clock(), ..options(&folder.path().join("seen.db")) };
    let store = SqliteStore::open(asked, expiring()).await.expect("a store");
    // Extreme users, since the walk goes from the lowest key to the highest.
    let users = [0, 1, 7, 1 << 63, u64::MAX];
    for user in users {
        store.write(mark(user, 0..600)).await.expect("a write");
    }
    clock.advance(20 * HOUR_MS);
    for user in users {
        store.write(mark(user, 300..700)).await.expect("a write");
    }
    let feed = store.feed_of(NS, UserId::new(7));
    let mut reader = ChangeFeed::open(&*store, feed, FeedStart::Head).await.expect("a reader");
    events(&mut reader).await;
    assert_eq!(store.sweep_now().await.expect("swept").rows_expired, 0, "nothing has expired yet");
    clock.advance(6 * HOUR_MS);
    let head = store.stats().head;
    let report = store.sweep_now().await.expect("swept");
    assert_eq!((report.rows_expired, stored_rows(&store).await), (5 * 300, 5 * 400));
    for user in users {
        assert_eq!(ids(&*store, user).await, (300..700).collect::<Vec<_>>());
    }
    assert_eq!(store.stats().head, head, "expiry is no commit");
    store
        .fence(feed, vec![UserId::new(0)], Incarnation::new(1), FenceSeq::new(1))
        .await
        .expect("a fence");
    let told = events(&mut reader).await;
    assert!(matches!(told[0], FeedEvent::Fence { .. }), "expiry makes no events: {told:?}");
    store.close().await;
}

fn at(user: u64, marks: impl IntoIterator<Item = (u64, u64)>) -> Vec<Write> {
    let items = marks
        .into_iter()
        .map(|(id, time)| (Item::new(1, id), Some(UnixMillis::new(time))))
        .collect();
    vec![Write { namespace: NS, user: UserId::new(user), op: WriteOp::Append, items }]
}

#[tokio::test]
async fn the_newest_rows_are_kept_whatever_their_ids() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let store = SqliteStore::open(options(&path), newest(100)).await.expect("a store");
    // Newer rows have smaller ids.
    for block in 0..5 {
        let marks = (0..1_000).map(|n| block * 1_000 + n).map(|n| (10_000 - n, n));
        store.write(at(7, marks)).await.expect("a write");
    }
    store.write(at(8, (0..110).map(|n| (n, n)))).await.expect("within the slack");
    store.write(at(9, (0..111).map(|n| (n, n)))).await.expect("just beyond it");
    store.write(at(6, (0..400).map(|n| (n, 5)))).await.expect("all at one time");
    let report = store.sweep_now().await.expect("swept");
    // The store's own upkeep may have begun before.
    let trimmed = store.stats().rows_trimmed;
    assert!(trimmed >= report.rows_trimmed);
    assert_eq!(trimmed, 4_900 + 11 + 300);
    assert_eq!(ids(&*store, 7).await, (5_001..=5_100).collect::<Vec<_>>());
    assert_eq!(ids(&*store, 8).await.len(), 110);
    assert_eq!(ids(&*store, 9).await, (11..111).collect::<Vec<_>>());
    assert_eq!(ids(&*store, 6).await, (300..400).collect::<Vec<_>>());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trimming_never_leaves_fewer_than_the_newest_while_rows_are_unmarked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let store = SqliteStore::open(options(&path), newest(50)).await.expect("a store");
    for round in 1..=20_u64 {
        // Newer rows than any before; then unmarks of the newest race with trims of the oldest.
        let newest = round * 1_000;
        store.write(at(7, (newest - 200..newest).map(|n| (n, n)))).await.expect("a write");
        let unmarking = async {
            let mut before = ids(&*store, 7).await.len();
            for id in (newest - 30..newest).rev() {
                let items = vec![(Item::new(1, id), None)];
                let user = UserId::new(7);
                let write = Write { namespace: NS, user, op: WriteOp::Remove, items };
                store.write(vec![write]).await.expect("a write");
                let left = ids(&*store, 7).await.len();
                // Trimmed since the last look: before this unmark or after it, to 50 rows.
                assert!(left >= before - 1 || left >= 49, "{before} rows, then {left}");
                before = left;
            }
        };
        let sweeping = async {
            for _ in 0..6 {
                store.sweep_now().await.expect("swept");
            }
        };
        tokio::join!(unmarking, sweeping);
        store.sweep_now().await.expect("swept");
        let left = ids(&*store, 7).await;
        let newest_left: Vec<_> = (newest - 30 - left.len() as u64..newest - 30).collect();
        assert_eq!(left, newest_left, "the newest without a hole");
    }
    assert!(store.stats().rows_trimmed >= 20 * 100, "{}", store.stats().rows_trimmed);
    store.close().await;
}
