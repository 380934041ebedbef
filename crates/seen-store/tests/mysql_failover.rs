//! A shard with several servers: hand-overs, crashes, two primaries at once, sites that are cut off,
//! and replicas that lag. What is promised: nothing is written, and nothing is believed, but where the
//! one primary answers (coherence rows 43 and 51).

mod faults;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use faults::{
    DATABASE, LIMIT, Marking, TABLE, USER, address, all_free, answered, eventually, found, ids_at,
    mark, marking, migrate, open, options, page, server, works_again,
};
use seen_filter::{History, StoreErrorKind};
use seen_store::mysql::{Login, PasswordSource, Standing};
use seen_store::{MySqlOptions, MySqlStore};
use seen_testbed::{MariaDb, TcpProxy};

/// A primary and its replica, with the schema.
async fn pair() -> (MariaDb, MariaDb) {
    let primary = server(&[]);
    migrate(&options(&[primary.port()])).await;
    let replica = MariaDb::builder().replica_of(&primary).start().expect("a replica");
    (primary, replica)
}

/// With a third server that only votes.
fn voted(ports: &[u16], witness: u16) -> MySqlOptions {
    let mut options = options(ports);
    options.shards[0].witnesses = vec![address(witness)];
    options
}

/// The port of the primary, once there is one.
async fn primary_at(store: &MySqlStore, port: u16) {
    eventually("the primary is found", async || match &store.status()[0].standing {
        Standing::One(primary) if primary.address.port == port => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn standing(store: &MySqlStore, what: &str, fits: impl Fn(&Standing) -> bool) {
    eventually(what, async || {
        let standing = store.status()[0].standing.clone();
        if fits(&standing) { Ok(()) } else { Err(format!("{standing:?}")) }
    })
    .await;
}

/// The message of a write that must be refused.
async fn refused(store: &MySqlStore, user: u64) -> String {
    let refused = answered("a write", store.write(mark(user, [1]))).await;
    let error = refused.expect_err("it was written");
    assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
    error.message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_follow_a_hand_over() {
    let (old, new) = pair().await;
    let store = open(&options(&[old.port(), new.port()])).await;
    primary_at(&store, old.port()).await;
    works_again(&store, 1).await;
    old.set_read_only(true).expect("read only");
    let error = answered("a write", store.write(mark(2, [1]))).await.expect_err("it was written");
    let kinds = [StoreErrorKind::ReadOnly, StoreErrorKind::Unavailable];
    assert!(kinds.contains(&error.kind), "{error}");
    new.catch_up_with(&old).expect("caught up");
    new.promote().expect("promoted");
    works_again(&store, 3).await;
    primary_at(&store, new.port()).await;
    assert_eq!(ids_at(&new, 1), [1]);
    assert_eq!(ids_at(&old, 3), [0; 0], "written to the old primary");
    all_free(&store, [2; 3]).await;
}

/// The two servers after a hand-over that the store has not heard of, with connections to the old one
/// in each of its classes. Item 9 of user 1 is on the new one alone.
async fn unheard_of(options: MySqlOptions, old: &MariaDb, new: &MariaDb) -> Arc<MySqlStore> {
    // Nothing but what it meets tells the store.
    let store = open(&MySqlOptions { probe_interval_ms: 60_000, ..options }).await;
    primary_at(&store, old.port()).await;
    works_again(&store, 1).await;
    new.catch_up_with(old).expect("caught up");
    old.set_read_only(true).expect("read only");
    new.promote().expect("promoted");
    new.sql(&format!("INSERT INTO {TABLE} VALUES (1, 1, 9, 1)")).expect("a row");
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_server_answers_no_check_and_no_page() {
    let (old, new) = pair().await;
    let store = unheard_of(options(&[old.port(), new.port()]), &old, &new).await;
    let told = eventually("a check", async || {
        found(&store, 1, [9]).await.map_err(|error| error.to_string())
    });
    assert_eq!(told.await, [true], "the demoted server was believed");
    primary_at(&store, new.port()).await;

    // The other way round, for a check of several statements, and for pages.
    new.set_read_only(true).expect("read only");
    old.follow(&new).expect("a replica again");
    old.promote().expect("promoted");
    old.sql(&format!("INSERT INTO {TABLE} VALUES (1, 1, 10, 1)")).expect("a row");
    let told =
        eventually("a page", async || store.page(page(1)).await.map_err(|error| error.to_string()));
    let ids: Vec<u64> = told.await.rows.iter().map(|row| row.item.id.get()).collect();
    assert_eq!(ids, [1, 9, 10], "the demoted server was believed");
    primary_at(&store, old.port()).await;
}

/// `read_only` does not stop those who may do everything: whoever configures such a user must lose
/// nothing to a demoted server either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_server_takes_no_write_of_a_superuser() {
    let (old, new) = pair().await;
    let mut options = options(&[old.port(), new.port()]);
    let password = PasswordSource::None;
    options.login = Login { user: "root".to_owned(), password, ..options.login };
    let store = unheard_of(options, &old, &new).await;
    eventually("a write", async || {
        store.write(mark(5, [1])).await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(ids_at(&old, 5), [0; 0], "the demoted server took it");
    assert_eq!(ids_at(&new, 5), [1], "the acknowledged mark");
}

/// Nor does such a user's background work go on there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_server_is_not_kept_up_by_a_superuser() {
    let (old, new) = pair().await;
    let mut options = MySqlOptions { upkeep: true, ..options(&[old.port(), new.port()]) };
    let password = PasswordSource::None;
    options.login = Login { user: "root".to_owned(), password, ..options.login };
    let store = unheard_of(options, &old, &new).await;
    let lease = || old.sql(&format!("SELECT holder, until_ms FROM {DATABASE}.seen_leases"));
    let held = lease().expect("a lease");
    eventually("upkeep", async || store.upkeep_now().await.map_err(|error| error.to_string()))
        .await;
    assert_eq!(lease().expect("a lease"), held, "the demoted server took it");
    primary_at(&store, new.port()).await;
}

/// Background work that takes many steps ends with the step in which the server is demoted: it goes on
/// neither for those who may write there nor behind a lease that was held. What had begun before is
/// committed, of such a user: each step removes so many rows at most.
async fn ends_with_the_demotion(rows: &str, remain: &str, step: u64) {
    let (old, new) = pair().await;
    let mut options = options(&[old.port(), new.port()]);
    options.probe_interval_ms = 60_000;
    options.page_timeout_ms = 20_000;
    let password = PasswordSource::None;
    options.login = Login { user: "root".to_owned(), password, ..options.login };
    let mut kept = faults::plain();
    kept[0].newest_max = Some(10);
    let store = MySqlStore::open(options, kept).await.expect("a store");
    old.sql(rows).expect("rows");
    let left = || -> u64 { old.sql(remain).expect("rows").trim().parse().expect("a number") };
    let before = left();
    let upkeep = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.upkeep_now().await })
    };
    eventually("the work is under way", async || {
        (left() < before).then_some(()).ok_or_else(|| "nothing is gone yet".to_owned())
    })
    .await;
    old.set_read_only(true).expect("demoted");
    let then = left();
    let ended = answered("upkeep", upkeep).await.expect("no panic");
    assert!(then > 0, "it was too fast for this test");
    assert_eq!(ended.expect_err("it was not done").kind, StoreErrorKind::Unavailable);
    let after = left();
    assert!(after > 0 && then - after <= step, "rows went on going: {then}, then {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_fences_stay_at_a_demoted_server() {
    let rows = "USE seen; INSERT INTO seen_control SELECT seq, 0, seq, 1, 1 FROM seq_1_to_90000";
    ends_with_the_demotion(rows, "SELECT COUNT(*) FROM seen.seen_control", 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn surplus_rows_stay_at_a_demoted_server() {
    let rows =
        format!("USE seen; INSERT INTO {TABLE} SELECT seq MOD 4, 1, seq, seq FROM seq_1_to_200000");
    ends_with_the_demotion(&rows, &format!("SELECT COUNT(*) - 40 FROM {TABLE}"), 5_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_follow_a_crash_with_a_witness() {
    let witness = MariaDb::start().expect("a witness");
    witness.create_user(USER, faults::PASSWORD).expect("a user");
    let (old, new) = pair().await;
    // At the pace of the defaults.
    let probe_interval_ms = MySqlOptions::default().probe_interval_ms;
    let options = voted(&[old.port(), new.port()], witness.port());
    let store = open(&MySqlOptions { probe_interval_ms, ..options }).await;
    primary_at(&store, old.port()).await;
    let before: Vec<u64> = (0..=200).collect();
    store.write(mark(1, 0..200)).await.expect("marks");
    let stamp = store.write(mark(1, [200])).await.expect("a mark").expect("a number");
    new.catch_up_with(&old).expect("caught up");
    // What the replica has not fetched yet asynchronous replication loses; only how calls end counts.
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<Marking> = (10..18).map(|user| marking(&store, user, &stop)).collect();
    eventually("marks are under way", async || {
        let rows = old.sql(&format!("SELECT COUNT(*) FROM {TABLE} WHERE user_id >= 10"));
        let rows: u64 = rows.expect("rows").trim().parse().expect("a number");
        (rows > 100).then_some(()).ok_or_else(|| format!("{rows}"))
    })
    .await;
    old.kill_9().expect("killed");
    standing(&store, "no server takes writes", |s| matches!(s, Standing::NoneWritable(_))).await;
    assert!(refused(&store, 2).await.contains("none of its servers takes writes"));
    new.promote().expect("promoted");
    let began = std::time::Instant::now();
    works_again(&store, 3).await;
    eprintln!("writes go on {} ms after the promotion", began.elapsed().as_millis());
    primary_at(&store, new.port()).await;
    let promoted = answered("a mark", store.write(mark(4, 0..100))).await;
    // The new primary gives numbers again that lost commits had, whose events may be known (row 53).
    let anew = promoted.expect("a mark");
    assert!(!anew.is_some_and(|anew| anew.comparable(stamp)), "{anew:?} and {stamp}");
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        let acknowledged = answered("marks", task).await.expect("no other error");
        assert!(!acknowledged.is_empty());
    }
    assert_eq!(ids_at(&new, 1), before, "what the replica had is all there");
    assert_eq!(ids_at(&new, 4), (0..100).collect::<Vec<_>>());
    all_free(&store, [2; 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writable_servers_are_not_written_to() {
    let (one, other) = pair().await;
    let store = open(&options(&[one.port(), other.port()])).await;
    works_again(&store, 1).await;
    other.catch_up_with(&one).expect("caught up");
    other.promote().expect("promoted");
    standing(&store, "a split brain", |s| matches!(s, Standing::SplitBrain(all) if all.len() == 2))
        .await;
    for _ in 0..10 {
        let said = refused(&store, 2).await;
        assert!(said.contains("several of its servers take writes at once"), "{said}");
        assert!(said.contains(&one.port().to_string()), "{said}");
        assert!(said.contains(&other.port().to_string()), "{said}");
    }
    let check = answered("a check", found(&store, 1, [1])).await.expect_err("which one to ask?");
    assert_eq!(check.kind, StoreErrorKind::Unavailable, "{check}");
    assert_eq!((ids_at(&one, 2), ids_at(&other, 2)), (vec![], vec![]), "refused and written");
    one.set_read_only(true).expect("demoted");
    works_again(&store, 3).await;
    primary_at(&store, other.port()).await;
    assert_eq!((ids_at(&one, 3), ids_at(&other, 3)), (vec![], vec![1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_site_writes_only_with_a_witness() {
    let (primary, replica) = pair().await;
    let here = TcpProxy::to(primary.port()).expect("a proxy");
    let there = TcpProxy::to(replica.port()).expect("a proxy");
    let alone = open(&options(&[here.port(), there.port()])).await;
    let witness = MariaDb::start().expect("a witness");
    witness.create_user(USER, faults::PASSWORD).expect("a user");
    let vote = TcpProxy::to(witness.port()).expect("a proxy");
    let witnessed = open(&voted(&[here.port(), there.port()], vote.port())).await;
    works_again(&alone, 1).await;
    works_again(&witnessed, 2).await;

    let is_minority =
        |of: usize| move |s: &Standing| *s == Standing::NoMajority { reached: 1, servers: of };
    there.cut();
    standing(&alone, "no majority", is_minority(2)).await;
    let said = refused(&alone, 3).await;
    assert!(said.contains("only 1 of its 2 servers and witnesses are in reach"), "{said}");
    assert!(found(&alone, 1, [1]).await.is_err(), "nor does it read there");
    // Another look finds the same: the witness is a majority with the primary.
    works_again(&witnessed, 4).await;
    primary_at(&witnessed, here.port()).await;

    vote.hold();
    standing(&witnessed, "no majority", is_minority(3)).await;
    let said = refused(&witnessed, 5).await;
    assert!(said.contains("only 1 of its 3 servers and witnesses are in reach"), "{said}");
    assert_eq!((ids_at(&primary, 3), ids_at(&primary, 5)), (vec![], vec![]));
    there.heal();
    works_again(&alone, 6).await;
    works_again(&witnessed, 7).await;
    vote.heal();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lagging_replica_answers_nothing() {
    let (primary, replica) = pair().await;
    let way = TcpProxy::to(primary.port()).expect("a proxy");
    let store = open(&options(&[replica.port(), way.port()])).await;
    works_again(&store, 1).await;
    replica.sql("STOP SLAVE SQL_THREAD").expect("it lags");
    for id in 10..200 {
        store.write(mark(1, [id])).await.expect("a mark");
        assert_eq!(found(&store, 1, [id]).await.expect("a check"), [true], "of item {id}");
    }
    assert!(!ids_at(&replica, 1).contains(&10), "the replica does not lag");
    way.cut();
    let until = tokio::time::Instant::now() + LIMIT;
    while !matches!(store.status()[0].standing, Standing::NoMajority { .. }) {
        assert!(tokio::time::Instant::now() < until, "{:?}", store.status());
        let told = answered("a check", found(&store, 1, [10])).await;
        assert!(told.as_ref().is_ok_and(|found| found == &[true]) || told.is_err(), "{told:?}");
    }
    let told = answered("a check", found(&store, 1, [10])).await;
    assert_eq!(told.expect_err("nobody may answer").kind, StoreErrorKind::Unavailable);
    way.heal();
    works_again(&store, 2).await;
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{USER}' AND db = '{DATABASE}'"
    );
    assert_eq!(replica.sql(&sql).expect("a count"), "0\n", "work is done at the replica");
}
