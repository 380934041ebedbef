//! Servers and networks that say nothing, and statements that take too long. A query that is dropped
//! on a silent connection costs sqlx's own pool that connection for as long as the silence lasts; it
//! must not cost ours one.

mod faults;

use std::sync::Arc;
use std::time::Duration;

use faults::{
    PASSWORD, TABLE, USER, all_free, answered, counter, eventually, found, mark, on_each_server,
    options, page, server, store, works_again,
};
use seen_filter::{History, StoreErrorKind};
use seen_store::{MySqlOptions, MySqlStore};
use seen_testbed::{Server, TcpProxy};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, MySqlConnection};

/// How long a caller waits that gives up.
const IMPATIENT: Duration = Duration::from_millis(80);
/// So many calls a connection are given up.
const TIMES: u64 = 10;
/// Connections of each class.
const EACH: usize = 2;

fn raw_options(port: u16) -> MySqlConnectOptions {
    MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(port)
        .username(USER)
        .password(PASSWORD)
        .ssl_mode(MySqlSslMode::Disabled)
}

async fn raw(port: u16) -> MySqlConnection {
    raw_options(port).connect().await.expect("a connection")
}

/// A way to a server on which all connections can fall silent for good while new ones get through: a
/// server that lost its power and whose address another one took over.
struct Way {
    server: u16,
    front: TcpProxy,
    back: TcpProxy,
}

impl Way {
    fn to(server: &Server) -> Self {
        let back = TcpProxy::to(server.port()).expect("a proxy");
        let front = TcpProxy::to(back.port()).expect("a proxy");
        Self { server: server.port(), front, back }
    }

    fn fall_silent(&self) {
        self.back.hold();
    }

    fn let_new_ones_through(&self) {
        self.front.retarget(self.server);
    }
}

/// sqlx issue 4349. A dropped query's connection is pinged before its permit is given back, without a
/// limit: two of them, and the pool is dead until the silence ends, whatever happens elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlx_own_pool_is_dead_while_dropped_connections_are_silent() {
    let server = server(&[]);
    for test_first in [false, true] {
        let way = Way::to(&server);
        let pool = MySqlPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(Duration::from_secs(1))
            .test_before_acquire(test_first)
            .connect_with(raw_options(way.front.port()))
            .await
            .expect("a pool");
        let both = [pool.acquire().await.expect("one"), pool.acquire().await.expect("another")];
        way.fall_silent();
        for mut connection in both {
            let query = sqlx::query("SELECT 1").execute(&mut *connection);
            assert!(tokio::time::timeout(IMPATIENT, query).await.is_err(), "out of the silence");
        }
        way.let_new_ones_through();
        raw(way.front.port()).await.ping().await.expect("the server is in reach again");
        for _ in 0..3 {
            let refused = pool.acquire().await.map(|_| ()).expect_err("the pool recovered");
            assert!(matches!(refused, sqlx::Error::PoolTimedOut), "{refused}");
        }
        way.back.heal();
        eventually("an answer of the old connections", async || {
            pool.acquire().await.map(|_| ()).map_err(|error| error.to_string())
        })
        .await;
    }
}

/// Options under which the silence is met by the work itself: a look at the servers takes too long to
/// find out about it first.
fn short_limits(port: u16) -> MySqlOptions {
    MySqlOptions {
        connect_timeout_ms: 60_000,
        check_timeout_ms: 300,
        write_timeout_ms: 300,
        page_timeout_ms: 300,
        ..options(&[port])
    }
}

/// Calls of all kinds whose callers give up, until the store has begun ten times as many as it has
/// connections.
async fn give_up_calls(store: &Arc<MySqlStore>) {
    let before = store.attempts().0;
    let wanted = TIMES * 3 * EACH as u64;
    let mut id = 100;
    eventually("the calls begin", async || {
        for _ in 0..EACH {
            id += 1;
            let (checks, pages, writes) = (Arc::clone(store), Arc::clone(store), Arc::clone(store));
            tokio::spawn(async move {
                let _ = tokio::time::timeout(IMPATIENT, found(&checks, 1, [1])).await;
            });
            tokio::spawn(async move {
                let _ = tokio::time::timeout(IMPATIENT, pages.page(page(1))).await;
            });
            tokio::spawn(async move {
                let _ = tokio::time::timeout(IMPATIENT, writes.write(mark(1, [id]))).await;
            });
        }
        let begun = store.attempts().0 - before;
        (begun >= wanted).then_some(()).ok_or_else(|| format!("{begun} of {wanted}"))
    })
    .await;
}

/// Every permit returns while the silence lasts, and afterwards everything works.
async fn survives(port: u16, fall_silent: impl FnOnce(), recover: impl FnOnce()) {
    let options = short_limits(port);
    let store = store(&options).await;
    works_again(&store, 1).await;
    fall_silent();
    give_up_calls(&store).await;
    let refused = answered("a check in the silence", found(&store, 1, [1])).await;
    let refused = refused.expect_err("an answer out of the silence");
    assert_eq!(refused.kind, StoreErrorKind::Unavailable, "{refused}");
    assert!(refused.message.contains("no answer within 450 ms"), "{refused}");
    all_free(&store, [EACH; 3]).await;
    recover();
    works_again(&store, 2).await;
    all_free(&store, [EACH; 3]).await;
}

on_each_server!(
    a_frozen_server_costs_no_connection,
    a_write_that_nobody_waits_for_ends_at_the_server,
);

async fn a_frozen_server_costs_no_connection(server: &Server) {
    let freeze = || server.freeze().expect("frozen");
    survives(server.port(), freeze, || server.thaw().expect("thawed")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_network_costs_no_connection() {
    let server = server(&[]);
    let proxy = TcpProxy::to(server.port()).expect("a proxy");
    survives(proxy.port(), || proxy.hold(), || proxy.heal()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_stay_silent_for_good_cost_none() {
    let server = server(&[]);
    let way = Way::to(&server);
    survives(way.front.port(), || way.fall_silent(), || way.let_new_ones_through()).await;
}

/// What the store's user has running at the server, beside what asks for it.
fn running(server: &Server) -> Vec<String> {
    let sql = format!(
        "SELECT info FROM information_schema.processlist WHERE user = '{USER}' AND info IS NOT NULL"
    );
    server.sql(&sql).expect("processes").lines().map(str::to_owned).collect()
}

async fn runs(server: &Server, what: &str) {
    eventually(&format!("{what} runs at the server"), async || {
        let all = running(server);
        all.iter().any(|one| one.contains(what)).then_some(()).ok_or_else(|| format!("{all:?}"))
    })
    .await;
}

async fn nothing_runs(server: &Server) {
    eventually("nothing runs at the server", async || {
        let all = running(server);
        all.is_empty().then_some(()).ok_or_else(|| format!("{all:?}"))
    })
    .await;
}

/// The lock outlasts the test: nothing but the server's own limit ends what waits for it. That the
/// client has gone is not noticed by a server that waits for a lock.
async fn a_write_that_nobody_waits_for_ends_at_the_server(server: &Server) {
    let store = store(&options(&[server.port()])).await;
    works_again(&store, 1).await;
    let mut locker = raw(server.port()).await;
    locker.execute("START TRANSACTION").await.expect("a transaction");
    let insert = format!("INSERT INTO {TABLE} VALUES (7, 1, 1, 1)");
    locker.execute(sqlx::AssertSqlSafe(insert)).await.expect("a locked row");
    let writing = Arc::clone(&store);
    let gone = tokio::spawn(async move { writing.write(mark(7, [1])).await });
    runs(server, "INSERT").await;
    gone.abort();
    nothing_runs(server).await;
    let refused = answered("a write of a locked row", store.write(mark(7, [1]))).await;
    let refused = refused.expect_err("it is locked");
    assert_eq!(refused.kind, StoreErrorKind::Unavailable, "{refused}");
    let by_server = ["conflict", "met its limit at the server"];
    assert!(by_server.iter().any(|words| refused.message.contains(words)), "{refused}");
    locker.execute("ROLLBACK").await.expect("unlocked");
    works_again(&store, 8).await;
    all_free(&store, [EACH; 3]).await;
}

/// As above, with a table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_nobody_waits_for_end_at_the_server() {
    let server = server(&[]);
    let options = options(&[server.port()]);
    let store = store(&options).await;
    works_again(&store, 1).await;
    let mut locker = raw(server.port()).await;
    let lock = format!("LOCK TABLES {TABLE} WRITE");
    locker.execute(sqlx::AssertSqlSafe(lock)).await.expect("a locked table");
    let (checking, paging) = (Arc::clone(&store), Arc::clone(&store));
    let check = tokio::spawn(async move { found(&checking, 1, [1]).await });
    // A statement that no connection has prepared yet waits already when it is prepared.
    let page = tokio::spawn(async move { paging.page(page(1)).await });
    runs(&server, "SELECT").await;
    check.abort();
    page.abort();
    nothing_runs(&server).await;
    let refused = answered("a check of a locked table", found(&store, 1, [1])).await;
    let refused = refused.expect_err("it is locked");
    assert!(refused.message.contains("met its limit at the server"), "{refused}");
    let refused = answered("a check that is new", found(&store, 1, 1..=30)).await;
    let refused = refused.expect_err("it is locked");
    assert!(refused.message.contains("met its limit at the server"), "{refused}");
    nothing_runs(&server).await;
    locker.execute("UNLOCK TABLES").await.expect("unlocked");
    works_again(&store, 8).await;
    all_free(&store, [EACH; 3]).await;
}

/// Makes every insert fail with an error of this number.
fn refuse(server: &Server, number: u32) {
    let trigger = format!(
        "CREATE OR REPLACE TRIGGER seen.refuse BEFORE INSERT ON {TABLE} FOR EACH ROW \
         SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {number};"
    );
    server.sql(&trigger).expect("a trigger");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_everything_is_asked_a_tenth_more_at_most() {
    const CALLS: u64 = 200;
    let server = server(&[]);
    let store = store(&options(&[server.port()])).await;
    works_again(&store, 1).await;
    refuse(&server, 1213);
    let (calls, retries) = store.attempts();
    let at_server = counter(&server, "Com_begin");
    for id in 0..CALLS {
        let refused = answered("a write", store.write(mark(3, [id]))).await.expect_err("refused");
        assert_eq!(refused.kind, StoreErrorKind::Unavailable, "{refused}");
    }
    let (calls, retries) = (store.attempts().0 - calls, store.attempts().1 - retries);
    assert_eq!(calls, CALLS);
    assert_eq!(
        counter(&server, "Com_begin") - at_server,
        calls + retries,
        "every attempt is counted"
    );
    assert!(retries > 0, "what may be repeated is repeated");
    // What was saved up before may be spent, too.
    let allowed = store.attempts().0 / 10;
    assert!(store.attempts().1 <= allowed, "{:?}", store.attempts());
}

/// Whoever meets an error asks for a look at all servers. However many do, looks keep their distance:
/// they must not become the load that keeps a server down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_do_not_multiply_into_looks() {
    const CALLS: u64 = 300;
    const LOOKS_APART: Duration = Duration::from_millis(50);
    let server = server(&[]);
    let options = MySqlOptions { probe_interval_ms: 60_000, ..options(&[server.port()]) };
    let store = store(&options).await;
    works_again(&store, 1).await;
    // As a server that was demoted a moment ago: the connection is given up, and a look asked for.
    refuse(&server, 1290);
    let before = store.attempts();
    let connections = counter(&server, "Connections");
    let began = std::time::Instant::now();
    for id in 0..CALLS {
        answered("a write", store.write(mark(3, [id]))).await.expect_err("refused");
    }
    let looks_max = began.elapsed().as_millis() / LOOKS_APART.as_millis() + 2;
    let (calls, retries) = (store.attempts().0 - before.0, store.attempts().1 - before.1);
    let opened = counter(&server, "Connections") - connections;
    let looks = u128::from(opened.saturating_sub(calls + retries));
    assert!(looks <= looks_max, "{looks} looks, {looks_max} would do; {calls} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_cuts_everything_is_asked_a_tenth_more_at_most() {
    let server = server(&[]);
    let proxy = TcpProxy::to(server.port()).expect("a proxy");
    let store = store(&options(&[proxy.port()])).await;
    for _ in 0..20 {
        works_again(&store, 1).await;
        proxy.cut();
        for id in 0..4 {
            let check = answered("a check", found(&store, 1, [1])).await;
            let write = answered("a write", store.write(mark(2, [id]))).await;
            let page = answered("a page", store.page(page(1))).await;
            for error in [check.err(), write.err(), page.err()].into_iter().flatten() {
                assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
            }
        }
        proxy.heal();
    }
    let (calls, retries) = store.attempts();
    assert!(retries > 0 && retries <= calls / 10, "{retries} of {calls}");
    works_again(&store, 3).await;
    all_free(&store, [EACH; 3]).await;
}
