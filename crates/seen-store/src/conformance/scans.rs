//! Going through all rows of a namespace.

use std::collections::{BTreeMap, BTreeSet};

use seen_filter::history::PAGE_ROWS_MAX;
use seen_filter::{
    History, Item, NamespaceId, NamespaceSettings, Retention, RowKey, Scan, ScanRequest,
    ScannedRow, Shard, StoreErrorKind,
};

use super::{
    Fixture, ManualClock, NS, OTHER, START_MS, items, kind, mark, plain, rows_by, unmark, user,
};

const BUCKET_MS: u64 = 10_000;
const SPAN_MS: u64 = 30_000;
/// A time at which a bucket begins.
const BEGIN_MS: u64 = START_MS / BUCKET_MS * BUCKET_MS;

fn request(part: u16, after: Option<RowKey>, rows_max: usize) -> ScanRequest {
    ScanRequest { namespace: NS, part: Shard::new(part), after, rows_max }
}

/// All rows of a part, by pages of `rows_max`.
async fn part_by(store: &impl Scan, part: u16, rows_max: usize) -> Vec<ScannedRow> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = store.scan(request(part, after, rows_max)).await.expect("a page");
        assert!(page.rows.len() <= rows_max, "{} rows of {rows_max}", page.rows.len());
        rows.extend(page.rows);
        let Some(next) = page.next else { return rows };
        assert_ne!(Some(next), after, "it goes on");
        after = Some(next);
    }
}

/// All rows of all parts, by pages of `rows_max`.
async fn all_by(store: &impl Scan, rows_max: usize) -> Vec<ScannedRow> {
    let mut rows = Vec::new();
    for part in 0..store.parts() {
        rows.extend(part_by(store, part, rows_max).await);
    }
    rows
}

fn keys(rows: &[ScannedRow]) -> BTreeSet<RowKey> {
    let keys: BTreeSet<_> = rows.iter().map(ScannedRow::key).collect();
    assert_eq!(keys.len(), rows.len(), "a row came twice");
    keys
}

/// Pages of any size, one after the other, hold every row of every user once, in one order, and the
/// same as the pages of each user.
pub async fn scans_hold_every_row_once_in_one_order(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    assert!(all_by(&*store, 10).await.is_empty());
    let mut expected = BTreeSet::new();
    for user_id in 0..23_u64 {
        let of_user: Vec<Item> = (0..user_id % 7)
            .map(|step| {
                Item::new((step % 3) as u8, (user_id + step).wrapping_mul(0x9e37_79b9_7f4a_7c15))
            })
            .collect();
        expected.extend(of_user.iter().map(|item| (user(user_id), *item)));
        store.write(vec![mark(NS, user_id, &of_user)]).await.expect("a write");
    }
    store.write(vec![mark(OTHER, 3, &items([1, 2]))]).await.expect("another namespace");
    let whole = all_by(&*store, PAGE_ROWS_MAX).await;
    assert_eq!(keys(&whole), expected);
    for rows_max in [1, 2, 10, expected.len() - 1, expected.len(), expected.len() + 1] {
        assert_eq!(all_by(&*store, rows_max).await, whole, "pages of {rows_max}");
    }
    for user_id in 0..23_u64 {
        let of_user = whole.iter().filter(|row| row.user == user(user_id));
        let of_user: Vec<_> = of_user.map(|row| row.row).collect();
        assert_eq!(of_user, rows_by(&*store, NS, user_id, PAGE_ROWS_MAX).await, "user {user_id}");
    }
    // From a key that is not there, pages go on after where it would be.
    let part = store.parts() - 1;
    let of_part = part_by(&*store, part, PAGE_ROWS_MAX).await;
    let (before, rest) = of_part.split_at(of_part.len() / 2);
    let Some(gone) = before.last() else { return };
    store.write(vec![unmark(NS, gone.user.get(), &[gone.row.item])]).await.expect("a write");
    let page = store.scan(request(part, Some(gone.key()), PAGE_ROWS_MAX)).await.expect("a page");
    assert_eq!((page.rows.as_slice(), page.next), (rest, None));
}

/// Ids 0 and 2^64-1 of users and items, and kinds 0 and 255, come once like all others.
pub async fn scans_of_extreme_ids(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let extremes = [0, 1, (1 << 63) - 1, 1 << 63, u64::MAX - 1, u64::MAX];
    let mut all = Vec::new();
    for kind in [0, 127, 128, 255] {
        all.extend(extremes.map(|id| Item::new(kind, id)));
    }
    let mut expected = BTreeSet::new();
    for user_id in extremes {
        store.write(vec![mark(NS, user_id, &all)]).await.expect("a write");
        expected.extend(all.iter().map(|item| (user(user_id), *item)));
    }
    let whole = all_by(&*store, PAGE_ROWS_MAX).await;
    assert_eq!(keys(&whole), expected);
    assert_eq!(all_by(&*store, 5).await, whole);
}

fn expiring() -> Vec<NamespaceSettings> {
    let mut first = NamespaceSettings::new(NS, "first");
    first.retention = Some(Retention { span_ms: SPAN_MS, bucket_ms: BUCKET_MS });
    vec![first]
}

/// An item that was marked in several buckets is one row; expired rows are left out, whatever the
/// size of the pages.
pub async fn scans_merge_and_leave_out_expired_rows(fixture: &impl Fixture) {
    let clock = ManualClock::at(BEGIN_MS + 1);
    let store = fixture.open(expiring(), clock.clock()).await;
    let mut expected: BTreeMap<RowKey, u64> = BTreeMap::new();
    for (bucket, ids) in [(0, 0..30_u64), (1, 10..40), (2, 20..50)] {
        clock.set(BEGIN_MS + bucket * BUCKET_MS + 1);
        for user_id in [7, 8, 9] {
            store.write(vec![mark(NS, user_id, &items(ids.clone()))]).await.expect("a write");
            let keys = items(ids.clone()).into_iter().map(|item| (user(user_id), item));
            expected.extend(keys.map(|key| (key, bucket)));
        }
    }
    for (now, horizon) in [(2 * BUCKET_MS + 2, 0), (SPAN_MS + BUCKET_MS + 2, 1)] {
        clock.set(BEGIN_MS + now);
        let kept: BTreeSet<RowKey> = expected
            .iter()
            .filter(|(_, bucket)| **bucket >= horizon)
            .map(|(key, _)| *key)
            .collect();
        let whole = all_by(&*store, PAGE_ROWS_MAX).await;
        assert_eq!(keys(&whole), kept, "at {now}");
        for rows_max in [1, 2, 3, 29] {
            assert_eq!(all_by(&*store, rows_max).await, whole, "pages of {rows_max} at {now}");
        }
        for user_id in [7, 8, 9] {
            let rows = rows_by(&*store, NS, user_id, PAGE_ROWS_MAX).await;
            let of_user = whole.iter().filter(|row| row.user == user(user_id));
            assert!(of_user.map(|row| row.row).eq(rows), "user {user_id} at {now}");
        }
    }
}

/// Rows that are there all the while come once, whatever is added and removed around them between the
/// pages.
pub async fn scans_lose_nothing_while_others_write(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let steady: Vec<RowKey> = (0..60_u64).map(|n| (user(n / 6), items([n * 10])[0])).collect();
    for (of, item) in &steady {
        let passing = Item::new(1, item.id.get() + 5);
        store.write(vec![mark(NS, of.get(), &[*item, passing])]).await.expect("a write");
    }
    let mut found = Vec::new();
    let mut turn = 0;
    for part in 0..store.parts() {
        let mut after = None;
        loop {
            let page = store.scan(request(part, after, 3)).await.expect("a page");
            found.extend(page.rows);
            // Before, at and behind the page's end rows come and go.
            let at = after.map_or(0, |(user, _): RowKey| user.get());
            for of in [at.saturating_sub(1), at, at + 1] {
                let (came, went) =
                    (Item::new(1, turn * 7 % 600 + 1), Item::new(1, turn * 30 % 600 + 5));
                let writes = vec![mark(NS, of, &[came]), unmark(NS, of + 1, &[went])];
                for write in writes {
                    store.write(vec![write]).await.expect("a write");
                }
                turn += 1;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    let found = keys(&found);
    let lost: Vec<_> = steady.iter().filter(|key| !found.contains(key)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// Pages of no rows or too many, parts and namespaces that are not there are refused.
pub async fn scan_limits_are_enforced(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let invalid = Some(StoreErrorKind::InvalidRequest);
    for rows_max in [0, PAGE_ROWS_MAX + 1, usize::MAX] {
        assert_eq!(kind(store.scan(request(0, None, rows_max)).await), invalid, "{rows_max}");
    }
    let parts = store.parts();
    assert_eq!(kind(store.scan(request(parts, None, 1)).await), invalid);
    assert_eq!(kind(store.position(Shard::new(parts)).await), invalid);
    let nowhere = ScanRequest { namespace: NamespaceId::new(9), ..request(0, None, 1) };
    assert_eq!(kind(store.scan(nowhere).await), invalid);
}

/// Where commits are numbered, a position read after a commit is beyond one read before it, of the
/// same run of numbers.
pub async fn positions_rise_with_commits(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    for part in 0..store.parts() {
        let part = Shard::new(part);
        let Some(before) = store.position(part).await.expect("a position") else { continue };
        // Some user of every part is among these.
        for user_id in 0..64 {
            store
                .write(vec![mark(NS, user_id, &items([u64::from(part.get())]))])
                .await
                .expect("a write");
        }
        let after = store.position(part).await.expect("a position").expect("as before");
        assert!(!after.is_behind(&before) && before.is_behind(&after), "{before:?} {after:?}");
        assert!(!after.text.is_empty() && after.number > before.number);
    }
}
