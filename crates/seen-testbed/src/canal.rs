//! Canal, from the jars that `scripts/feed-tools` fetched.

use std::fs;
use std::ops::Deref;
use std::path::Path;

use crate::error::{Error, While};
use crate::java::{Properties, Tool};
use crate::kafka::Kafka;
use crate::keeper::{Keeper, Launch};
use crate::process::{Kind, Look, Process, Start};

const NAME: &str = "Canal";
/// What `scripts/feed-tools` calls it.
const TARGET: &str = "canal";
/// The launcher that `scripts/feed-tools` compiles.
const CLASS: &str = "CanalFeed";
const TOPIC: &str = "canal";
/// It says so before it asks for the binlog from there.
const STREAMS: &str = "find start position successfully";
/// It reaches into Java's own classes.
const OPENED: [&str; 2] = ["java.base/sun.nio.ch", "java.base/java.nio"];

/// For its producer: nothing is lost or sent out of order.
const SETTINGS: [(&str, &str); 17] = [
    ("kafka.acks", "all"),
    ("kafka.compression.type", "none"),
    ("kafka.batch.size", "16384"),
    ("kafka.linger.ms", "1"),
    ("kafka.max.request.size", "1048576"),
    ("kafka.buffer.memory", "33554432"),
    ("kafka.max.in.flight.requests.per.connection", "1"),
    ("kafka.retries", "0"),
    ("kafka.kerberos.enable", "false"),
    ("canal.mq.flatMessage", "true"),
    ("canal.mq.canalBatchSize", "50"),
    ("canal.mq.canalGetTimeout", "100"),
    ("canal.mq.accessChannel", "local"),
    ("canal.mq.build.thread.size", "2"),
    ("canal.mq.send.thread.size", "2"),
    ("canal.mq.database.hash", "true"),
    ("feed.hash", ""),
];

/// Canal's server, from one database to one topic. It keeps nothing: each start begins with what is
/// written after it.
///
/// It is a [`Process`]: `kill_9`, `restart`, `freeze` and so on are there; nobody listens on its port.
#[derive(Debug)]
pub struct Canal {
    process: Process,
}

/// How a Canal is to be started.
#[derive(Clone, Debug)]
#[must_use]
pub struct CanalBuilder {
    settings: Properties,
    tables: Vec<String>,
}

impl CanalBuilder {
    /// Which tables it follows, as `database.table`.
    pub fn tables(mut self, tables: &[&str]) -> Self {
        self.tables = tables.iter().map(|&table| table.to_owned()).collect();
        self
    }

    /// The one column of every table that decides the partition of its rows, of so many partitions.
    /// Without this everything goes to partition 0, which is Canal's own way.
    pub fn key(self, column: &str, partitions: usize) -> Self {
        // Each of the tables has the column, and there are no others.
        self.setting("feed.hash", &format!(".*\\..*:{column}"))
            .setting("feed.partitions", &partitions.to_string())
    }

    /// Where to: `canal` unless told otherwise.
    pub fn into_topic(self, topic: &str) -> Self {
        self.setting("feed.topic", topic)
    }

    /// Sends its own protobuf messages instead of flat JSON.
    pub fn protobuf(self) -> Self {
        self.setting("canal.mq.flatMessage", "false")
    }

    /// One more setting: `kafka.*` and `canal.mq.*` for its producer, above the others.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.set(name, value);
        self
    }

    /// Starts it, and returns when it knows from where on it follows the binlog.
    pub fn start(self) -> Result<Canal, Error> {
        let mut tool = Tool::find("canal", TARGET)?;
        let keeper = Keeper::new("canal")?;
        let folder = keeper.folder().to_owned();
        for opened in OPENED {
            tool = tool.option(format!("--add-opens={opened}=ALL-UNNAMED"));
        }
        let log = folder.join("logback.xml");
        fs::write(&log, include_str!("logback.xml")).when(|| format!("write {}", log.display()))?;
        let tool = tool.option(format!("-Dlogback.configurationFile={}", log.display()));
        let kind = Kind {
            name: NAME,
            ports: 1,
            launch: Box::new(move |ports| self.launch(&tool, &folder, ports)),
            look: Box::new(|start| Ok(look(start))),
        };
        Ok(Canal { process: Process::start(keeper, kind)? })
    }

    fn launch(&self, tool: &Tool, folder: &Path, ports: &[u16]) -> Result<Launch, Error> {
        let mut settings = self.settings.clone();
        settings.set("feed.folder", folder.display());
        settings.set("feed.tables", self.tables.join(",").replace('.', r"\."));
        // Two readers of one binlog must not have one number: the port is nobody else's.
        settings.set("feed.server.id", ports.first().copied().unwrap_or_default());
        let file = folder.join("feed.properties");
        settings.write(&file)?;
        Ok(tool.launch(CLASS, [file]))
    }
}

impl Canal {
    /// From the database on a port of 127.0.0.1, where root needs no password, to a Kafka.
    pub fn builder(kafka: &Kafka, database_port: u16) -> CanalBuilder {
        let mut settings: Properties = SETTINGS.into_iter().collect();
        settings.set("kafka.bootstrap.servers", kafka.bootstrap());
        settings.set("feed.topic", TOPIC);
        settings.set("feed.database.port", database_port);
        settings.set("feed.database.user", "root");
        settings.set("feed.database.password", "");
        settings.set("feed.database.name", "mysql");
        CanalBuilder { settings, tables: Vec::new() }
    }
}

impl Deref for Canal {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

fn look(start: &Start) -> Look {
    if start.log().contains(STREAMS) { Look::Ready } else { Look::NotYet(None) }
}
