//! A database with buckets that expire by a clock of the test's, and what is in it.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::ops::RangeInclusive;
use std::sync::Arc;

use seen_filter::history::{PAGE_ROWS_MAX, PageRequest, Question, Write, WriteOp};
use seen_filter::{History as _, Item, NamespaceId, NamespaceSettings, Retention, UserId};
use seen_store::conformance::ManualClock;
use seen_store::mysql::UpkeepReport;
use seen_store::{MySqlOptions, MySqlStore};
use sqlx::{Connection as _, MySqlConnection};

use crate::servers::OnServer;

pub const NS: NamespaceId = NamespaceId::new(0);
pub const BUCKET_MS: u64 = 10_000;
pub const SPAN_MS: u64 = 30_000;
/// The bucket that tests begin in.
pub const FIRST: u64 = 179_000_000;
pub const LEASE_MS: u64 = 30_000;

pub fn expiring() -> Vec<NamespaceSettings> {
    let mut first = NamespaceSettings::new(NS, "first");
    first.retention = Some(Retention { span_ms: SPAN_MS, bucket_ms: BUCKET_MS });
    vec![first, NamespaceSettings::new(NamespaceId::new(1), "second")]
}

/// A database with a clock that the test sets, and stores on it.
pub struct Place {
    pub server: OnServer,
    pub clock: ManualClock,
    pub options: MySqlOptions,
    pub database: String,
}

impl Place {
    /// Stores work when they are told to.
    pub async fn new(server: OnServer) -> Self {
        let clock = ManualClock::at(FIRST * BUCKET_MS);
        let options = MySqlOptions {
            clock: Some(clock.clock()),
            upkeep: false,
            upkeep_lease_ms: LEASE_MS,
            ..server.options()
        };
        let database = options.shards[0].database.as_str().to_owned();
        let made = MySqlStore::apply_schema(options.clone(), expiring()).await;
        made.expect("a schema");
        Self { server, clock, options, database }
    }

    pub async fn store(&self) -> Arc<MySqlStore> {
        MySqlStore::open(self.options.clone(), expiring()).await.expect("a store")
    }

    pub fn at(&self, bucket: u64) {
        self.clock.set(bucket * BUCKET_MS);
    }

    pub fn sql(&self, statements: &str) -> String {
        let statements = format!("USE {};\n{statements}", self.database);
        self.server.sql(&statements).expect(&statements)
    }

    pub fn number(&self, query: &str) -> u64 {
        self.sql(query).trim().parse().expect("a number")
    }

    /// Names and ends, in order.
    pub fn layout(&self) -> String {
        let rows = self.sql(
            "SELECT CONCAT(partition_name, '<', partition_description) \
             FROM information_schema.partitions WHERE table_schema = DATABASE() \
             AND table_name = 'history_first' ORDER BY partition_ordinal_position",
        );
        rows.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub fn stored(&self) -> u64 {
        self.number("SELECT COUNT(*) FROM history_first")
    }
}

/// Partitions for these buckets, and the one for later rows.
pub fn partitions(buckets: RangeInclusive<u64>) -> String {
    let each = buckets.map(|bucket| format!("p{bucket}<{}", bucket + 1));
    each.chain(["p_later<MAXVALUE".to_owned()]).collect::<Vec<_>>().join(" ")
}

pub async fn mark(store: &MySqlStore, ids: impl IntoIterator<Item = u64>) {
    let items = ids.into_iter().map(|id| (Item::new(1, id), None)).collect();
    let write = Write { namespace: NS, user: UserId::new(7), op: WriteOp::Append, items };
    store.write(vec![write]).await.expect("a write");
}

/// Which of these items are there; pages and point checks agree on it.
pub async fn there(store: &MySqlStore, ids: RangeInclusive<u64>) -> Vec<u64> {
    let user = UserId::new(7);
    let request = PageRequest { namespace: NS, user, after: None, rows_max: PAGE_ROWS_MAX };
    let page = store.page(request).await.expect("a page");
    let paged: Vec<u64> = page.rows.iter().map(|row| row.item.id.get()).collect();
    let items = ids.clone().map(|id| Item::new(1, id)).collect();
    let answers = store.check(NS, vec![Question { user, items }]).await.expect("answers");
    let found = ids.zip(&answers.found[0]).filter(|(_, found)| **found);
    let found: Vec<u64> = found.map(|(id, _)| id).collect();
    assert_eq!(paged, found);
    found
}

pub async fn upkeep(store: &MySqlStore) -> UpkeepReport {
    store.upkeep_now().await.expect("upkeep")
}

/// The ids of what is promised at a bucket's beginning, if each bucket from `first` on had a mark.
pub fn promised(first: u64, now: u64) -> Vec<u64> {
    (first.max(now - SPAN_MS / BUCKET_MS)..=now).collect()
}

/// A connection that a test keeps.
pub async fn connection(place: &Place) -> MySqlConnection {
    let url = format!("mysql://root@127.0.0.1:{}/{}", place.server.port(), place.database);
    MySqlConnection::connect(&url).await.expect("a connection")
}
