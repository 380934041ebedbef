//! Two replicas behind one MariaDB, one producer of change events and one Kafka.

use std::ops::{Deref, DerefMut};

use seen_testbed::{Kafka, MariaDb, or_skip};
use tokio::task::spawn_blocking;

use super::producer::{Producer, Tool};
use super::stage::{Stage, turn};
use super::wait::awaited;

/// The topic of all tables.
pub const TOPIC: &str = "seen";
/// Partitions of it.
pub const PARTITIONS: usize = 3;

/// The parts, in the order in which they are stopped.
pub struct Chain {
    stage: Stage,
    pub producer: Producer,
    pub kafka: Kafka,
}

impl Chain {
    /// Starts everything; `None`, loudly, where the tools are not there.
    pub async fn start() -> Option<Self> {
        Self::start_with(PARTITIONS).await
    }

    /// With another number of partitions.
    pub async fn start_with(partitions: usize) -> Option<Self> {
        let tool = Tool::chosen();
        let turn = turn().await;
        let (kafka, database) = servers(tool).await?;
        let parts = move || {
            kafka.create_topic(TOPIC, partitions, &[]).expect("a topic");
            let settings = [
                "mysql.feed=kafka".to_owned(),
                format!("kafka.brokers={}", kafka.bootstrap()),
                format!("kafka.partitioner={}", tool.partitioner()),
            ];
            let stage = Stage::new(turn, database, &settings);
            let producer = tool.start(&kafka, &stage.database, TOPIC, partitions);
            Some(Self { stage, producer: or_skip(producer)?, kafka })
        };
        let mut chain = spawn_blocking(parts).await.expect("no panic")?;
        chain.serve().await;
        Some(chain)
    }

    /// Another producer in place of the one that was killed.
    pub async fn begin_producer_anew(&mut self) {
        let begun = tokio::task::block_in_place(|| {
            Tool::chosen().start(&self.kafka, &self.stage.database, TOPIC, PARTITIONS)
        });
        self.producer = begun.expect("a producer");
    }

    /// How many records there are in a partition.
    pub fn records_in(&self, partition: usize) -> i64 {
        let partition = i32::try_from(partition).expect("few");
        let offsets = tokio::task::block_in_place(|| self.kafka.offsets(TOPIC, partition));
        offsets.map_or(0, |offsets| offsets.end)
    }

    /// How many records there are in all partitions together.
    pub fn records(&self) -> i64 {
        (0..PARTITIONS).map(|partition| self.records_in(partition)).sum()
    }

    /// Waits until there are so many.
    pub async fn wait_for_records(&self, wanted: i64) {
        awaited("records in the topic", async || match self.records() {
            there if there >= wanted => Ok(()),
            there => Err(format!("{there} of {wanted} records")),
        })
        .await;
    }

    /// Writes until something comes through a partition.
    pub async fn wait_for_records_in(&self, partition: usize) {
        let insert =
            "INSERT IGNORE INTO history_feed_read SELECT seq, 1, 77, 5 FROM seq_2000_to_2011";
        let delete = "DELETE FROM history_feed_read WHERE item_id = 77 AND user_id >= 2000";
        let what = format!("a record in partition {partition}");
        awaited(&what, async || {
            if self.records_in(partition) > 0 {
                return Ok(());
            }
            self.sql(insert).await;
            self.sql(delete).await;
            Err("it is empty".to_owned())
        })
        .await;
    }
}

/// A Kafka and a database for a producer, started side by side.
pub async fn servers(tool: Tool) -> Option<(Kafka, MariaDb)> {
    let arguments = tool.database_arguments();
    let database = move || MariaDb::builder().arguments(arguments).start().expect("a MariaDB");
    let kafka = spawn_blocking(|| or_skip(Kafka::start()));
    let (kafka, database) = tokio::join!(kafka, spawn_blocking(database));
    Some((kafka.expect("no panic")?, database.expect("no panic")))
}

impl Deref for Chain {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

impl DerefMut for Chain {
    fn deref_mut(&mut self) -> &mut Stage {
        &mut self.stage
    }
}
