//! Private copies of real servers, for tests: [`MariaDb`], [`Tidb`], [`Mysql`]; [`Kafka`] and what brings
//! a database's changes there, [`Debezium`], [`Canal`] and [`Maxwell`]; and [`TcpProxy`], a network that
//! can be made to fail.
//!
//! Each server runs on a free port below 32768, in a temporary folder, under a small shell that holds
//! the read end of a pipe from the test process. When the pipe closes (`Drop`, the process's end, or
//! `kill -9` of it), that shell kills the server and removes the folder: a server in a `static` is
//! stopped like any other, and nothing is left behind. For Linux only.
//!
//! ```no_run
//! # fn main() -> Result<(), seen_testbed::Error> {
//! let primary = seen_testbed::MariaDb::start()?;
//! let replica = seen_testbed::MariaDb::builder().replica_of(&primary).start()?;
//! primary.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1)")?;
//! replica.catch_up_with(&primary)?;
//! primary.kill_9()?;
//! replica.promote()?;
//! assert_eq!(replica.sql("SELECT a FROM d.t")?, "1\n");
//! # Ok(())
//! # }
//! ```
//!
//! A feed of two tables, in one topic, by user:
//!
//! ```no_run
//! # fn main() -> Result<(), seen_testbed::Error> {
//! # let database = seen_testbed::MariaDb::start()?;
//! let kafka = seen_testbed::Kafka::start()?;
//! kafka.create_topic("seen", 8, &[])?;
//! let feed = seen_testbed::Debezium::builder(&kafka, database.port());
//! let debezium = feed.tables(&["d.t", "d.seen_control"]).key("user_id").into_topic("seen").start()?;
//! database.sql("INSERT INTO d.t VALUES (7)")?;
//! debezium.kill_9()?;
//! debezium.restart()?;
//! for record in kafka.records("seen")? {
//!     println!("{} {}: {}", record.partition, record.key_text(), record.value_text());
//! }
//! # Ok(())
//! # }
//! ```

mod cache;
mod canal;
mod client;
mod debezium;
mod error;
mod java;
mod kafka;
mod keeper;
mod mariadb;
mod maxwell;
mod mysql;
mod port;
mod process;
mod program;
mod proxy;
mod server;
mod template;
mod tidb;
mod wait;

pub use canal::{Canal, CanalBuilder};
pub use debezium::{Connector, Debezium, DebeziumBuilder};
pub use error::{Error, or_skip};
pub use kafka::{Kafka, KafkaBuilder, Record};
pub use mariadb::{Builder, MariaDb};
pub use maxwell::{Maxwell, MaxwellBuilder};
pub use mysql::{Mysql, MysqlBuilder};
pub use process::Process;
pub use proxy::TcpProxy;
pub use server::Server;
pub use tidb::Tidb;
pub use wait::until;
