//! Debezium in a Kafka Connect worker of its own, from the jars that `scripts/feed-tools` fetched.

use std::ops::Deref;
use std::path::Path;

use crate::error::Error;
use crate::java::{Properties, Tool};
use crate::kafka::{Kafka, TARGET};
use crate::keeper::{Keeper, Launch};
use crate::process::{Kind, Look, Process, Start};

const NAME: &str = "Debezium";
/// What its topics are named after.
const PREFIX: &str = "t";
/// Kafka Connect of one process, which notes in a file what it has sent.
const WORKER: &str = "org.apache.kafka.connect.cli.ConnectStandalone";
const JSON: &str = "org.apache.kafka.connect.json.JsonConverter";
/// What the reader of the binlog says once it is connected: after the snapshot, if there is one.
const STREAMS: [&str; 2] = ["Keepalive thread is running", "Connected to binlog at"];
/// What a connector says that will not run.
const FAILS: [&str; 3] = [
    "Task threw an uncaught and unrecoverable exception",
    "Failed to create connector",
    "Connector configuration is invalid",
];
/// How often what was sent is noted, for a start after a crash.
const OFFSET_FLUSH_MS: u32 = 1_000;
/// How long the connector waits for more when there is nothing.
const POLL_MS: u32 = 100;

/// Which of Debezium's connectors reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connector {
    /// That for MariaDB.
    #[default]
    MariaDb,
    /// That for MySQL, which reads MariaDB too.
    MySql,
}

impl Connector {
    fn class(self) -> &'static str {
        match self {
            Self::MariaDb => "io.debezium.connector.mariadb.MariaDbConnector",
            Self::MySql => "io.debezium.connector.mysql.MySqlConnector",
        }
    }
}

/// Debezium, from one database to one Kafka. What it has sent is known over restarts.
///
/// It is a [`Process`]: `kill_9`, `restart`, `freeze` and so on are there; `port` is that of Kafka
/// Connect's REST interface.
#[derive(Debug)]
pub struct Debezium {
    process: Process,
}

/// How a Debezium is to be started.
#[derive(Clone, Debug)]
#[must_use]
pub struct DebeziumBuilder {
    bootstrap: String,
    database_port: u16,
    connector: Connector,
    prefix: String,
    tables: Vec<String>,
    key: Option<String>,
    topic: Option<String>,
    unwrapped: bool,
    schemas: bool,
    worker: Properties,
    more: Properties,
}

impl DebeziumBuilder {
    /// Which connector reads: that for MariaDB unless told otherwise.
    pub fn connector(mut self, connector: Connector) -> Self {
        self.connector = connector;
        self
    }

    /// What its topics are named after: `t`, as in `t.database.table`, unless told otherwise.
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Which tables it follows, as `database.table`.
    pub fn tables(mut self, tables: &[&str]) -> Self {
        self.tables = tables.iter().map(|&table| table.to_owned()).collect();
        self
    }

    /// The one column of every table that is the key of its events, and so decides their partition.
    /// Without this it is the primary key.
    pub fn key(mut self, column: &str) -> Self {
        self.key = Some(column.to_owned());
        self
    }

    /// Sends the rows of all tables to one topic. With one [`key`](Self::key) rows of one key are then
    /// in one partition, in the order of their commits, whichever table they are in.
    pub fn into_topic(mut self, topic: &str) -> Self {
        self.topic = Some(topic.to_owned());
        self
    }

    /// Sends bare rows with `__op` and `__table`, and deletions as rows with `__deleted`.
    pub fn unwrapped(mut self) -> Self {
        self.unwrapped = true;
        self
    }

    /// Sends each key and value with its schema.
    pub fn with_schemas(mut self) -> Self {
        self.schemas = true;
        self
    }

    /// Sends unsigned 64-bit numbers as they are, in base64, and not as signed ones.
    pub fn precise(self) -> Self {
        self.property("bigint.unsigned.handling.mode", "precise")
    }

    /// Sends heartbeats that often, to a topic of their own, also when nothing is written.
    pub fn heartbeat_ms(self, interval_ms: u32) -> Self {
        let interval = interval_ms.to_string();
        // It only comes to send one when something happens on its connection.
        self.property("heartbeat.interval.ms", &interval)
            .property("connect.keep.alive.interval.ms", &interval)
    }

    /// What it reads before the binlog: `initial` (everything) unless told otherwise, or `no_data`.
    pub fn snapshot(self, mode: &str) -> Self {
        self.property("snapshot.mode", mode)
    }

    /// How often it notes what it has sent: it sends what came after that again when it was killed.
    pub fn offset_flush_ms(self, interval_ms: u32) -> Self {
        self.worker_property("offset.flush.interval.ms", &interval_ms.to_string())
    }

    /// One more property of the connector, above the others.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.more.set(name, value);
        self
    }

    /// One more property of the worker, above the others.
    pub fn worker_property(mut self, name: &str, value: &str) -> Self {
        self.worker.set(name, value);
        self
    }

    /// Starts it, and returns when it follows the binlog: what was in the tables is sent by then, if
    /// not yet acknowledged by Kafka.
    pub fn start(self) -> Result<Debezium, Error> {
        let tool = Tool::find("kafka", TARGET)?;
        let keeper = Keeper::new("debezium")?;
        let folder = keeper.folder().to_owned();
        let tool = tool.with_log(&folder)?;
        let kind = Kind {
            name: NAME,
            ports: 1,
            launch: Box::new(move |ports| self.launch(&tool, &folder, ports)),
            look: Box::new(|start| Ok(look(start))),
        };
        Ok(Debezium { process: Process::start(keeper, kind)? })
    }

    fn launch(&self, tool: &Tool, folder: &Path, ports: &[u16]) -> Result<Launch, Error> {
        let port = ports.first().copied().unwrap_or_default();
        let files = [
            ("worker.properties", self.worker_properties(folder, port)),
            ("connector.properties", self.connector_properties(folder, port)),
        ];
        let mut arguments = Vec::new();
        for (name, properties) in files {
            let file = folder.join(name);
            properties.write(&file)?;
            arguments.push(file.into_os_string());
        }
        Ok(tool.launch(WORKER, arguments))
    }

    fn worker_properties(&self, folder: &Path, port: u16) -> Properties {
        let mut all = Properties::default();
        all.set("bootstrap.servers", &self.bootstrap);
        all.set("listeners", format!("http://127.0.0.1:{port}"));
        for side in ["key", "value"] {
            all.set(format!("{side}.converter"), JSON);
            all.set(format!("{side}.converter.schemas.enable"), self.schemas);
        }
        all.set("offset.storage.file.filename", folder.join("offsets").display());
        all.set("offset.flush.interval.ms", OFFSET_FLUSH_MS);
        // Everything is on the class path.
        all.set("plugin.discovery", "service_load");
        all.extend(&self.worker);
        all
    }

    fn connector_properties(&self, folder: &Path, port: u16) -> Properties {
        let mut all = Properties::default();
        all.set("name", "feed");
        all.set("connector.class", self.connector.class());
        all.set("tasks.max", 1);
        all.set("database.hostname", "127.0.0.1");
        all.set("database.port", self.database_port);
        all.set("database.user", "root");
        all.set("database.password", "");
        // Two readers of one binlog must not have one number: the port is nobody else's.
        all.set("database.server.id", port);
        all.set("topic.prefix", &self.prefix);
        all.set("table.include.list", self.tables.join(","));
        if let Some(column) = &self.key {
            let keys: Vec<String> =
                self.tables.iter().map(|table| format!("{table}:{column}")).collect();
            all.set("message.key.columns", keys.join(";"));
        }
        all.set("bigint.unsigned.handling.mode", "long");
        all.set("snapshot.mode", "initial");
        // Truncations are left out otherwise.
        all.set("skipped.operations", "none");
        all.set("poll.interval.ms", POLL_MS);
        let history = "schema.history.internal";
        all.set(history, "io.debezium.storage.file.history.FileSchemaHistory");
        all.set(format!("{history}.file.filename"), folder.join("schema-history").display());
        self.transforms(&mut all);
        all.extend(&self.more);
        all
    }

    fn transforms(&self, all: &mut Properties) {
        let mut names = Vec::new();
        if self.unwrapped {
            names.push("unwrap");
            all.set("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState");
            all.set("transforms.unwrap.delete.tombstone.handling.mode", "rewrite");
            all.set("transforms.unwrap.add.fields", "op,table,source.ts_ms");
        }
        if let Some(topic) = &self.topic {
            names.push("route");
            // Only rows: schema changes and heartbeats have topics of other forms, and keep them.
            let pattern = |text: &str| text.replace('.', r"\.");
            let (prefix, tables) = (pattern(&self.prefix), pattern(&self.tables.join("|")));
            all.set("transforms.route.type", "org.apache.kafka.connect.transforms.RegexRouter");
            all.set("transforms.route.regex", format!(r"{prefix}\.({tables})"));
            all.set("transforms.route.replacement", topic);
            if self.schemas {
                // The key's schema is part of what is hashed, and has the table's name.
                names.push("key");
                let class = "org.apache.kafka.connect.transforms.SetSchemaMetadata$Key";
                all.set("transforms.key.type", class);
                all.set("transforms.key.schema.name", format!("{topic}.Key"));
            }
        }
        if !names.is_empty() {
            all.set("transforms", names.join(","));
        }
    }
}

impl Debezium {
    /// From the database on a port of 127.0.0.1, where root needs no password, to a Kafka. Something must
    /// have been written there: a MariaDB with an empty binlog has no position to start from.
    pub fn builder(kafka: &Kafka, database_port: u16) -> DebeziumBuilder {
        DebeziumBuilder {
            bootstrap: kafka.bootstrap(),
            database_port,
            connector: Connector::default(),
            prefix: PREFIX.to_owned(),
            tables: Vec::new(),
            key: None,
            topic: None,
            unwrapped: false,
            schemas: false,
            worker: Properties::default(),
            more: Properties::default(),
        }
    }
}

impl Deref for Debezium {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

fn look(start: &Start) -> Look {
    let log = start.log();
    if let Some(line) = log.lines().find(|line| FAILS.iter().any(|fails| line.contains(fails))) {
        return Look::Failed(line.to_owned());
    }
    if STREAMS.iter().any(|streams| log.contains(streams)) {
        return Look::Ready;
    }
    Look::NotYet(None)
}
