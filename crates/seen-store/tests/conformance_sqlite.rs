//! The embedded store passes the suite.

use std::sync::Arc;

use parking_lot::Mutex;
use seen_filter::NamespaceSettings;
use seen_store::conformance::Fixture;
use seen_store::{SqliteOptions, SqliteStore, StorageClock, conformance_tests};
use tempfile::TempDir;

/// Keeps the folders of the stores that it opens until the test has ended.
#[derive(Default)]
struct OnDisk(Mutex<Vec<TempDir>>);

impl Fixture for OnDisk {
    type Store = SqliteStore;

    async fn open(
        &self,
        namespaces: Vec<NamespaceSettings>,
        clock: StorageClock,
    ) -> Arc<SqliteStore> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seen.db");
        self.0.lock().push(folder);
        let options = SqliteOptions { path, clock, ..SqliteOptions::default() };
        SqliteStore::open(options, namespaces).await.expect("a store")
    }
}

conformance_tests!(OnDisk::default(), tokio::test(flavor = "multi_thread", worker_threads = 2));
