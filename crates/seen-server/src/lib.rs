//! The shell of the one binary `seen`: arguments, configuration, telemetry, signals, and the threads
//! that serve connections. It reads the environment, files, clocks and signals, and hands real parts
//! to the roles; the roles themselves are libraries that take a listener and a shutdown future.

pub mod bench;
pub mod cli;
pub mod config;
mod drill;
pub mod history_file;
pub mod http;
pub mod metrics;
pub mod node;
mod proxy_node;
pub mod readiness;
pub mod reference;
pub mod runtime;
mod schema_registry;
pub mod serving;
pub mod shutdown;
pub mod telemetry;
