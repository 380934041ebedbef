//! Maxwell, from the jars that `scripts/feed-tools` fetched.

use std::ops::Deref;

use crate::error::Error;
use crate::java::{Properties, Tool};
use crate::kafka::Kafka;
use crate::keeper::Keeper;
use crate::process::{Kind, Look, Process, Start};

const NAME: &str = "Maxwell";
/// What `scripts/feed-tools` calls it.
const TARGET: &str = "maxwell";
const CLASS: &str = "com.zendesk.maxwell.Maxwell";
const TOPIC: &str = "maxwell";
/// Where it keeps what it knows, in the database that it follows.
const SCHEMA: &str = "maxwell";
const STREAMS: &str = "Binlog connected";

const SETTINGS: [(&str, &str); 7] = [
    ("host", "127.0.0.1"),
    ("user", "root"),
    ("password", ""),
    ("schema_database", SCHEMA),
    ("producer", "kafka"),
    // Its own default is Java's hash of a text, which spreads numbers badly.
    ("kafka_partition_hash", "murmur3"),
    ("output_ddl", "true"),
];

/// Maxwell, from one database to one topic. Where it is it notes in the database `maxwell`, over
/// restarts.
///
/// The server must run with [`Maxwell::MARIADB`]. Rows that were there before come only after
/// `INSERT INTO maxwell.bootstrap (database_name, table_name) VALUES (...)`.
///
/// It is a [`Process`]: `kill_9`, `restart`, `freeze` and so on are there; nobody listens on its port.
#[derive(Debug)]
pub struct Maxwell {
    process: Process,
}

/// How a Maxwell is to be started.
#[derive(Clone, Debug)]
#[must_use]
pub struct MaxwellBuilder {
    settings: Properties,
}

impl MaxwellBuilder {
    /// Which tables it follows, as `database.table`.
    pub fn tables(self, tables: &[&str]) -> Self {
        let included = tables.iter().map(|table| format!(", include: {table}"));
        self.setting("filter", &format!("exclude: *.*{}", included.collect::<String>()))
    }

    /// The one column of every table that decides the partition of its rows. Without this the
    /// database's name does, which is Maxwell's own way.
    pub fn key(self, column: &str) -> Self {
        self.setting("producer_partition_by", "column")
            .setting("producer_partition_columns", column)
            .setting("producer_partition_by_fallback", "table")
    }

    /// Where to: `maxwell` unless told otherwise. DDL goes to the topic with `_ddl` after that name.
    pub fn into_topic(self, topic: &str) -> Self {
        self.setting("kafka_topic", topic).setting("ddl_kafka_topic", &format!("{topic}_ddl"))
    }

    /// One more setting: `output_binlog_position`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.set(name, value);
        self
    }

    /// Starts it, and returns when it follows the binlog.
    pub fn start(self) -> Result<Maxwell, Error> {
        let tool = Tool::find("maxwell", TARGET)?;
        let keeper = Keeper::new("maxwell")?;
        // Not as arguments: there an empty password would be something else.
        let file = keeper.folder().join("config.properties");
        let launch = move |ports: &[u16]| {
            let mut settings = self.settings.clone();
            // Two readers of one binlog must not have one number: the port is nobody else's.
            settings.set("replica_server_id", ports.first().copied().unwrap_or_default());
            settings.write(&file)?;
            Ok(tool.launch(CLASS, [format!("--config={}", file.display())]))
        };
        let kind = Kind {
            name: NAME,
            ports: 1,
            launch: Box::new(launch),
            look: Box::new(|start| Ok(look(start))),
        };
        Ok(Maxwell { process: Process::start(keeper, kind)? })
    }
}

impl Maxwell {
    /// What a MariaDB must be started with for this old Maxwell: it does not know the name `utf8mb3`.
    pub const MARIADB: [&str; 2] = ["--old-mode=", "--character-set-server=utf8mb4"];

    /// From the database on a port of 127.0.0.1, where root needs no password, to a Kafka.
    pub fn builder(kafka: &Kafka, database_port: u16) -> MaxwellBuilder {
        let mut settings: Properties = SETTINGS.into_iter().collect();
        settings.set("port", database_port);
        settings.set("kafka.bootstrap.servers", kafka.bootstrap());
        MaxwellBuilder { settings }.into_topic(TOPIC)
    }
}

impl Deref for Maxwell {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

fn look(start: &Start) -> Look {
    if start.log().contains(STREAMS) { Look::Ready } else { Look::NotYet(None) }
}
