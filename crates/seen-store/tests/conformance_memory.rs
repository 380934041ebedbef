//! The double passes the suite, on paused time.

use std::sync::Arc;

use seen_filter::NamespaceSettings;
use seen_store::conformance::Fixture;
use seen_store::memory::MemoryOptions;
use seen_store::{MemoryStore, StorageClock, conformance_tests};

struct InMemory;

impl Fixture for InMemory {
    type Store = MemoryStore;

    async fn open(
        &self,
        namespaces: Vec<NamespaceSettings>,
        clock: StorageClock,
    ) -> Arc<MemoryStore> {
        let store = MemoryStore::new(MemoryOptions::new(clock, 1), namespaces);
        Arc::new(store.expect("a store"))
    }
}

conformance_tests!(InMemory, tokio::test(start_paused = true));
