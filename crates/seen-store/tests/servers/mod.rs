//! Real servers, one of each kind for all tests of a program, and stores on databases of their own.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use seen_filter::NamespaceSettings;
use seen_store::conformance::Fixture;
use seen_store::mysql::{Login, Name, PasswordSource, ServerAddress, ShardServers, Tls};
use seen_store::{MySqlOptions, MySqlStore, StorageClock};
use seen_testbed::{MariaDb, Mysql, Server, Tidb, or_skip};

/// The program's MariaDB. Always there: the tests' script installs it.
pub fn mariadb() -> Option<OnServer> {
    static SERVER: OnceLock<MariaDb> = OnceLock::new();
    Some(OnServer(SERVER.get_or_init(|| MariaDb::start().expect("a MariaDB"))))
}

/// The program's TiDB, or `None`, loudly, where it has not been built.
pub fn tidb() -> Option<OnServer> {
    static SERVER: OnceLock<Option<Tidb>> = OnceLock::new();
    SERVER.get_or_init(|| or_skip(Tidb::start())).as_deref().map(OnServer)
}

/// The program's MySQL, or `None`, loudly, where there is none.
pub fn mysql() -> Option<OnServer> {
    static SERVER: OnceLock<Option<Mysql>> = OnceLock::new();
    SERVER
        .get_or_init(|| or_skip(Mysql::start_with(&["--performance-schema=ON"])))
        .as_deref()
        .map(OnServer)
}

/// Makes stores on a server.
#[derive(Clone, Copy)]
pub struct OnServer(&'static Server);

impl Deref for OnServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.0
    }
}

/// Options for a store in this database of the server at this port.
pub fn options(port: u16, database: &str) -> MySqlOptions {
    MySqlOptions {
        login: Login { user: "root".to_owned(), password: PasswordSource::None, tls: Tls::Off },
        shards: vec![ShardServers {
            database: Name::new("database", database).expect("a name"),
            candidates: vec![ServerAddress { host: "127.0.0.1".to_owned(), port }],
            witnesses: Vec::new(),
        }],
        // Machines that build something else beside the tests are slow.
        check_timeout_ms: 20_000,
        page_timeout_ms: 20_000,
        connect_timeout_ms: 20_000,
        ..MySqlOptions::default()
    }
}

fn new_database(server: &Server) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    server.sql(&format!("CREATE DATABASE {name}")).expect("a database");
    name
}

impl OnServer {
    /// A new, empty database.
    pub fn database(self) -> String {
        new_database(&self)
    }

    /// Options for a store in a new database.
    pub fn options(self) -> MySqlOptions {
        options(self.port(), &self.database())
    }

    /// A new store.
    pub async fn store(
        self,
        options: MySqlOptions,
        namespaces: Vec<NamespaceSettings>,
    ) -> Arc<MySqlStore> {
        store(options, namespaces).await
    }
}

/// A new store, its schema made.
pub async fn store(options: MySqlOptions, namespaces: Vec<NamespaceSettings>) -> Arc<MySqlStore> {
    let made = MySqlStore::apply_schema(options.clone(), namespaces.clone()).await;
    made.expect("a schema");
    MySqlStore::open(options, namespaces).await.expect("a store")
}

/// Options for a store of so many shards, spread over these servers in turn.
pub fn sharded_options(servers: &[&Server], shards: usize) -> MySqlOptions {
    let mut options = options(0, "unused");
    options.shards.clear();
    for number in 0..shards {
        let server = servers[number % servers.len()];
        let database = new_database(server);
        options.shards.push(self::options(server.port(), &database).shards.remove(0));
    }
    options
}

/// Makes stores of several shards on one server.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "shared by test programs, of which some have no shards")]
pub struct Sharded(pub OnServer, pub usize);

impl Fixture for Sharded {
    type Store = MySqlStore;

    async fn open(
        &self,
        namespaces: Vec<NamespaceSettings>,
        clock: StorageClock,
    ) -> Arc<MySqlStore> {
        let spread = sharded_options(&[&self.0], self.1);
        let options = MySqlOptions { clock: Some(clock), write_timeout_ms: 1_000, ..spread };
        self.0.store(options, namespaces).await
    }
}

impl Fixture for OnServer {
    type Store = MySqlStore;

    async fn open(
        &self,
        namespaces: Vec<NamespaceSettings>,
        clock: StorageClock,
    ) -> Arc<MySqlStore> {
        // A forget waits for the limit of a write.
        let options =
            MySqlOptions { clock: Some(clock), write_timeout_ms: 1_000, ..self.options() };
        self.store(options, namespaces).await
    }
}
