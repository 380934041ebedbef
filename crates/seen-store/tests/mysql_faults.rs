//! Crashes, cut connections, read-only servers and full disks, on real servers. After each: every
//! acknowledged mark is there, every call that certainly failed left nothing, and the store works again
//! by itself. Of TiDB one process with its own store is tested, whose storage survives `kill -9`; what
//! several servers of a cluster do is not.

mod faults;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use faults::{
    PASSWORD, USER, all_free, answered, eventually, found, ids_at, mark, on_each_server, options,
    page, server, store, works_again,
};
use seen_filter::history::PAGE_ROWS_MAX;
use seen_filter::{History, StoreErrorKind};
use seen_store::MySqlStore;
use seen_testbed::{Server, TcpProxy};

/// What became of a user's marks.
#[derive(Debug, Default)]
struct Outcomes {
    acknowledged: BTreeSet<u64>,
    /// Certainly not committed.
    refused: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
}

/// Users who mark one item after another, each item once, until told to stop.
struct Marking {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    tasks: Vec<(u64, tokio::task::JoinHandle<Outcomes>)>,
}

impl Marking {
    /// Starts them. Every call has so many items.
    fn start(store: &Arc<MySqlStore>, users: std::ops::Range<u64>, items: u64) -> Self {
        let (stop, acknowledged) = (Arc::default(), Arc::default());
        let mut marking = Self { stop, acknowledged, tasks: Vec::new() };
        for user in users {
            let (store, stop) = (Arc::clone(store), Arc::clone(&marking.stop));
            let count = Arc::clone(&marking.acknowledged);
            let task = tokio::spawn(async move {
                let mut outcomes = Outcomes::default();
                for call in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let ids = call * items..(call + 1) * items;
                    let write = store.write(mark(user, ids.clone()));
                    match answered("a write", write).await.map_err(|e| (e.kind, e)) {
                        Ok(_) => {
                            outcomes.acknowledged.extend(ids);
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        Err((StoreErrorKind::OutcomeUnknown, _)) => outcomes.unknown.extend(ids),
                        Err((
                            StoreErrorKind::Unavailable
                            | StoreErrorKind::Full
                            | StoreErrorKind::ReadOnly,
                            _,
                        )) => outcomes.refused.extend(ids),
                        Err((_, error)) => panic!("{error}"),
                    }
                }
                outcomes
            });
            marking.tasks.push((user, task));
        }
        marking
    }

    /// Waits until so many more calls are acknowledged.
    async fn more(&self, calls: u64) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        eventually("more acknowledged marks", async || {
            let more = self.acknowledged.load(Ordering::Relaxed) - before;
            (more >= calls).then_some(()).ok_or_else(|| format!("{more} of {calls}"))
        })
        .await;
    }

    /// Ends them, and holds what they were told against what the server has.
    async fn check(self, server: &Server) -> Outcomes {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Outcomes::default();
        for (user, task) in self.tasks {
            let told = answered("marks", task).await.expect("no other error");
            let stored: BTreeSet<u64> = ids_at(server, user).into_iter().collect();
            let lost: Vec<_> = told.acknowledged.difference(&stored).collect();
            assert!(lost.is_empty(), "user {user}: acknowledged and lost: {lost:?}");
            let wrong: Vec<_> = told.refused.intersection(&stored).collect();
            assert!(wrong.is_empty(), "user {user}: refused for certain and there: {wrong:?}");
            all.acknowledged.extend(told.acknowledged);
            all.refused.extend(told.refused);
            all.unknown.extend(told.unknown);
        }
        all
    }
}

on_each_server!(
    a_crash_amid_marks_loses_nothing_acknowledged,
    a_connection_cut_during_commit_leaves_the_outcome_unknown,
    a_connection_cut_before_commit_leaves_nothing,
);

async fn a_crash_amid_marks_loses_nothing_acknowledged(server: &Server) {
    let store = store(&options(&[server.port()])).await;
    for round in 0..3 {
        let marking = Marking::start(&store, round * 100..round * 100 + 16, 3);
        marking.more(50).await;
        server.kill_9().expect("killed");
        eventually("the crash is felt", async || {
            let write = store.write(mark(9_000, [round])).await;
            write.err().map(drop).ok_or_else(|| "acknowledged".to_owned())
        })
        .await;
        server.restart().expect("restarted");
        marking.more(50).await;
        let outcomes = marking.check(server).await;
        assert!(!outcomes.refused.is_empty() || !outcomes.unknown.is_empty(), "nothing was hit");
    }
    works_again(&store, 9_001).await;
    all_free(&store, [2; 3]).await;
}

async fn a_connection_cut_during_commit_leaves_the_outcome_unknown(server: &Server) {
    let proxy = TcpProxy::to(server.port()).expect("a proxy");
    let store = store(&options(&[proxy.port()])).await;
    // What is saved up for retries must not be spent here: it would be a second commit.
    for id in 0..50 {
        store.write(mark(1, [id])).await.expect("a mark");
    }
    proxy.cut_after_client_sends(b"COMMIT");
    let error = answered("a write", store.write(mark(2, [1]))).await.expect_err("it was cut");
    assert_eq!(error.kind, StoreErrorKind::OutcomeUnknown, "{error}");
    assert!(error.message.contains("repeat the call"), "{error}");
    eventually("the server does what was asked", async || {
        let ids = ids_at(server, 2);
        (ids == [1]).then_some(()).ok_or_else(|| format!("{ids:?}"))
    })
    .await;
    proxy.heal();
    eventually("the repeated mark", async || {
        store.write(mark(2, [1])).await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(ids_at(server, 2), [1]);
    works_again(&store, 3).await;
}

async fn a_connection_cut_before_commit_leaves_nothing(server: &Server) {
    let proxy = TcpProxy::to(server.port()).expect("a proxy");
    let store = store(&options(&[proxy.port()])).await;
    // With an empty budget for retries, and with one that allows some.
    for (user, warm) in [(100, 0), (200, 60)] {
        for id in 0..warm {
            store.write(mark(1, [id])).await.expect("a mark");
        }
        // A statement for a number of rows that was not prepared before, in its text.
        let ids = if warm == 0 { 0..1 } else { 0..40 };
        proxy.cut_after_client_sends(b"INSERT");
        let error = answered("a write", store.write(mark(user, ids.clone()))).await;
        let error = error.expect_err("it was cut");
        assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
        assert_eq!(ids_at(server, user), [0; 0], "refused for certain and there");
        proxy.heal();
        works_again(&store, user + 1).await;
    }
    let (calls, retries) = store.attempts();
    assert!(retries > 0 && retries <= calls / 10, "{retries} of {calls}");
}

/// Servers that take no writes for a while, amid marks. `reads_go_on`: whether they may be asked
/// meanwhile; a server that is the primary or a replica of one may not. Users from `first` on are new.
async fn turns_read_only(server: &Server, first: u64, set: impl Fn(bool), reads_go_on: bool) {
    let store = store(&options(&[server.port()])).await;
    works_again(&store, 1).await;
    for round in 0..2 {
        let marking = Marking::start(&store, first + round * 8..first + round * 8 + 8, 3);
        marking.more(20).await;
        set(true);
        let refused = eventually("a write is refused", async || {
            let write = answered("a write", store.write(mark(9_000, [round]))).await;
            write.err().ok_or_else(|| "acknowledged".to_owned())
        })
        .await;
        let kinds = [StoreErrorKind::ReadOnly, StoreErrorKind::Unavailable];
        assert!(kinds.contains(&refused.kind), "{refused}");
        let check = answered("a check", found(&store, 1, [1, 2])).await;
        let read = answered("a page", store.page(page(1))).await;
        if reads_go_on {
            assert_eq!(refused.kind, StoreErrorKind::ReadOnly, "{refused}");
            assert_eq!(read.expect("reads go on").rows.len(), 1);
            assert_eq!(check.expect("reads go on"), [true, false]);
        } else {
            check.expect_err("of a server that is no primary");
            read.expect_err("of a server that is no primary");
        }
        set(false);
        marking.more(20).await;
        let outcomes = marking.check(server).await;
        assert!(!outcomes.refused.is_empty(), "nothing was refused");
    }
    works_again(&store, 2).await;
    all_free(&store, [2; 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mysql_that_turns_read_only_loses_nothing() {
    let Some(server) = faults::mysql() else { return };
    let set = |on| server.set_read_only(on).expect("set");
    turns_read_only(&server, 100, set, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tidb_that_turns_read_only_loses_nothing_and_answers() {
    let Some(server) = faults::tidb() else { return };
    for (variable, first) in [("tidb_super_read_only", 100), ("tidb_restricted_read_only", 200)] {
        let set = |on| {
            let value = if on { "ON" } else { "OFF" };
            server.sql(&format!("SET GLOBAL {variable} = {value}")).expect("set");
            // The one switches the other on, but not off.
            if !on {
                server.sql("SET GLOBAL tidb_super_read_only = OFF").expect("set");
            }
        };
        turns_read_only(&server, first, set, true).await;
    }
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, loudly, where this user may not mount one.
    #[allow(clippy::print_stderr, reason = "a skipped test must be heard of")]
    fn mounted(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={size}");
        let mount = ["mount", "-t", "tmpfs", "-o", &size, "tmpfs"];
        if run(&mount, folder.path()) {
            return Some(Self(folder));
        }
        eprintln!("SKIPPED: mounting a small tmpfs needs the superuser; run the tests as root");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
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

mod a_full_disk_refuses_writes_keeps_reads_and_heals {
    use super::{SmallDisk, faults, full_disk};
    use seen_testbed::{MariaDb, Mysql};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn mariadb() {
        let Some(disk) = SmallDisk::mounted("160m") else { return };
        let builder = MariaDb::builder().data_folder(disk.path().join("data"));
        let server = builder.start().expect("a MariaDB");
        faults::prepare(&server);
        full_disk(&server, &disk, false).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn mysql() {
        let Some(disk) = SmallDisk::mounted("320m") else { return };
        let builder = Mysql::builder().data_folder(disk.path().join("data"));
        let Some(server) = faults::mysql_by(builder) else { return };
        full_disk(&server, &disk, false).await;
    }

    /// Of one process with its own store, which goes on after a restart only. What a full TiKV among
    /// others does is not tested.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tidb() {
        let Some(disk) = SmallDisk::mounted("320m") else { return };
        let data = disk.path().join("data");
        let path = data.to_str().expect("plain");
        let Some(server) = faults::tidb_with(&["-path", path]) else { return };
        full_disk(&server, &disk, true).await;
    }
}

/// `is_tidb`: what a write that failed had locked cannot be read before there is room, and nothing is
/// written before a restart, for which it does not even end in order.
async fn full_disk(server: &Server, disk: &SmallDisk, is_tidb: bool) {
    let store = store(&options(&[server.port()])).await;
    works_again(&store, 1).await;
    // All but some 4 MB.
    let ballast = disk.path().join("ballast");
    fill(&ballast, 4 << 20);
    let mut told = Outcomes::default();
    let mut said = Vec::new();
    let until_refused = async {
        for call in 0_u64.. {
            let ids = call * 1_000..(call + 1) * 1_000;
            match answered("a write", store.write(mark(2, ids.clone()))).await {
                Ok(_) => told.acknowledged.extend(ids),
                Err(error) => {
                    match error.kind {
                        StoreErrorKind::Full | StoreErrorKind::Unavailable => {
                            told.refused.extend(ids);
                        }
                        StoreErrorKind::OutcomeUnknown => told.unknown.extend(ids),
                        _ => panic!("{error}"),
                    }
                    said.push(error);
                }
            }
            if said.len() == 5 {
                break;
            }
        }
    };
    tokio::time::timeout(faults::LIMIT * 2, until_refused).await.expect("it never fills");
    // A server may also end itself, if it was in the middle of what it cannot take back.
    let ended = !server.is_alive();
    if !ended {
        for error in &said {
            let message = &error.message;
            assert!(message.contains("free space") || message.contains("no answer"), "{error}");
        }
        let seen = answered("a check", found(&store, 1, [1, 2])).await.expect("reads go on");
        assert_eq!(seen, [true, false]);
        let acknowledged = told.acknowledged.len().min(PAGE_ROWS_MAX);
        match answered("a page", store.page(page(2))).await {
            Ok(read) => assert!(acknowledged > 0 && read.rows.len() >= acknowledged),
            Err(error) if is_tidb => assert_eq!(error.kind, StoreErrorKind::Unavailable),
            Err(error) => panic!("{error}"),
        }
    }
    std::fs::remove_file(&ballast).expect("space");
    if is_tidb {
        server.kill_9().expect("killed");
    }
    if ended || is_tidb {
        server.restart().expect("restarted");
    }
    works_again(&store, 3).await;
    let stored: BTreeSet<u64> = ids_at(server, 2).into_iter().collect();
    assert!(told.acknowledged.is_subset(&stored), "acknowledged and lost");
    assert!(told.refused.is_disjoint(&stored), "refused for certain and there");
    all_free(&store, [2; 3]).await;
}

/// Fills a file system but for so many bytes.
fn fill(ballast: &Path, rest: u64) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(ballast).expect("a file");
    let block = vec![1; 1 << 16];
    while file.write_all(&block).is_ok() {}
    let length = file.metadata().expect("its length").len();
    file.set_len(length.saturating_sub(rest)).expect("some space");
}

/// Others take all connections that a server has to spare. Whether it is still the primary cannot be
/// asked then; but the connections that are there do their work, and prove it each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_connection_to_spare_is_worked_with() {
    use sqlx::{ConnectOptions as _, Row as _};
    let server = server(&["--max-connections=30"]);
    let store = store(&options(&[server.port()])).await;
    works_again(&store, 1).await;
    let root = sqlx::mysql::MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(server.port())
        .username("root")
        .ssl_mode(sqlx::mysql::MySqlSslMode::Disabled);
    let others = root.clone().username(USER).password(PASSWORD);
    let mut all = Vec::new();
    // Opened while there is room.
    let mut root = root.connect().await.expect("root");
    let mut refused = async || -> u64 {
        let sql = "SHOW GLOBAL STATUS LIKE 'Connection_errors_max_connections'";
        let row = sqlx::query(sql).fetch_one(&mut root).await.expect("a counter");
        row.get::<String, _>(1).parse().expect("a number")
    };
    let before = refused().await;
    // A look gives its connection back: until looks are refused, too, the server is not full.
    eventually("looks are refused", async || {
        match others.connect().await {
            Ok(connection) => all.push(connection),
            Err(error) => assert!(error.to_string().contains("Too many connections"), "{error}"),
        }
        for id in 0..5 {
            store.write(mark(2, [id])).await.expect("a mark");
            assert_eq!(found(&store, 2, [id]).await.expect("a check"), [true]);
        }
        let refused = refused().await - before;
        (refused >= 200).then_some(()).ok_or_else(|| format!("{refused} refused"))
    })
    .await;
    drop(all);
    works_again(&store, 3).await;
    all_free(&store, [2; 3]).await;
}
