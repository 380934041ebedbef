//! Servers of a test's own, and stores on them that are to feel what befalls the servers.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use seen_filter::history::{PAGE_ROWS_MAX, PageRequest, Question, Write, WriteOp};
use seen_filter::{
    History, Item, NamespaceId, NamespaceSettings, StoreError, StoreErrorKind, UserId,
};
use seen_store::mysql::{Login, Name, PasswordSource, ServerAddress, ShardServers, Tls};
use seen_store::{MySqlOptions, MySqlStore};
use seen_testbed::{MariaDb, Mysql, MysqlBuilder, Server, Tidb, or_skip};

pub const NS: NamespaceId = NamespaceId::new(0);
/// The database that all stores are in.
pub const DATABASE: &str = "seen";
/// The table of the one namespace.
pub const TABLE: &str = "seen.history_reads";
/// A user of the servers whom `read_only` stops; root is above it.
pub const USER: &str = "seen";
pub const PASSWORD: &str = "a secret";
/// How long anything awaited may take. Generous: machines that build beside the tests are slow.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How long to rest between two looks at a server or a store.
const PAUSE: Duration = Duration::from_millis(20);

/// A MariaDB with the database in it, and the user.
pub fn server(arguments: &[&str]) -> MariaDb {
    let server = MariaDb::builder().arguments(arguments).start().expect("a MariaDB");
    prepare(&server);
    server
}

/// Makes the database and the user.
pub fn prepare(server: &MariaDb) {
    server.create_user(USER, PASSWORD).expect("a user");
    make_database(server);
}

/// A MySQL with the database in it, and the user; `None`, loudly, where there is none.
pub fn mysql() -> Option<Mysql> {
    mysql_by(Mysql::builder())
}

/// The same, started in another way.
pub fn mysql_by(builder: MysqlBuilder<'_>) -> Option<Mysql> {
    let server = or_skip(builder.start())?;
    server.create_user(USER, PASSWORD).expect("a user");
    make_database(&server);
    Some(server)
}

/// A TiDB with the database in it, and the user; `None`, loudly, where it has not been built.
pub fn tidb() -> Option<Tidb> {
    tidb_with(&[])
}

/// The same, with more arguments.
pub fn tidb_with(arguments: &[&str]) -> Option<Tidb> {
    let server = or_skip(Tidb::start_with(arguments))?;
    server.create_user(USER, PASSWORD).expect("a user");
    make_database(&server);
    Some(server)
}

fn make_database(server: &Server) {
    server.sql(&format!("CREATE DATABASE {DATABASE}")).expect("a database");
}

/// Tests of what a function does to a server, one for each kind of server.
#[allow(unused_macros, reason = "each test file uses its own part")]
macro_rules! on_each_server {
    ($($what:ident),+ $(,)?) => {$(
        mod $what {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn mariadb() {
                super::$what(&crate::faults::server(&[])).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn mysql() {
                if let Some(server) = crate::faults::mysql() {
                    super::$what(&server).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn tidb() {
                if let Some(server) = crate::faults::tidb() {
                    super::$what(&server).await;
                }
            }
        }
    )+};
}
#[allow(unused_imports, reason = "each test file uses its own part")]
pub(crate) use on_each_server;

pub fn address(port: u16) -> ServerAddress {
    ServerAddress { host: "127.0.0.1".to_owned(), port }
}

/// Options for a store whose candidates are at these ports. Its limits are short, since what they end
/// here would not end otherwise.
pub fn options(ports: &[u16]) -> MySqlOptions {
    MySqlOptions {
        login: Login {
            user: USER.to_owned(),
            password: PasswordSource::Text(PASSWORD.to_owned()),
            tls: Tls::Off,
        },
        shards: vec![ShardServers {
            database: Name::new("database", DATABASE).expect("a name"),
            candidates: ports.iter().copied().map(address).collect(),
            witnesses: Vec::new(),
        }],
        check_connections_max: 2,
        write_connections_max: 2,
        page_connections_max: 2,
        connect_timeout_ms: 2_000,
        check_timeout_ms: 2_000,
        write_timeout_ms: 2_000,
        page_timeout_ms: 2_000,
        probe_interval_ms: 100,
        // Background work would meet what a test has in mind for its own calls.
        upkeep: false,
        ..MySqlOptions::default()
    }
}

/// The one namespace.
pub fn plain() -> Vec<NamespaceSettings> {
    vec![NamespaceSettings::new(NS, "reads")]
}

/// Makes the schema.
pub async fn migrate(options: &MySqlOptions) {
    // No limit that a test wants short is any use here.
    let patient =
        MySqlOptions { connect_timeout_ms: 30_000, page_timeout_ms: 60_000, ..options.clone() };
    MySqlStore::apply_schema(patient, plain()).await.expect("a schema");
}

/// A store where the schema is.
pub async fn open(options: &MySqlOptions) -> Arc<MySqlStore> {
    eventually("the store opens", async || {
        MySqlStore::open(options.clone(), plain()).await.map_err(|error| error.to_string())
    })
    .await
}

/// A new store.
pub async fn store(options: &MySqlOptions) -> Arc<MySqlStore> {
    migrate(options).await;
    open(options).await
}

/// Looks again and again until it is well, and fails with the last thing seen if it never is.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let until = tokio::time::Instant::now() + LIMIT;
    loop {
        let seen = match look().await {
            Ok(done) => return done,
            Err(seen) => seen,
        };
        assert!(tokio::time::Instant::now() < until, "{what}: not within {LIMIT:?}: {seen}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// An answer that must come, whatever befalls the servers.
pub async fn answered<T>(what: &str, call: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(LIMIT, call).await;
    answer.unwrap_or_else(|_| panic!("{what}: no answer within {LIMIT:?}"))
}

/// A call that marks these items of kind 1.
pub fn mark(user: u64, ids: impl IntoIterator<Item = u64>) -> Vec<Write> {
    let items = ids.into_iter().map(|id| (Item::new(1, id), None)).collect();
    vec![Write { namespace: NS, user: UserId::new(user), op: WriteOp::Append, items }]
}

/// The first page of a user.
pub fn page(user: u64) -> PageRequest {
    PageRequest { namespace: NS, user: UserId::new(user), after: None, rows_max: PAGE_ROWS_MAX }
}

/// Whether the store finds these items.
pub async fn found(
    store: &MySqlStore,
    user: u64,
    ids: impl IntoIterator<Item = u64>,
) -> Result<Vec<bool>, StoreError> {
    let items = ids.into_iter().map(|id| Item::new(1, id)).collect();
    let question = Question { user: UserId::new(user), items };
    let mut answers = store.check(NS, vec![question]).await?;
    Ok(answers.found.remove(0))
}

/// The ids of a user's items, as the server itself has them.
pub fn ids_at(server: &Server, user: u64) -> Vec<u64> {
    let sql = format!("SELECT item_id FROM {TABLE} WHERE user_id = {user} ORDER BY item_id");
    let rows = server.sql(&sql).expect("rows");
    rows.lines().map(|line| line.parse().expect("a number")).collect()
}

/// One of the server's own counters.
pub fn counter(server: &Server, name: &str) -> u64 {
    let rows = server.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'")).expect("a counter");
    rows.trim().rsplit('\t').next().and_then(|text| text.parse().ok()).expect("a number")
}

/// Waits until checks, pages and writes work. `user` is one whom nothing else touches.
pub async fn works_again(store: &MySqlStore, user: u64) {
    let said = |error: StoreError| error.to_string();
    eventually("a write", async || store.write(mark(user, [1])).await.map_err(said)).await;
    let seen = eventually("a check", async || found(store, user, [1, 2]).await.map_err(said)).await;
    assert_eq!(seen, [true, false]);
    let read = eventually("a page", async || store.page(page(user)).await.map_err(said)).await;
    assert_eq!(read.rows.len(), 1);
}

/// Waits until no work holds a connection.
pub async fn all_free(store: &MySqlStore, all: [usize; 3]) {
    eventually("every permit is free", async || {
        let free = store.status()[0].free_connections;
        (free == all).then_some(()).ok_or_else(|| format!("{free:?} of {all:?}"))
    })
    .await;
}

/// The acknowledged ones, once it was told to stop.
pub type Marking = tokio::task::JoinHandle<Vec<u64>>;

/// Marks one item after another until told to stop. Gives the acknowledged ones.
pub fn marking(store: &Arc<MySqlStore>, user: u64, stop: &Arc<AtomicBool>) -> Marking {
    let (store, stop) = (Arc::clone(store), Arc::clone(stop));
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for id in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match store.write(mark(user, [id])).await {
                Ok(_) => acknowledged.push(id),
                Err(error) => assert!(
                    matches!(
                        error.kind,
                        StoreErrorKind::Unavailable
                            | StoreErrorKind::OutcomeUnknown
                            | StoreErrorKind::ReadOnly
                    ),
                    "{error}"
                ),
            }
        }
        acknowledged
    })
}
