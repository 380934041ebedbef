//! Expiry by time.

use seen_filter::history::PAGE_ROWS_MAX;
use seen_filter::{History, NamespaceSettings, Retention, UnixMillis};

use super::{Fixture, ManualClock, NS, START_MS, found, items, items_of, mark, rows_by};

const BUCKET_MS: u64 = 10_000;
const SPAN_MS: u64 = 30_000;
/// A time at which a bucket begins.
const BEGIN_MS: u64 = START_MS / BUCKET_MS * BUCKET_MS;

fn expiring() -> Vec<NamespaceSettings> {
    let mut first = NamespaceSettings::new(NS, "first");
    first.retention = Some(Retention { span_ms: SPAN_MS, bucket_ms: BUCKET_MS });
    first.time_index = true;
    vec![first]
}

/// A row is there for its whole span, and gone from every read once its bucket is past it.
pub async fn rows_expire_by_whole_buckets(fixture: &impl Fixture) {
    let clock = ManualClock::at(BEGIN_MS + 4_000);
    let store = fixture.open(expiring(), clock.clock()).await;
    store.write(vec![mark(NS, 7, &items([1]))]).await.expect("a write");
    clock.set(BEGIN_MS + 14_000);
    store.write(vec![mark(NS, 7, &items([2]))]).await.expect("a write");
    let rows = rows_by(&*store, NS, 7, PAGE_ROWS_MAX).await;
    let bucket = u32::try_from(BEGIN_MS / BUCKET_MS).expect("small");
    assert_eq!(rows.iter().map(|r| r.bucket).collect::<Vec<_>>(), [bucket, bucket + 1]);

    for (now, expected) in [
        (4_000 + SPAN_MS, vec![1, 2]),
        (BUCKET_MS + SPAN_MS - 1, vec![1, 2]),
        (BUCKET_MS + SPAN_MS, vec![2]),
        (14_000 + SPAN_MS, vec![2]),
        (2 * BUCKET_MS + SPAN_MS, vec![]),
    ] {
        clock.set(BEGIN_MS + now);
        let expected = items(expected);
        assert_eq!(items_of(&*store, NS, 7).await, expected, "page at {now}");
        let answer = found(&*store, NS, 7, &items([1, 2])).await;
        assert_eq!(answer.iter().filter(|f| **f).count(), expected.len(), "check at {now}");
        let request = seen_filter::history::RecentRequest {
            namespace: NS,
            user: super::user(7),
            before: None,
            from: UnixMillis::new(0),
            until: UnixMillis::new(u64::MAX),
            rows_max: 10,
        };
        let listed = store.recent(request).await.expect("a listing");
        assert_eq!(listed.rows.len(), expected.len(), "listing at {now}");
    }
}

/// A repeated mark is promised its span anew, and keeps its first time: for good, or as long as the
/// first mark's own row is kept.
pub async fn marking_again_renews(fixture: &impl Fixture) {
    let clock = ManualClock::at(BEGIN_MS);
    let store = fixture.open(expiring(), clock.clock()).await;
    store.write(vec![mark(NS, 7, &items([1, 2]))]).await.expect("a write");
    clock.set(BEGIN_MS + SPAN_MS);
    store.write(vec![mark(NS, 7, &items([2]))]).await.expect("a write");
    let both = rows_by(&*store, NS, 7, PAGE_ROWS_MAX).await;
    assert_eq!(both.iter().map(|r| r.marked_at.get()).collect::<Vec<_>>(), [BEGIN_MS; 2]);
    clock.set(BEGIN_MS + 2 * SPAN_MS);
    let rows = rows_by(&*store, NS, 7, PAGE_ROWS_MAX).await;
    let left: Vec<_> = rows.iter().map(|r| (r.item.id.get(), r.marked_at.get())).collect();
    let renewed = [(2, BEGIN_MS + SPAN_MS)];
    assert!(left == [(2, BEGIN_MS)] || left == renewed, "{left:?}");
}

/// A mark of an expired row, whether its remains are still stored or not, is a first mark.
pub async fn expired_rows_are_as_absent(fixture: &impl Fixture) {
    let clock = ManualClock::at(BEGIN_MS);
    let store = fixture.open(expiring(), clock.clock()).await;
    store.write(vec![mark(NS, 7, &items([1]))]).await.expect("a write");
    let later = BEGIN_MS + 5 * SPAN_MS;
    clock.set(later);
    store.write(vec![mark(NS, 7, &items([1]))]).await.expect("a write");
    let rows = rows_by(&*store, NS, 7, PAGE_ROWS_MAX).await;
    assert_eq!(rows.iter().map(|r| r.marked_at.get()).collect::<Vec<_>>(), [later]);
    // A clock put back gives no row an older bucket than it promised before.
    clock.set(BEGIN_MS);
    store.write(vec![mark(NS, 7, &items([1, 3]))]).await.expect("a write");
    clock.set(later + SPAN_MS);
    assert_eq!(items_of(&*store, NS, 7).await, items([1, 3]));
}
