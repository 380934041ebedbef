//! Pages and listings.

use std::collections::BTreeSet;

use seen_filter::history::{PAGE_ROWS_MAX, Page, PageRequest, RecentRequest, Row, Write, WriteOp};
use seen_filter::{History, Item, NamespaceId, StoreErrorKind, UnixMillis};

use super::{
    Fixture, ManualClock, NS, OTHER, START_MS, items, items_of, kind, mark, plain, rows_by, user,
};

/// Pages of any size, one after the other, hold every row once, in one order.
pub async fn pages_in_key_order_hold_every_row_once(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let mut expected = BTreeSet::new();
    for step in 0..97_u64 {
        let kind = u8::try_from(step % 3).expect("small");
        let item = Item::new(kind, step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        expected.insert(item);
        store.write(vec![mark(NS, 7, &[item])]).await.expect("a write");
    }
    store.write(vec![mark(NS, 8, &items([1])), mark(OTHER, 7, &items([2]))]).await.expect("others");
    let whole = rows_by(&*store, NS, 7, PAGE_ROWS_MAX).await;
    let found: BTreeSet<_> = whole.iter().map(|row| row.item).collect();
    assert_eq!((whole.len(), found), (97, expected));
    for rows_max in [1, 2, 10, 96, 97, 98] {
        assert_eq!(rows_by(&*store, NS, 7, rows_max).await, whole, "pages of {rows_max}");
    }
    // From a key that is not there, pages go on after where it would be.
    let (before, rest) = whole.split_at(50);
    store.write(vec![super::unmark(NS, 7, &[before[49].item])]).await.expect("a write");
    let after = Some(before[49].item);
    let request = PageRequest { namespace: NS, user: user(7), after, rows_max: PAGE_ROWS_MAX };
    assert_eq!(store.page(request).await.expect("a page").rows, rest);
    let nobody = PageRequest { namespace: NS, user: user(99), after: None, rows_max: 10 };
    let nothing = store.page(nobody).await.expect("a page");
    assert!(nothing.last && nothing.rows.is_empty());
}

/// Ids 0 and 2^64-1 of users and items, and kinds 0 and 255, are like all others.
pub async fn extreme_ids_are_ids_like_others(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let extremes = [0, 1, (1 << 63) - 1, 1 << 63, u64::MAX - 1, u64::MAX];
    let mut all = Vec::new();
    for kind in [0, 1, 127, 128, 255] {
        all.extend(extremes.map(|id| Item::new(kind, id)));
    }
    for user_id in extremes {
        store.write(vec![mark(NS, user_id, &all)]).await.expect("a write");
    }
    for user_id in extremes {
        assert_eq!(items_of(&*store, NS, user_id).await, all, "user {user_id}");
        let mut paged: Vec<_> =
            rows_by(&*store, NS, user_id, 4).await.iter().map(|row| row.item).collect();
        paged.sort_unstable();
        assert_eq!(paged, all);
        assert_eq!(super::found(&*store, NS, user_id, &all).await, vec![true; all.len()]);
    }
}

fn with_time_index() -> Vec<seen_filter::NamespaceSettings> {
    let mut namespaces = plain();
    namespaces[0].time_index = true;
    namespaces
}

/// A listing: everything of one user at or after `from` and before `until`.
fn listing(from: u64, until: u64, rows_max: usize) -> RecentRequest {
    RecentRequest {
        namespace: NS,
        user: user(7),
        before: None,
        from: UnixMillis::new(from),
        until: UnixMillis::new(until),
        rows_max,
    }
}

/// Listings go from newest to oldest, within their time range, page by page.
pub async fn recent_lists_newest_first(fixture: &impl Fixture) {
    let store = fixture.open(with_time_index(), ManualClock::at(START_MS).clock()).await;
    let mut marked = Vec::new();
    for step in 0..40_u64 {
        // Times out of order, and three items at each.
        let time = 1_000 + (step * 17 % 40) / 3 * 10;
        marked.push((Item::new(1, step.wrapping_mul(0xdead_beef_cafe_f00d)), time));
    }
    let timed = marked.iter().map(|(item, time)| (*item, Some(UnixMillis::new(*time)))).collect();
    let write = Write { namespace: NS, user: user(7), op: WriteOp::Append, items: timed };
    store.write(vec![write]).await.expect("a write");

    let all = store.recent(listing(0, u64::MAX, PAGE_ROWS_MAX)).await.expect("a listing");
    assert!(all.last && all.rows.len() == 40);
    let times: Vec<_> = all.rows.iter().map(|row| row.marked_at).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    for rows_max in [1, 3, 39, 40, 41] {
        let mut request = listing(0, u64::MAX, rows_max);
        let mut listed: Vec<Row> = Vec::new();
        loop {
            let page: Page = store.recent(request).await.expect("a listing");
            listed.extend(&page.rows);
            if page.last {
                break;
            }
            request.before = listed.last().map(|row| (row.marked_at, row.item));
        }
        assert_eq!(listed, all.rows, "pages of {rows_max}");
    }
    let some = store.recent(listing(1_020, 1_050, 100)).await.expect("a listing");
    let expected: Vec<_> = all
        .rows
        .iter()
        .filter(|row| (1_020..1_050).contains(&row.marked_at.get()))
        .copied()
        .collect();
    assert!(!expected.is_empty() && some.rows == expected, "{:?}", some.rows);
}

/// A namespace without the time index says so.
pub async fn recent_needs_the_time_index(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let refused = kind(store.recent(listing(0, u64::MAX, 10)).await);
    assert_eq!(refused, Some(StoreErrorKind::NotKept));
}

/// Page sizes out of range and unknown namespaces are refused.
pub async fn page_limits_are_enforced(fixture: &impl Fixture) {
    let store = fixture.open(with_time_index(), ManualClock::at(START_MS).clock()).await;
    let unknown = NamespaceId::new(2);
    for (namespace, rows_max, expected) in [
        (NS, 0, Some(StoreErrorKind::InvalidRequest)),
        (NS, 1, None),
        (NS, PAGE_ROWS_MAX, None),
        (NS, PAGE_ROWS_MAX + 1, Some(StoreErrorKind::InvalidRequest)),
        (unknown, 1, Some(StoreErrorKind::InvalidRequest)),
    ] {
        let page = PageRequest { namespace, user: user(7), after: None, rows_max };
        assert_eq!(kind(store.page(page).await), expected, "{namespace} {rows_max}");
        let request = RecentRequest { namespace, ..listing(0, 1, rows_max) };
        assert_eq!(kind(store.recent(request).await), expected, "{namespace} {rows_max}");
    }
}

/// A page names a snapshot, the user's epoch and the storage's time.
pub async fn pages_say_what_they_saw(fixture: &impl Fixture) {
    let clock = ManualClock::at(START_MS);
    let store = fixture.open(plain(), clock.clock()).await;
    let stamp = store.write(vec![mark(NS, 7, &items([1]))]).await.expect("a write");
    clock.advance(5_000);
    let request = PageRequest { namespace: NS, user: user(7), after: None, rows_max: 10 };
    let page = store.page(request).await.expect("a page");
    assert_eq!(page.storage_now, UnixMillis::new(START_MS + 5_000));
    assert_eq!(page.user_epoch.get(), 0);
    assert_eq!(page.rows[0].marked_at, UnixMillis::new(START_MS));
    assert_eq!(page.rows[0].bucket, 0, "a namespace that keeps rows for ever");
    if let (Some(stamp), Some(seen)) = (stamp, page.snapshot.lower_bound) {
        assert!(seen.covers(stamp), "{seen} does not cover {stamp}");
    }
    let again = store.page(request).await.expect("a page");
    assert_eq!(again.snapshot.primary, page.snapshot.primary);
}
