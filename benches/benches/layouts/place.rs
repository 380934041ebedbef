//! One layout's table on a server of its own. Between its rounds the server is stopped where it is, so
//! that what it does in the background (pages to be flushed, files to be merged) takes time from its
//! own rounds and from nobody else's.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seen_filter::history::{Write, WriteOp};
use seen_filter::{History as _, NamespaceId, NamespaceSettings};
use seen_store::mysql::{Login, Name, PasswordSource, ServerAddress, ShardServers, Tls};
use seen_store::{MySqlOptions, MySqlStore};
use seen_testbed::MariaDb;

use super::layout::Layout;
use super::rows::Rows;

pub const DATABASE: &str = "seen";
pub const TABLE: &str = "history_reads";
const NS: NamespaceId = NamespaceId::new(0);
/// Rows of one call, which is one commit.
const CALL_ROWS: u64 = 1_000;
/// Calls under way at once; the store writes on four connections.
const CALLS: usize = 8;
/// How long a statement of the measurement itself may take: a table is rewritten by one.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// Ticks of the processor times in `/proc`, a second.
const TICKS: f64 = 100.0;

/// What a round took.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub rows: u64,
    pub seconds: f64,
    /// Processor seconds of the server.
    pub cpu_seconds: f64,
    /// What the server had written to the disk.
    pub written_bytes: u64,
}

impl Round {
    /// Rows a second.
    pub fn rate(&self) -> f64 {
        self.rows as f64 / self.seconds
    }
}

/// A table that is being filled.
pub struct Place {
    pub layout: Layout,
    pub time_index: bool,
    pub target_rows: u64,
    pub rows: u64,
    pub rounds: Vec<Round>,
    server: MariaDb,
    options: MySqlOptions,
}

fn told(what: &str) -> impl Fn(&dyn std::fmt::Display) -> String {
    move |error| format!("{what}: {error}")
}

impl Place {
    /// Starts the server, makes the table and stops the server where it is.
    pub async fn start(
        layout: Layout,
        time_index: bool,
        (target_rows, memory_mb): (u64, u64),
    ) -> Result<Self, seen_testbed::Error> {
        let arguments = layout.arguments(memory_mb);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut builder = MariaDb::builder().arguments(&arguments);
        if layout.is_rocksdb() {
            builder = builder.with_rocksdb();
        }
        let server = builder.start()?;
        server.sql(&format!("CREATE DATABASE {DATABASE}"))?;
        let options = options(&server, layout);
        let place =
            Self { layout, time_index, target_rows, rows: 0, rounds: Vec::new(), server, options };
        place.make_table().await;
        place.server.freeze()?;
        Ok(place)
    }

    pub fn name(&self) -> String {
        let index = if self.time_index { ", with index" } else { "" };
        format!("{}{index}", self.layout.name)
    }

    fn namespaces(&self) -> Vec<NamespaceSettings> {
        let mut reads = NamespaceSettings::new(NS, "reads");
        reads.time_index = self.time_index;
        vec![reads]
    }

    /// By the store's own statement; what no word of the configuration stands for is changed in it.
    async fn make_table(&self) {
        let plan = MySqlStore::plan_schema(self.options.clone(), self.namespaces()).await;
        let plan = plan.expect("a plan");
        let of_table = plan[0].steps.iter().find(|step| step.sql.contains(TABLE));
        let statement = &of_table.expect("the table").sql;
        if let Some((from, to)) = self.layout.edit {
            assert!(statement.contains(from), "{statement}");
            let edited = format!("USE {DATABASE}; {}", statement.replace(from, to));
            self.server.sql(&edited).expect("a table");
        }
        let made = MySqlStore::apply_schema(self.options.clone(), self.namespaces()).await;
        made.expect("a schema");
    }

    /// Marks the next rows, at most `count`, and tells after every call how many there were.
    pub async fn round(
        &mut self,
        all: &Arc<Rows>,
        count: u64,
        tell: impl Fn(u64),
    ) -> Result<(), String> {
        self.server.thaw().map_err(|e| told("thawing")(&e))?;
        let store = MySqlStore::open(self.options.clone(), self.namespaces()).await;
        let store = store.map_err(|e| told(&self.name())(&e))?;
        let (first, end) = (self.rows, (self.rows + count).min(self.target_rows));
        let (cpu, written) = (self.cpu_seconds(), self.written_bytes());
        let began = Instant::now();
        let mut calls = VecDeque::new();
        while self.rows < end || !calls.is_empty() {
            while calls.len() < CALLS && self.rows < end {
                let rows = self.rows..end.min(self.rows + CALL_ROWS);
                let (store, all) = (Arc::clone(&store), Arc::clone(all));
                calls.push_back((
                    rows.end - rows.start,
                    tokio::spawn(async move { store.write(writes(&all, rows.clone())).await }),
                ));
                self.rows = end.min(self.rows + CALL_ROWS);
            }
            if let Some((rows, call)) = calls.pop_front() {
                let done = call.await.map_err(|e| told("a call")(&e))?;
                done.map_err(|e| told(&self.name())(&e))?;
                tell(rows);
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        self.rounds.push(Round {
            rows: end - first,
            seconds,
            cpu_seconds: self.cpu_seconds() - cpu,
            written_bytes: self.written_bytes().saturating_sub(written),
        });
        store.close().await;
        self.sql("FLUSH BINARY LOGS; PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")?;
        if self.rows < self.target_rows {
            self.server.freeze().map_err(|e| told("freezing")(&e))?;
        }
        Ok(())
    }

    pub fn sql(&self, statements: &str) -> Result<String, String> {
        let done = self.server.sql_within(PATIENCE, statements);
        done.map_err(|e| told(&self.name())(&e))
    }

    /// The folder with the server's files.
    pub fn data(&self) -> std::path::PathBuf {
        self.server.folder().join("data")
    }

    fn proc(&self, file: &str) -> String {
        let path = Path::new("/proc").join(self.server.pid().to_string()).join(file);
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn cpu_seconds(&self) -> f64 {
        let stat = self.proc("stat");
        // The name, in parentheses, may hold anything.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let ticks = rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok());
        ticks.sum::<f64>() / TICKS
    }

    fn written_bytes(&self) -> u64 {
        let io = self.proc("io");
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    }
}

fn writes(all: &Rows, rows: std::ops::Range<u64>) -> Vec<Write> {
    let one = |number: u64| {
        let row = all.row(number);
        let items = vec![(row.item, Some(row.marked_at))];
        Write { namespace: NS, user: row.user, op: WriteOp::Append, items }
    };
    rows.map(one).collect()
}

fn options(server: &MariaDb, layout: Layout) -> MySqlOptions {
    let address = ServerAddress { host: "127.0.0.1".to_owned(), port: server.port() };
    MySqlOptions {
        login: Login { user: "root".to_owned(), password: PasswordSource::None, tls: Tls::Off },
        shards: vec![ShardServers {
            database: Name::new("database", DATABASE).expect("a name"),
            candidates: vec![address],
            witnesses: Vec::new(),
        }],
        engine: layout.engine,
        commit_rows_max: CALL_ROWS as usize,
        // A machine that does other work besides is slow at times.
        connect_timeout_ms: 60_000,
        write_timeout_ms: 60_000,
        page_timeout_ms: 60_000,
        probe_interval_ms: 5_000,
        upkeep: false,
        ..MySqlOptions::default()
    }
}
