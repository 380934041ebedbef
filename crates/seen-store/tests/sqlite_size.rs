//! What a namespace takes is found without reading all of it.

mod store;

use seen_filter::History;
use seen_filter::history::HistorySize;
use seen_store::SqliteStore;
use store::{NS, mark, options, plain};

async fn with_time_index(folder: &std::path::Path) -> std::sync::Arc<SqliteStore> {
    let mut settings = plain();
    settings[0].time_index = true;
    SqliteStore::open(options(&folder.join("seen.db")), settings).await.expect("a store")
}

/// What is found by reading everything: rows, and bytes with the index.
async fn measured(store: &SqliteStore) -> (u64, u64) {
    let sizes = store.measure().await.expect("sizes");
    (sizes[0].rows, sizes[0].bytes)
}

/// Marks so many rows of scattered users and items.
async fn fill(store: &SqliteStore, rows: u64) {
    let scattered = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for call in 0..rows / 500 {
        let first = call * 500;
        store
            .write(mark(scattered(call), (first..first + 500).map(scattered)))
            .await
            .expect("marked");
    }
}

#[tokio::test]
async fn a_small_namespace_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = with_time_index(folder.path()).await;
    fill(&store, 20_000).await;
    let size = store.size(NS).await.expect("a size");
    let HistorySize { rows, rows_bytes, time_index_bytes, exact } = size;
    let index_bytes = time_index_bytes.expect("it is kept");
    assert!(exact && index_bytes > 20_000 * 16, "{size:?}");
    assert_eq!((rows, rows_bytes + index_bytes), measured(&store).await);
}

#[tokio::test]
async fn a_large_namespace_is_concluded_from_some_of_its_pages() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = with_time_index(folder.path()).await;
    fill(&store, 400_000).await;
    let size = store.size(NS).await.expect("a size");
    assert!(!size.exact, "{size:?}");
    let (rows, bytes) = measured(&store).await;
    let near = |found: u64, truth: u64| (0.75..1.33).contains(&(found as f64 / truth as f64));
    assert!(near(size.rows, rows), "{size:?}, truly {rows} rows");
    let found = size.rows_bytes + size.time_index_bytes.expect("it is kept");
    assert!(near(found, bytes), "{size:?}, truly {bytes} bytes");
}
