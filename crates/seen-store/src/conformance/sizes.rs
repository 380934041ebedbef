//! What namespaces take.

use seen_filter::{History, NamespaceId, StoreErrorKind};

use super::{Fixture, ManualClock, NS, OTHER, START_MS, items, kind, mark, plain, unmark, user};

/// Each namespace's rows are counted, and take room.
pub async fn sizes_count_rows_by_namespace(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let rows = async |namespace| {
        let size = store.size(namespace).await.expect("a size");
        assert!(size.exact, "so few are counted: {size:?}");
        assert_eq!(size.time_index_bytes, None);
        (size.rows, size.rows_bytes)
    };
    assert_eq!((rows(NS).await.0, rows(OTHER).await.0), (0, 0));
    for user_id in 0..40 {
        store.write(vec![mark(NS, user_id, &items(0..50))]).await.expect("a write");
    }
    store.write(vec![mark(OTHER, 1, &items([1, 2]))]).await.expect("a write");
    let (count, bytes) = rows(NS).await;
    assert_eq!((count, rows(OTHER).await.0), (2_000, 2));
    assert!(bytes >= 2_000 * 10, "an id has eight bytes: {bytes}");
    store.write(vec![unmark(NS, 1, &items(0..10))]).await.expect("a write");
    store.forget(NS, user(2)).await.expect("forgotten");
    assert_eq!(rows(NS).await.0, 2_000 - 10 - 50);
    let unknown = kind(store.size(NamespaceId::new(2)).await);
    assert_eq!(unknown, Some(StoreErrorKind::InvalidRequest));
}

/// Where a time index is kept, what it takes is told apart from the rows.
pub async fn sizes_tell_what_the_time_index_takes(fixture: &impl Fixture) {
    let clock = ManualClock::at(START_MS).clock();
    let mut namespaces = plain();
    namespaces[0].time_index = true;
    let store = fixture.open(namespaces, clock).await;
    for namespace in [NS, OTHER] {
        store.write(vec![mark(namespace, 1, &items(0..1_000))]).await.expect("a write");
    }
    let with = store.size(NS).await.expect("a size");
    let without = store.size(OTHER).await.expect("a size");
    assert!(with.time_index_bytes.is_some() && without.time_index_bytes.is_none());
    assert_eq!((with.rows, with.rows_bytes), (without.rows, without.rows_bytes));
}
