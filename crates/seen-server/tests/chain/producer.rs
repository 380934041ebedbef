//! Who brings a database's changes into the topic: Debezium, or what `SEEN_CHAIN` names.

use std::ops::Deref;

use seen_testbed::{Canal, Debezium, Error, Kafka, MariaDb, Maxwell, Process};

/// The tables of a store with the default configuration.
const TABLES: [&str; 3] = ["db.history_feed_read", "db.history_push_sent", "db.seen_control"];
/// What decides the partition of a row.
const KEY: &str = "user_id";

/// What can bring changes into a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Debezium,
    Canal,
    Maxwell,
}

/// A tool at work. It is a [`Process`].
pub enum Producer {
    Debezium(Debezium),
    Canal(Canal),
    Maxwell(Maxwell),
}

impl Tool {
    /// The one that all chains are made with.
    pub fn chosen() -> Self {
        match std::env::var("SEEN_CHAIN").as_deref() {
            Err(_) | Ok("debezium") => Self::Debezium,
            Ok("canal") => Self::Canal,
            Ok("maxwell") => Self::Maxwell,
            Ok(other) => panic!("SEEN_CHAIN={other:?}: debezium, canal or maxwell"),
        }
    }

    /// What `kafka.partitioner` is for it.
    pub fn partitioner(self) -> &'static str {
        match self {
            Self::Debezium => "key",
            Self::Canal => "canal",
            Self::Maxwell => "maxwell",
        }
    }

    /// What the database must be started with.
    pub fn database_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Debezium => &[],
            // Else it sends the text of each statement, to the first partition.
            Self::Canal => &["--binlog-annotate-row-events=0"],
            Self::Maxwell => &Maxwell::MARIADB,
        }
    }

    /// True if this is one of them; else says, loudly, that a scenario does not apply, and why.
    pub fn is_of(self, tools: &[Self], why_not: &str) -> bool {
        let is_one = tools.contains(&self);
        if !is_one {
            eprintln!("SKIPPED with {self:?}: {why_not}");
        }
        is_one
    }

    /// A producer that begins at the log's end, and knows of no earlier one.
    pub fn start(
        self,
        kafka: &Kafka,
        database: &MariaDb,
        topic: &str,
        partitions: usize,
    ) -> Result<Producer, Error> {
        match self {
            Self::Debezium => Debezium::builder(kafka, database.port())
                .tables(&TABLES)
                .key(KEY)
                .into_topic(topic)
                .snapshot("no_data")
                .property("skipped.operations", "none")
                // Else it takes five minutes to learn of a new partition.
                .worker_property("producer.metadata.max.age.ms", "2000")
                .offset_flush_ms(1_000)
                .start()
                .map(Producer::Debezium),
            Self::Canal => Canal::builder(kafka, database.port())
                .tables(&TABLES)
                .key(KEY, partitions)
                .into_topic(topic)
                .start()
                .map(Producer::Canal),
            Self::Maxwell => Maxwell::builder(kafka, database.port())
                .tables(&TABLES)
                .key(KEY)
                .into_topic(topic)
                .setting("output_binlog_position", "true")
                .setting("kafka.metadata.max.age.ms", "2000")
                .start()
                .map(Producer::Maxwell),
        }
    }
}

impl Deref for Producer {
    type Target = Process;

    fn deref(&self) -> &Process {
        match self {
            Self::Debezium(tool) => tool,
            Self::Canal(tool) => tool,
            Self::Maxwell(tool) => tool,
        }
    }
}
