//! Private copies of real servers, for tests: [`MariaDb`], [`Tidb`], [`Mysql`], and [`TcpProxy`], a
//! network that can be made to fail.
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

mod cache;
mod client;
mod error;
mod keeper;
mod mariadb;
mod mysql;
mod port;
mod program;
mod proxy;
mod server;
mod template;
mod tidb;
mod wait;

pub use error::{Error, or_skip};
pub use mariadb::{Builder, MariaDb};
pub use mysql::Mysql;
pub use proxy::TcpProxy;
pub use server::Server;
pub use tidb::Tidb;
pub use wait::until;
