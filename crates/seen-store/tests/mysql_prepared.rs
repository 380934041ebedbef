//! Statements are prepared once a connection and used again and again: counted by the servers
//! themselves. TiDB counts no preparations; what its plan cache does is in `mysql_tidb.rs`.

#[allow(dead_code, reason = "shared by test programs, which use different parts")]
mod servers;

use std::sync::Arc;

use seen_filter::history::{PageRequest, Question, Write, WriteOp};
use seen_filter::{History, Item, NamespaceId, NamespaceSettings, UserId};
use seen_store::{MySqlOptions, MySqlStore};
use seen_testbed::Server;
use servers::OnServer;

const NS: NamespaceId = NamespaceId::new(0);
/// Callers at once.
const CALLERS: u64 = 4;
/// Calls of each: one in four is a mark, one a page, the others are checks.
const CALLS: u64 = 900;
/// So many executions must come of each preparation.
const REUSE_MIN: u64 = 50;

/// One of the server's own counters.
fn counter(server: &Server, name: &str) -> u64 {
    let rows = server.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'")).expect("a counter");
    rows.trim().rsplit('\t').next().and_then(|text| text.parse().ok()).expect("a number")
}

/// Calls of all kinds and of ever different sizes.
async fn call(store: &MySqlStore, caller: u64, call: u64) {
    let user = UserId::new(caller * 10 + call % 10);
    // Sizes jump about: each number of keys from 1 to 300 comes at some time.
    let size = 1 + call * 101 % 300;
    let ids = call * 7..call * 7 + size;
    match call % 4 {
        0 => {
            let items = ids.take(1 + call as usize % 120);
            let items = items.map(|id| (Item::new(1, id), None)).collect();
            let write = Write { namespace: NS, user, op: WriteOp::Append, items };
            store.write(vec![write]).await.expect("marks");
        }
        1 => {
            let after = (call % 8 == 1).then(|| Item::new(1, call));
            let rows_max = 1 + size as usize;
            let request = PageRequest { namespace: NS, user, after, rows_max };
            store.page(request).await.expect("a page");
        }
        _ => {
            let items = ids.map(|id| Item::new(1, id)).collect();
            let asked = store.check(NS, vec![Question { user, items }]).await;
            assert_eq!(asked.expect("a check").found[0].len() as u64, size);
        }
    }
}

#[allow(clippy::print_stderr, reason = "the figures are worth seeing")]
async fn statements_are_prepared_once(server: OnServer, name: &str) {
    // The limits of a production: nothing is saved by few connections.
    let defaults = MySqlOptions::default();
    let options = MySqlOptions {
        check_connections_max: defaults.check_connections_max,
        page_connections_max: defaults.page_connections_max,
        write_connections_max: defaults.write_connections_max,
        ..server.options()
    };
    let store = server.store(options, vec![NamespaceSettings::new(NS, "reads")]).await;
    let counters = ["Com_stmt_prepare", "Com_stmt_execute", "Com_stmt_reprepare"];
    let before = counters.map(|one| counter(&server, one));
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let store = Arc::clone(&store);
        callers.push(tokio::spawn(async move {
            for number in 0..CALLS {
                call(&store, caller, number).await;
            }
        }));
    }
    for caller in callers {
        caller.await.expect("a caller");
    }
    let after = counters.map(|one| counter(&server, one));
    let [prepared, executed, again] = std::array::from_fn(|n| after[n] - before[n]);
    let kept = counter(&server, "Prepared_stmt_count");
    eprintln!(
        "{name}: {executed} executions of {prepared} prepared statements ({again} prepared again by \
         the server), {:.1} % reused; {kept} kept",
        100.0 * (1.0 - prepared as f64 / executed as f64)
    );
    // Marks that share a commit share a statement.
    assert!(executed >= CALLERS * CALLS * 3 / 4, "{executed} executions");
    assert!(executed >= prepared * REUSE_MIN, "{prepared} preparations for {executed} executions");
    assert!(kept <= prepared + before[0], "{kept} kept of {prepared}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_prepares_each_statement_once() {
    let Some(server) = servers::mariadb() else { return };
    statements_are_prepared_once(server, "MariaDB").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_prepares_each_statement_once() {
    let Some(server) = servers::mysql() else { return };
    statements_are_prepared_once(server, "MySQL").await;
}
