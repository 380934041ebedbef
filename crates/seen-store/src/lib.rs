//! The only crate that knows SQL. It stands behind the two seams of `seen-filter`, the **history**
//! and the **change feed**:
//!
//! - [`MySqlStore`]: the store on MySQL, MariaDB and TiDB servers, in tables of its own or in those that
//!   an application already has;
//! - [`BinlogFeed`]: the change feed of MySQL and MariaDB, from the servers' own binary log;
//! - [`NoFeed`]: none, where nobody tells of changes;
//! - [`SqliteStore`]: the embedded store, one file on the machine's own disk;
//! - [`MemoryStore`]: a double in memory whose faults are set by the caller, for tests and
//!   simulation;
//! - `conformance` (feature `conformance`): the suite that every store passes, which is the precise
//!   form of what the seams promise.

pub mod binlog;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod memory;
pub mod metrics;
pub mod mysql;
mod net;
pub mod no_feed;
mod request;
pub mod sqlite;

pub use binlog::{BinlogFeed, BinlogOptions};
pub use memory::MemoryStore;
pub use mysql::{MySqlOptions, MySqlStore};
pub use no_feed::NoFeed;
pub use request::{CHECK_ITEMS_MAX, StorageClock, TIME_MS_MAX, WRITE_ROWS_MAX, system_clock};
pub use sqlite::{SqliteOptions, SqliteStore};
