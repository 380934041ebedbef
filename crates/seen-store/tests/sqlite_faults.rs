//! A full disk, a damaged file, a file that may not be written, another schema, other settings.

mod store;

use std::path::Path;
use std::sync::Arc;

use seen_filter::history::{Question, RecentRequest};
use seen_filter::{
    ChangeFeed, FeedEvent, FeedStart, History, Item, NamespaceId, NamespaceSettings, Retention,
    StoreError, StoreErrorKind, UnixMillis, UserId,
};
use seen_store::conformance::ManualClock;
use seen_store::{SqliteOptions, SqliteStore};
use sqlx::Connection;
use store::{NS, events, ids, kind, mark, open, options, page, plain, raw};

fn failed(opened: Result<Arc<SqliteStore>, StoreError>) -> StoreError {
    opened.expect_err("it was opened")
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_reads_and_heals() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let small = SqliteOptions { file_bytes_max: 200 << 10, ..options(&path) };
    let store = SqliteStore::open(small, plain()).await.expect("a store");
    let mut acknowledged = 0;
    let error = loop {
        let ids = acknowledged * 100..(acknowledged + 1) * 100;
        match store.write(mark(7, ids)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000, "it never fills");
    };
    assert_eq!(error.kind, StoreErrorKind::Full, "{error}");
    assert!(error.message.contains("file_bytes_max"), "{error}");
    let expected: Vec<_> = (0..acknowledged * 100).collect();
    assert_eq!(ids(&*store, 7).await, expected, "all that was acknowledged, and nothing else");
    let head = store.stats().head;
    assert_eq!(head, acknowledged, "the refused commit has no number");
    assert_eq!(kind(store.write(mark(8, 0..1_000)).await), Some(StoreErrorKind::Full));

    let mut other = raw(&path).await;
    sqlx::query("DELETE FROM history_reads WHERE item >= 1000")
        .execute(&mut other)
        .await
        .expect("space");
    store.write(mark(8, 0..1_000)).await.expect("room again");
    assert_eq!(ids(&*store, 8).await.len(), 1_000);
    assert_eq!(store.stats().head, head + 1);
    store.close().await;
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where this user may not mount one.
    fn mounted() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs"];
        run(&mount, folder.path()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(&["umount", "-l"], self.0.path());
    }
}

fn run(words: &[&str], path: &Path) -> bool {
    let ran = std::process::Command::new(words[0]).args(&words[1..]).arg(path).output();
    ran.is_ok_and(|ran| ran.status.success())
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "a skipped test must be heard of")]
async fn a_disk_that_is_really_full_loses_nothing_and_heals() {
    let Some(disk) = SmallDisk::mounted() else {
        eprintln!("SKIPPED: mounting a small tmpfs needs the superuser; run the tests as root");
        return;
    };
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).expect("ballast");
    let path = disk.0.path().join("seen.db");
    let store = open(&path).await;
    let mut acknowledged = Vec::new();
    let mut refused = 0_u64;
    for user in 0..4_000_u64 {
        match store.write(mark(user, 0..50)).await {
            Ok(_) => acknowledged.push(user),
            Err(error) => {
                assert_eq!(error.kind, StoreErrorKind::Full, "{error}");
                refused += 1;
            }
        }
        if refused == 20 {
            break;
        }
    }
    assert_eq!(refused, 20, "it never fills");
    for user in &acknowledged {
        assert_eq!(ids(&*store, *user).await.len(), 50, "user {user}");
    }
    std::fs::remove_file(&ballast).expect("space");
    store.write(mark(9_999, 0..50)).await.expect("room again");
    store.close().await;
    let store = open(&path).await;
    for user in acknowledged.iter().chain(&[9_999]) {
        assert_eq!(ids(&*store, *user).await.len(), 50, "user {user} after a restart");
    }
    let rows = store.measure().await.expect("sizes")[0].rows;
    assert_eq!(rows, (acknowledged.len() as u64 + 1) * 50, "and nothing that was refused");
    store.close().await;
}

#[tokio::test]
async fn what_is_no_store_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    std::fs::write(&path, vec![b'x'; 8_192]).expect("a file");
    let error = failed(SqliteStore::open(options(&path), plain()).await);
    assert_eq!(error.kind, StoreErrorKind::Corrupt, "{error}");
    assert_eq!(std::fs::read(&path).expect("the file"), vec![b'x'; 8_192], "it is left as it was");

    let of_another = folder.path().join("other.db");
    let connect =
        sqlx::sqlite::SqliteConnectOptions::new().filename(&of_another).create_if_missing(true);
    let mut other = sqlx::SqliteConnection::connect_with(&connect).await.expect("a database");
    let create = "CREATE TABLE somebodys (id INTEGER)";
    sqlx::query(create).execute(&mut other).await.expect("a table");
    let error = failed(SqliteStore::open(options(&of_another), plain()).await);
    assert_eq!(error.kind, StoreErrorKind::Schema, "{error}");
}

#[tokio::test]
async fn damaged_pages_are_reported_and_the_rest_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let store = open(&path).await;
    for user in 0..40 {
        store.write(mark(user, 0..1_000)).await.expect("a write");
    }
    store.close().await;
    let mut connection = raw(&path).await;
    let damaged: i64 = sqlx::query_scalar(
        "SELECT pageno FROM dbstat WHERE name = 'history_reads' AND pagetype = 'leaf' \
         ORDER BY path LIMIT 1 OFFSET 100",
    )
    .fetch_one(&mut connection)
    .await
    .expect("a leaf");
    connection.close().await.expect("closed");
    let mut content = std::fs::read(&path).expect("the file");
    let at = (damaged as usize - 1) * 4_096;
    content[at..at + 4_096].fill(0xa5);
    std::fs::write(&path, content).expect("damaged");

    let store = open(&path).await;
    let mut whole = 0;
    for user in 0..40 {
        match store.page(page(user)).await {
            Ok(page) => whole += usize::from(page.rows.len() == 1_000),
            Err(error) => {
                assert_eq!(error.kind, StoreErrorKind::Corrupt, "{error}");
                assert!(error.message.contains("backup"), "{error}");
            }
        }
    }
    assert!((36..40).contains(&whole), "{whole} of 40 users could be read");
    store.close().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    open(&path).await.close().await;
    let mut connection = raw(&path).await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (900, 'from the future', true, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .expect("a migration");
    for read_only in [false, true] {
        let asked = SqliteOptions { read_only, ..options(&path) };
        let error = failed(SqliteStore::open(asked, plain()).await);
        assert_eq!(error.kind, StoreErrorKind::Schema, "{error}");
        assert!(error.message.contains("900"), "{error}");
    }
}

#[tokio::test]
async fn missing_folders_and_files_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let in_none = folder.path().join("none/seen.db");
    let absent = SqliteOptions { create: false, ..options(&folder.path().join("absent.db")) };
    for (asked, word) in [
        (options(&in_none), "none of the store does not exist"),
        (absent.clone(), "absent.db does not exist"),
        (SqliteOptions { read_only: true, ..absent }, "absent.db does not exist"),
        (options(folder.path()), "is a folder"),
    ] {
        let error = failed(SqliteStore::open(asked, plain()).await);
        assert_eq!(error.kind, StoreErrorKind::Unavailable);
        assert!(error.message.contains(word), "{error}");
    }
    let out_of_range = SqliteOptions { partitions: 65, ..options(&in_none) };
    let error = failed(SqliteStore::open(out_of_range, plain()).await);
    assert_eq!(error.kind, StoreErrorKind::InvalidRequest);
    assert!(error.message.contains("partitions = 65"), "{error}");
}

/// Permissions do not bind the superuser, whom tests often run as: the store is opened for reading
/// only instead, which is what permissions amount to. Whoever is not the superuser has them tried too.
#[tokio::test]
async fn a_store_for_reading_only_reads_and_refuses_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let writing = open(&path).await;
    writing.write(mark(7, [1])).await.expect("a write");
    let asked = SqliteOptions { read_only: true, ..options(&path) };

    // Beside a writer: what it commits is seen and followed.
    let reading = SqliteStore::open(asked.clone(), plain()).await.expect("a store");
    let feed = reading.feed_of(NS, UserId::new(7));
    let mut reader = ChangeFeed::open(&*reading, feed, FeedStart::Head).await.expect("a reader");
    events(&mut reader).await;
    writing.write(mark(7, [2])).await.expect("a write");
    let followed = events(&mut reader).await;
    assert!(matches!(followed[0], FeedEvent::Add { .. }), "{followed:?}");
    assert_eq!(ids(&*reading, 7).await, [1, 2]);
    refuses_writes(&reading).await;
    reading.close().await;
    writing.close().await;

    // And without one.
    let alone = SqliteStore::open(asked, plain()).await.expect("a store");
    assert_eq!(ids(&*alone, 7).await, [1, 2]);
    refuses_writes(&alone).await;
    alone.close().await;
    with_permissions(folder.path(), &path).await;
}

async fn refuses_writes(store: &SqliteStore) {
    let read_only = Some(StoreErrorKind::ReadOnly);
    assert_eq!(kind(store.write(mark(7, [9])).await), read_only);
    assert_eq!(kind(store.forget(NS, UserId::new(7)).await), read_only);
    assert_eq!(kind(store.sweep_now().await), read_only);
}

async fn with_permissions(folder: &Path, path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let permit = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(folder, permissions).expect("permissions");
    };
    permit(0o555);
    let is_bound = std::fs::write(folder.join("probe"), b"").is_err();
    if is_bound {
        let error = failed(SqliteStore::open(options(path), plain()).await);
        assert_eq!(error.kind, StoreErrorKind::ReadOnly, "{error}");
        let asked = SqliteOptions { read_only: true, ..options(path) };
        let store = SqliteStore::open(asked, plain()).await.expect("a store");
        assert_eq!(ids(&*store, 7).await, [1, 2]);
        store.close().await;
    }
    permit(0o755);
}

fn named(names: &[&str]) -> Vec<NamespaceSettings> {
    let number = |n: usize| NamespaceId::new(n.try_into().expect("few"));
    let one = |(n, name): (usize, &&str)| NamespaceSettings::new(number(n), *name);
    names.iter().enumerate().map(one).collect()
}

#[tokio::test]
async fn namespaces_are_found_by_name_whatever_their_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let store = SqliteStore::open(options(&path), named(&["a", "b", "c"])).await.expect("a store");
    for (n, id) in [(0, 10), (1, 11), (2, 12)] {
        let mut write = mark(7, [id]);
        write[0].namespace = NamespaceId::new(n);
        store.write(write).await.expect("a write");
    }
    store.close().await;
    // Another order, one left out, one new.
    let reordered = named(&["c", "d", "a"]);
    let store = SqliteStore::open(options(&path), reordered).await.expect("a store");
    let feed = store.feed_of(NS, UserId::new(7));
    let cursor = seen_filter::FeedCursor { timeline: store.timeline(), offset: 1 << 20 };
    let mut reader = ChangeFeed::open(&*store, feed, FeedStart::At(cursor)).await.expect("one");
    let FeedEvent::Add { item, .. } = events(&mut reader).await[0] else { panic!("no add") };
    assert_eq!(item, Item::new(1, 12), "the events of c, under its new number");
    assert_eq!(ids(&*store, 7).await, [12]);
    let of = |namespace| seen_filter::history::PageRequest { namespace, ..page(7) };
    let d = store.page(of(NamespaceId::new(1))).await.expect("a page");
    let a = store.page(of(NamespaceId::new(2))).await.expect("a page");
    assert_eq!((d.rows.len(), a.rows[0].item.id.get()), (0, 10));
    store.close().await;
    for wrong in [named(&["a", "a"]), named(&["a; drop table store"]), named(&["Reads"])] {
        let error = failed(SqliteStore::open(options(&path), wrong).await);
        assert_eq!(error.kind, StoreErrorKind::InvalidRequest, "{error}");
    }
}

#[tokio::test]
async fn settings_that_change_never_shorten_a_promise() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let clock = ManualClock::at(1_790_000_000_000);
    let asked = SqliteOptions { clock: clock.clock(), ..options(&path) };
    let with = |retention, time_index| {
        let mut settings = plain();
        settings[0].retention = retention;
        settings[0].time_index = time_index;
        SqliteStore::open(asked.clone(), settings)
    };
    let hours = |span: u64| Some(Retention { span_ms: span * 3_600_000, bucket_ms: 3_600_000 });

    let store = with(None, false).await.expect("a store");
    store.write(mark(7, [1])).await.expect("a write");
    store.close().await;
    // Expiry is switched on much later: the old row is promised a whole span from now.
    clock.advance(1_000 * 3_600_000);
    let store = with(hours(24), true).await.expect("a store");
    clock.advance(24 * 3_600_000);
    assert_eq!(ids(&*store, 7).await, [1]);
    let listing = RecentRequest {
        namespace: NS,
        user: UserId::new(7),
        before: None,
        from: UnixMillis::new(0),
        until: UnixMillis::new(u64::MAX),
        rows_max: 10,
    };
    assert_eq!(store.recent(listing).await.expect("a listing").rows.len(), 1, "indexed later");
    clock.advance(2 * 3_600_000);
    assert!(ids(&*store, 7).await.is_empty());
    store.write(mark(7, [2])).await.expect("a write");
    store.close().await;

    // Off and on again: what was marked meanwhile is promised a span from the second time.
    let store = with(None, true).await.expect("a store");
    store.write(mark(7, [3])).await.expect("a write");
    store.close().await;
    clock.advance(1_000 * 3_600_000);
    let store = with(hours(12), true).await.expect("a store");
    assert_eq!(ids(&*store, 7).await, [1, 3], "all rows without a bucket");
    let question = Question { user: UserId::new(7), items: vec![Item::new(1, 2)] };
    let answers = store.check(NS, vec![question]).await.expect("answers");
    assert_eq!(answers.found, [[false]], "its own bucket had passed");
    store.close().await;

    let other_bucket = Some(Retention { span_ms: 24 * 3_600_000, bucket_ms: 1_800_000 });
    let error = failed(with(other_bucket, true).await);
    assert_eq!(error.kind, StoreErrorKind::InvalidRequest);
    assert!(error.message.contains("3600000"), "{error}");
}
