//! `seen relay` and `seen ingest` as processes, on a real Kafka and a real MariaDB.

#[path = "../api/ask.rs"]
#[allow(dead_code, reason = "shared with the API's tests, which use all of it")]
mod ask;
mod child;
mod ingest;
#[path = "../api/process.rs"]
#[allow(dead_code, reason = "shared with the tests of crashes, which use all of it")]
mod process;
mod relay;
#[path = "../mysql/servers.rs"]
#[allow(dead_code, reason = "shared with the tests of the commands, which use all of it")]
mod servers;
