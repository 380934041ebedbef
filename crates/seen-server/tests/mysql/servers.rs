//! Real servers, one of each kind for all tests of the program, and the binary told to use them.

use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use seen_testbed::{MariaDb, Mysql, Server, Tidb, or_skip};

/// A database of its own on one of the servers.
pub struct Place {
    pub server: &'static Server,
    pub database: String,
}

/// On MariaDB, which is always there.
pub fn mariadb() -> Option<Place> {
    static SERVER: OnceLock<MariaDb> = OnceLock::new();
    Some(on(SERVER.get_or_init(|| MariaDb::start().expect("a MariaDB"))))
}

/// On TiDB, or `None`, loudly, where it has not been built.
pub fn tidb() -> Option<Place> {
    static SERVER: OnceLock<Option<Tidb>> = OnceLock::new();
    SERVER.get_or_init(|| or_skip(Tidb::start())).as_deref().map(on)
}

/// On MySQL, or `None`, loudly, where there is none.
pub fn mysql() -> Option<Place> {
    static SERVER: OnceLock<Option<Mysql>> = OnceLock::new();
    SERVER.get_or_init(|| or_skip(Mysql::start())).as_deref().map(on)
}

/// On this server.
pub fn on(server: &'static Server) -> Place {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let database = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    server.sql(&format!("CREATE DATABASE {database}")).expect("a database");
    Place { server, database }
}

impl Place {
    /// The flags that lead the binary here.
    pub fn flags(&self) -> Vec<String> {
        let settings = [
            "storage.kind=mysql".to_owned(),
            format!("mysql.servers=127.0.0.1:{}", self.server.port()),
            format!("mysql.database={}", self.database),
            "mysql.user=root".to_owned(),
            // Machines that build something else beside the tests are slow.
            "mysql.check_timeout=20s".to_owned(),
            "mysql.connect_timeout=20s".to_owned(),
        ];
        settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect()
    }

    /// Runs a command of the binary to its end.
    pub fn seen(&self, command: &str, more: &[&str]) -> Output {
        seen(&[&[command], more].concat(), &self.flags())
    }

    /// Makes the schema.
    pub fn migrated(self) -> Self {
        let made = self.seen("migrate", &[]);
        assert!(made.status.success(), "{}", said(&made));
        self
    }

    /// Runs SQL in the database.
    pub fn sql(&self, statements: &str) -> String {
        let statements = format!("USE {}; {statements}", self.database);
        self.server.sql(&statements).expect("SQL")
    }
}

/// Runs the binary to its end.
pub fn seen(arguments: &[&str], flags: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seen"));
    let folder = std::env::temp_dir();
    command.args(arguments).args(flags).current_dir(folder).env_remove("SEEN_CONFIG");
    command.stdin(Stdio::null()).output().expect("the binary runs")
}

/// Everything that a command said.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}
