//! What is TiDB's alone: positions of snapshots, priorities of statements, plans from its cache. One
//! process with its own store cannot show more: that it accepts a priority is seen, that it acts by
//! one is not.

#[allow(dead_code, reason = "shared by test programs, which use different parts")]
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use seen_filter::history::{PAGE_ROWS_MAX, PageRequest, Question, RecentRequest, Write, WriteOp};
use seen_filter::{
    CommitStamp, History, Item, NamespaceId, NamespaceSettings, Retention, Shard, SnapshotId,
    UnixMillis, UserId,
};
use seen_store::mysql::{ExamineOptions, Finding, TableMapping};
use seen_store::{MySqlOptions, MySqlStore};
use seen_testbed::{Server, Tidb, or_skip};
use servers::{sharded_options, tidb};

const NS: NamespaceId = NamespaceId::new(0);
/// How long anything awaited may take.
const LIMIT: Duration = Duration::from_secs(60);

fn settings() -> Vec<NamespaceSettings> {
    let mut settings = NamespaceSettings::new(NS, "reads");
    settings.time_index = true;
    vec![settings]
}

fn change(user: u64, op: WriteOp, ids: impl IntoIterator<Item = u64>) -> Vec<Write> {
    let items = ids.into_iter().map(|id| (Item::new(1, id), None)).collect();
    vec![Write { namespace: NS, user: UserId::new(user), op, items }]
}

fn mark(user: u64, ids: impl IntoIterator<Item = u64>) -> Vec<Write> {
    change(user, WriteOp::Append, ids)
}

fn page(user: u64) -> PageRequest {
    PageRequest { namespace: NS, user: UserId::new(user), after: None, rows_max: PAGE_ROWS_MAX }
}

fn recent(user: u64) -> RecentRequest {
    RecentRequest {
        namespace: NS,
        user: UserId::new(user),
        from: UnixMillis::new(0),
        until: UnixMillis::new(u64::MAX),
        before: None,
        rows_max: 10,
    }
}

fn question(user: u64, ids: std::ops::Range<u64>) -> Question {
    Question { user: UserId::new(user), items: ids.map(|id| Item::new(1, id)).collect() }
}

fn bound(snapshot: SnapshotId) -> CommitStamp {
    snapshot.lower_bound.expect("TiDB tells where a snapshot is")
}

/// Every read of one transaction names a timestamp above the commits that were acknowledged before it,
/// and below those that came after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_say_where_their_snapshot_is() {
    let Some(server) = tidb() else { return };
    let store = server.store(server.options(), settings()).await;
    let commit = async |id: u64| {
        let stamp = store.write(mark(1, [id])).await.expect("a mark");
        stamp.expect("TiDB numbers its commits")
    };
    for id in 0..20 {
        let before = commit(id * 10).await;
        let of_page = bound(store.page(page(1)).await.expect("a page").snapshot);
        let between = commit(id * 10 + 1).await;
        let of_listing = bound(store.recent(recent(1)).await.expect("a listing").snapshot);
        let later = commit(id * 10 + 2).await;
        // More keys than one statement takes.
        let asked = store.check(NS, vec![question(1, 0..500)]).await.expect("a check");
        let of_check = bound(asked.snapshot);
        let last = commit(id * 10 + 3).await;
        for (snapshot, old, new) in
            [(of_page, before, between), (of_listing, between, later), (of_check, later, last)]
        {
            assert!(snapshot.covers(old), "{snapshot} does not cover {old}");
            assert!(new.covers(snapshot) && !snapshot.covers(new), "{snapshot} covers {new}");
        }
    }
    // A single statement may read without a timestamp of its own.
    let asked = store.check(NS, vec![question(1, 0..2)]).await.expect("a check");
    assert_eq!((asked.found, asked.snapshot.lower_bound), (vec![vec![true, true]], None));
    let other = store.write(mark(2, [1])).await.expect("a mark").expect("a stamp");
    assert_eq!(other.domain, bound(store.page(page(1)).await.expect("a page").snapshot).domain);
}

/// A look reads a row from where rows are, by its key: a server that is cut off from them does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looks_read_from_storage() {
    let Some(server) = tidb() else { return };
    let options = server.options();
    let database = options.shards[0].database.clone();
    let store = server.store(options, settings()).await;
    let sql = format!(
        "SELECT SUM(exec_count) FROM information_schema.statements_summary WHERE digest_text LIKE \
         'select `shard` from `{}` . `seen_store` where%' AND plan LIKE '%Point_Get%'",
        database.as_str()
    );
    let looks = || server.sql(&sql).expect("a summary").trim().parse::<u64>().unwrap_or(0);
    let before = looks();
    assert!(before > 0, "the look at the start");
    let until = tokio::time::Instant::now() + LIMIT;
    while looks() < before + 2 {
        assert!(tokio::time::Instant::now() < until, "looks go on");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    store.close().await;
}

/// Shards are numbered apart: a check of several has no one position.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_of_several_shards_has_no_position() {
    let Some(server) = tidb() else { return };
    let store = server.store(sharded_options(&[&server], 4), settings()).await;
    for shards in [1, 4] {
        let mut users: BTreeMap<Shard, u64> = BTreeMap::new();
        for user in 0..200 {
            users.entry(store.shard_of(UserId::new(user))).or_insert(user);
        }
        let users: Vec<u64> = users.into_values().take(shards).collect();
        let mut stamps = Vec::new();
        for user in &users {
            stamps.push(store.write(mark(*user, [1])).await.expect("a mark").expect("a stamp"));
        }
        // More keys of each than one statement takes.
        let asked = users.iter().map(|user| question(*user, 0..300)).collect();
        let answers = store.check(NS, asked).await.expect("a check");
        assert!(answers.found.iter().all(|found| found[1] && !found[2]));
        let is_known = answers.snapshot.lower_bound.is_some_and(|seen| seen.covers(stamps[0]));
        assert_eq!((is_known, answers.snapshot.lower_bound.is_some()), (shards == 1, shards == 1));
    }
}

/// Pages amid commits: a page holds exactly the rows whose commits its position covers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_holds_what_its_position_covers() {
    const WRITERS: u64 = 4;
    const PAGES: usize = 60;
    let Some(server) = tidb() else { return };
    let store = server.store(server.options(), settings()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let marks = Arc::new(AtomicUsize::new(0));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (store, stop, marks) = (Arc::clone(&store), Arc::clone(&stop), Arc::clone(&marks));
        writers.push(tokio::spawn(async move {
            let mut stamps = BTreeMap::new();
            for id in 0.. {
                let id = writer * 1_000_000 + id;
                let stamp = store.write(mark(3, [id])).await.expect("a mark");
                stamps.insert(id, stamp.expect("a stamp"));
                marks.fetch_add(1, Ordering::Relaxed);
                if stop.load(Ordering::Relaxed) {
                    return stamps;
                }
            }
            stamps
        }));
    }
    let mut pages = Vec::with_capacity(PAGES);
    // Whichever of both is the slower one.
    while pages.len() < PAGES || marks.load(Ordering::Relaxed) <= PAGES {
        let page = tokio::time::timeout(LIMIT, store.page(page(3))).await.expect("in time");
        let page = page.expect("a page");
        let ids: BTreeSet<u64> = page.rows.iter().map(|row| row.item.id.get()).collect();
        assert!(page.last, "all of them");
        pages.push((bound(page.snapshot), ids));
    }
    stop.store(true, Ordering::Relaxed);
    let mut stamps = BTreeMap::new();
    for writer in writers {
        stamps.append(&mut writer.await.expect("a writer"));
    }
    for (snapshot, ids) in &pages {
        let covered = stamps.iter().filter(|(_, stamp)| snapshot.covers(**stamp));
        let covered: BTreeSet<u64> = covered.map(|(id, _)| *id).collect();
        assert_eq!(&covered, ids, "at {snapshot}");
    }
    let last = pages.last().map_or(0, |(_, ids)| ids.len());
    assert!(pages[0].1.len() < last, "nothing happened meanwhile");
}

/// What the server counted of the statements in a database, by their text.
#[derive(Debug)]
struct Counted {
    text: String,
    executed: u64,
    from_cache: u64,
    plan: String,
}

fn counted(server: &Server, database: &str) -> Vec<Counted> {
    let sql = format!(
        "SELECT exec_count, plan_cache_hits, REPLACE(digest_text, '\\n', ' '), \
         REPLACE(REPLACE(plan, '\\n', ' '), '\\t', ' ') FROM information_schema.statements_summary \
         WHERE schema_name = '{database}' AND prepared = 1"
    );
    let rows = server.sql(&sql).expect("a summary");
    let of_line = |line: &str| {
        let parts: Vec<&str> = line.split('\t').collect();
        Counted {
            executed: parts[0].parse().expect("a number"),
            from_cache: parts[1].parse().expect("a number"),
            text: parts[2].to_owned(),
            plan: parts[3].to_owned(),
        }
    };
    rows.lines().map(of_line).collect()
}

fn all_with<'a>(all: &'a [Counted], words: &str) -> Vec<&'a Counted> {
    let found: Vec<_> = all.iter().filter(|one| one.text.starts_with(words)).collect();
    assert!(!found.is_empty(), "none begins {words:?}: {all:#?}");
    found
}

fn share_from_cache(statements: &[&Counted]) -> f64 {
    let executed: u64 = statements.iter().map(|one| one.executed).sum();
    let from_cache: u64 = statements.iter().map(|one| one.from_cache).sum();
    from_cache as f64 / executed as f64
}

/// Each class of work says how urgent it is, in its statements: the server's own record of them has the
/// words, and their plans still come from its cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stderr, reason = "the figures are worth seeing")]
async fn statements_carry_their_priority_and_keep_their_cached_plans() {
    const ROUNDS: u64 = 300;
    // Its own: each change of the schema by other tests would have all plans made anew.
    let Some(server) = or_skip(Tidb::start()) else { return };
    server.sql("CREATE DATABASE seen").expect("a database");
    let options = servers::options(server.port(), "seen");
    MySqlStore::apply_schema(options.clone(), settings()).await.expect("a schema");
    let store = MySqlStore::open(options, settings()).await.expect("a store");
    for round in 0..ROUNDS {
        let user = round % 7;
        let ids = round * 100..round * 100 + 1 + round % 50;
        store.write(mark(user, ids.clone())).await.expect("marks");
        let keys = 1 + round * 7 % 200;
        let asked = ids.start..ids.start + keys;
        let answers = store.check(NS, vec![question(user, asked.clone())]).await.expect("a check");
        let expected: Vec<bool> = asked.map(|id| ids.contains(&id)).collect();
        assert_eq!(answers.found, [expected]);
        store.page(PageRequest { rows_max: 50, ..page(user) }).await.expect("a page");
        store.recent(recent(user)).await.expect("a listing");
        if round % 10 == 0 {
            let gone = change(user, WriteOp::Remove, [ids.start]);
            store.write(gone).await.expect("an unmark");
        }
    }
    store.size(NS).await.expect("a size");
    store.verify_placement(Shard::new(0), NS, |_| {}).await.expect("a look");
    let all = counted(&server, "seen");
    let checks = all_with(&all, "select high_priority");
    let marks = all_with(&all, "insert high_priority into");
    let pages = all_with(&all, "select cast");
    for one in &checks {
        // A list of one key, or of more.
        let is_get = one.plan.contains("Batch_Point_Get") || one.plan.contains("Point_Get");
        assert!(is_get && !one.plan.contains("RangeScan"), "{one:#?}");
    }
    for (what, statements) in [("checks", &checks), ("marks", &marks), ("pages", &pages)] {
        let share = share_from_cache(statements);
        eprintln!("TiDB: {:.1} % of the plans of {what} came from its cache", share * 100.0);
        // Each connection has to make each plan once.
        assert!(share > 0.9, "{what}: {share}: {statements:#?}");
    }
    all_with(&all, "delete high_priority from");
    all_with(&all, "select low_priority count");
    all_with(&all, "select low_priority distinct");
    let no_word = |one: &&&Counted| one.text.contains("_priority");
    assert_eq!(pages.iter().find(no_word).map(|one| &one.text), None);
    // That variable is the whole server's, whoever sets it.
    assert_eq!(server.sql("SELECT @@tidb_force_priority").expect("a value"), "NO_PRIORITY\n");
}

/// Every connection sets what the store relies on: a cluster's own defaults may be others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_defaults_of_a_cluster_do_no_harm() {
    let Some(server) = or_skip(Tidb::start()) else { return };
    let odd = [
        "tidb_low_resolution_tso = ON",
        "tidb_guarantee_linearizability = OFF",
        "tidb_enable_prepared_plan_cache = OFF",
        "tidb_session_plan_cache_size = 1",
        "tidb_txn_mode = 'optimistic'",
        "transaction_isolation = 'READ-COMMITTED'",
        "tidb_replica_read = 'follower'",
        "time_zone = '+05:00'",
        "sql_mode = 'ANSI_QUOTES'",
    ];
    for one in odd {
        server.sql(&format!("SET GLOBAL {one}")).unwrap_or_else(|error| panic!("{one}: {error}"));
    }
    let refused = server.sql("CREATE DATABASE seen");
    assert!(refused.is_err_and(|error| error.to_string().contains("tidb_low_resolution_tso")));
    let ready = "SET tidb_low_resolution_tso = OFF; CREATE DATABASE seen";
    server.sql(ready).expect("a database");
    let options = servers::options(server.port(), "seen");
    MySqlStore::apply_schema(options.clone(), settings()).await.expect("a schema");
    let store = MySqlStore::open(options, settings()).await.expect("a store");
    for id in 0..100 {
        let stamp = store.write(mark(1, [id])).await.expect("a mark").expect("a stamp");
        let asked = store.check(NS, vec![question(1, id..id + 3)]).await.expect("a check");
        assert_eq!(asked.found, [[true, false, false]]);
        let page = store.page(page(1)).await.expect("a page");
        assert_eq!(page.rows.len() as u64, id + 1);
        assert!(bound(page.snapshot).covers(stamp));
    }
    let all = counted(&server, "seen");
    for words in ["select high_priority", "insert high_priority into", "select cast"] {
        let share = share_from_cache(&all_with(&all, words));
        assert!(share > 0.9, "{words}: {share}: {all:#?}");
    }
}

/// A full page asks for one row more by a statement of its own, for the sake of the plan cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_page_ends_where_its_rows_end() {
    const FULL: u64 = PAGE_ROWS_MAX as u64;
    let Some(server) = tidb() else { return };
    let store = server.store(server.options(), settings()).await;
    for (user, rows) in [(1, FULL - 1), (2, FULL), (3, FULL + 1)] {
        for first in (0..rows).step_by(1_000) {
            let ids = first..rows.min(first + 1_000);
            store.write(mark(user, ids)).await.expect("marks");
        }
        for _ in 0..5 {
            let first = store.page(page(user)).await.expect("a page");
            assert_eq!(first.rows.len() as u64, rows.min(FULL));
            assert_eq!(first.last, rows <= FULL, "{rows} rows");
            let after = first.rows.last().map(|row| row.item);
            let next = store.page(PageRequest { after, ..page(user) }).await.expect("a page");
            assert_eq!((next.rows.len() as u64, next.last), (rows.saturating_sub(FULL), true));
        }
    }
}

/// What an examination finds about regions.
async fn regions(options: &MySqlOptions, settings: &[NamespaceSettings]) -> Vec<Finding> {
    let how = ExamineOptions::default();
    let examined = MySqlStore::examine(options.clone(), settings.to_vec(), how).await;
    let findings = examined.expect("an examination").findings;
    let statements = findings.iter().find(|one| one.subject.starts_with("prepared statements"));
    assert!(statements.is_some_and(|one| one.what.contains("from its cache")), "{findings:?}");
    findings.into_iter().filter(|one| one.subject.starts_with("regions of")).collect()
}

/// The statement that an examination names divides a table into regions of like shares of its rows; with
/// partitions, those that are written to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_named_split_divides_a_table() {
    const USERS: u64 = 120;
    const ITEMS: u64 = 100;
    let Some(server) = tidb() else { return };
    let mut expiring = settings();
    expiring[0].retention = Some(Retention { span_ms: 3_600_000, bucket_ms: 1_800_000 });
    // With the present bucket, those ahead, and the one for later rows: some of each half hour.
    for (settings, parts) in [(settings(), 1), (expiring, 5)] {
        let options = server.options();
        let store = server.store(options.clone(), settings.clone()).await;
        store.write(mark(1_000, 0..50)).await.expect("marks");
        assert_eq!(regions(&options, &settings).await, [], "too few rows to say");
        for user in 0..USERS {
            store.write(mark(1_000 + user * 3, 0..ITEMS)).await.expect("marks");
        }
        let found = regions(&options, &settings).await;
        let [finding] = found.as_slice() else { panic!("{found:?}") };
        let mend = finding.mend.as_deref().expect("a statement");
        let list = format!("{}.`history_reads`", options.shards[0].database);
        let counted = |of: &str| {
            let sql = format!("SHOW TABLE {list}{of} REGIONS");
            server.sql(&sql).expect("regions").lines().count()
        };
        let before = counted("");
        server.sql(mend).unwrap_or_else(|error| panic!("{finding}: {error}"));
        let made = counted("") - before;
        assert!(made >= 12 && made.is_multiple_of(mend_parts(mend)), "{made} by {mend}");
        assert!(mend_parts(mend) <= parts, "{mend}");
        assert_eq!(regions(&options, &settings).await, [], "it is split");
        // Nobody is lost by it.
        let page = store.page(page(1_003)).await.expect("a page");
        assert_eq!(page.rows.len() as u64, ITEMS);
        let asked = store.check(NS, vec![question(1_003, 0..ITEMS + 1)]).await.expect("a check");
        assert_eq!(asked.found[0].iter().filter(|found| **found).count() as u64, ITEMS);
    }
}

/// How many partitions a statement splits; 1 if it names none.
fn mend_parts(mend: &str) -> usize {
    match mend.split_once("PARTITION (") {
        None => 1,
        Some((_, rest)) => rest.split(')').next().map_or(1, |names| names.split(", ").count()),
    }
}

/// Checks that may be late have connections of their own, which prove how late they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_may_be_late_where_that_is_proven() {
    const LAG_MS: u64 = 5_000;
    let Some(server) = tidb() else { return };
    let late = MySqlOptions { check_lag_ms: LAG_MS, ..server.options() };
    let store = server.store(late.clone(), settings()).await;
    assert_eq!(store.check_lag_us_max(), LAG_MS * 1_000);
    let first = store.write(mark(1, (0..500).step_by(2))).await.expect("marks").expect("a stamp");
    // Late ones show it once it is old enough.
    let shown = async {
        let asked = || store.check_late(NS, vec![question(1, 498..499)]);
        while asked().await.expect("a check").found != [[true]] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, shown).await.expect("in time");
    let (before, _) = store.late_checks();
    assert!(before > 0, "it was shown by a late one");
    let expected = |ids: std::ops::Range<u64>| ids.map(|id| id % 2 == 0).collect::<Vec<bool>>();
    // One key, one statement, several.
    for ids in [4..5, 0..200, 0..500] {
        let asked = store.check_late(NS, vec![question(1, ids.clone())]).await.expect("a check");
        assert_eq!(asked.found, [expected(ids)]);
        assert_eq!(asked.snapshot.lower_bound, None, "a late position proves nothing");
    }
    assert_eq!(store.late_checks(), (before + 3, 0));
    // Whatever they have read, numbers go on as before, and fresh checks are fresh.
    for id in 500..520 {
        let stamp = store.write(mark(1, [id])).await.expect("a mark").expect("a stamp");
        assert!(stamp.covers(first), "{stamp} after {first}");
        store.check_late(NS, vec![question(1, 0..500)]).await.expect("a check");
        let asked = store.check(NS, vec![question(1, id..id + 1)]).await.expect("a check");
        assert_eq!(asked.found, [[true]]);
    }
    assert_eq!(store.late_checks(), (before + 23, 0));
    // A server whose timestamps may be older than that is not asked.
    let reopened = async |check_lag_ms, settings: Vec<NamespaceSettings>, mappings| {
        let options = MySqlOptions { check_lag_ms, mappings, ..late.clone() };
        let store = MySqlStore::open(options, settings).await.expect("a store");
        for ids in [4..5, 0..500] {
            let asked = store.check_late(NS, vec![question(1, ids.clone())]).await;
            assert_eq!(asked.expect("a check").found, [expected(ids)]);
        }
        store.late_checks()
    };
    assert_eq!(reopened(2_000, settings(), Vec::new()).await, (0, 2));
    assert_eq!(reopened(0, settings(), Vec::new()).await, (0, 0), "off");
    // Nor are other people's tables: what they do to them is not known here.
    let of_others = TableMapping::own(&settings()[0]).expect("a mapping");
    assert_eq!(reopened(LAG_MS, settings(), vec![of_others]).await, (0, 0), "not ours");
    let mut expiring = settings();
    expiring[0].retention = Some(Retention { span_ms: 3_600_000, bucket_ms: 1_800_000 });
    let options = MySqlOptions { check_lag_ms: LAG_MS, ..server.options() };
    let store = server.store(options, expiring).await;
    store.write(mark(1, [4])).await.expect("a mark");
    let asked = store.check_late(NS, vec![question(1, 4..6)]).await.expect("a check");
    assert_eq!((asked.found, store.late_checks()), (vec![vec![true, false]], (0, 0)), "buckets");
}
