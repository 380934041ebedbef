//! A reader of the embedded store beside those who write to it.

mod follow;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use seen_filter::history::{Write, WriteOp};
use seen_filter::{
    History, Item, NamespaceId, NamespaceSettings, RowKey, Scan, ScanRequest, ScannedRow, Shard,
    StoreErrorKind, UserId,
};
use seen_store::{SqliteOptions, SqliteStore};

const NS: NamespaceId = NamespaceId::new(0);

fn settings() -> Vec<NamespaceSettings> {
    vec![NamespaceSettings::new(NS, "reads")]
}

async fn writer(path: &Path) -> Arc<SqliteStore> {
    // A small log is copied into the file often, under the reader.
    let path = path.to_owned();
    let options = SqliteOptions { path, wal_bytes_checkpoint: 1 << 16, ..SqliteOptions::default() };
    SqliteStore::open(options, settings()).await.expect("a store")
}

fn reading(path: &Path) -> SqliteOptions {
    let path = path.to_owned();
    SqliteOptions {
        path,
        create: false,
        read_only: true,
        beside_writers: true,
        ..SqliteOptions::default()
    }
}

async fn change(store: &SqliteStore, op: WriteOp, user: u64, ids: std::ops::Range<u64>) {
    let items = ids.map(|id| (Item::new(1, id), None)).collect();
    let write = Write { namespace: NS, user: UserId::new(user), op, items };
    store.write(vec![write]).await.expect("a write");
}

/// Between its pages servers start, write, copy their log into the file, and end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_may_come_and_go_beside_a_reader() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let first = writer(&path).await;
    let timeline = first.timeline();
    let mut steady: BTreeSet<RowKey> = BTreeSet::new();
    for user in 0..50 {
        change(&first, WriteOp::Append, user, 0..100).await;
        steady.extend((0..100).map(|id| (UserId::new(user), Item::new(1, id))));
    }
    first.close().await;
    let log = folder.path().join("seen.db-wal");
    assert!(!log.exists(), "nobody has it open");

    let reader = SqliteStore::open(reading(&path), settings()).await.expect("a store");
    let begin = reader.position(Shard::new(0)).await.expect("a position").expect("numbered");
    let mut found = Vec::new();
    let (mut after, mut turn) = (None, 0);
    loop {
        let request = ScanRequest { namespace: NS, part: Shard::new(0), after, rows_max: 500 };
        let page = reader.scan(request).await.expect("a page");
        found.extend(page.rows);
        let server = writer(&path).await;
        for user in 0..10 {
            // Rows of others come and go all over the file.
            let ids = 1_000 + turn * 100..1_100 + turn * 100;
            change(&server, WriteOp::Append, user * 7, ids.clone()).await;
            change(&server, WriteOp::Remove, user * 7, ids.start - 100..ids.end - 100).await;
        }
        server.close().await;
        turn += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let end = reader.position(Shard::new(0)).await.expect("a position").expect("numbered");
    assert!(end.number > begin.number && !end.is_behind(&begin));
    let keys: BTreeSet<RowKey> = found.iter().map(ScannedRow::key).collect();
    assert_eq!(keys.len(), found.len(), "a row came twice");
    assert!(keys.is_superset(&steady), "{} rows are missing", steady.difference(&keys).count());
    let refused = reader.write(Vec::new()).await.expect_err("it reads only");
    assert_eq!(refused.kind, StoreErrorKind::ReadOnly);
    reader.close().await;
    let again = writer(&path).await;
    assert_eq!(again.timeline(), timeline, "a reader makes no restored copy of it");
    again.close().await;
}

/// The same, reading while others write without a pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_begins_while_a_server_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let server = writer(&path).await;
    change(&server, WriteOp::Append, 5, 0..1_000).await;
    let reader = SqliteStore::open(reading(&path), settings()).await.expect("a store");
    change(&server, WriteOp::Append, 6, 0..1_000).await;
    let request = ScanRequest { namespace: NS, part: Shard::new(0), after: None, rows_max: 10_000 };
    let page = reader.scan(request).await.expect("a page");
    assert_eq!((page.rows.len(), page.next), (2_000, None), "what was acknowledged is seen");
    reader.close().await;
    change(&server, WriteOp::Append, 7, 0..1_000).await;
    server.close().await;
}

/// A follower that has the rows of an export goes on from the export's position.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_goes_on_from_an_exports_position() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = writer(&folder.path().join("seen.db")).await;
    let start = SqliteStore::start_after;
    follow::reaches_what_storage_holds(Arc::clone(&store), &*store, start).await;
    store.close().await;
}
