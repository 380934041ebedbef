//! The whole chain with real parts: MariaDB, Debezium, Kafka and two replicas of the same users. Whoever
//! writes the rows, both replicas come to answer what storage holds, without a restart.

#[path = "../api/ask.rs"]
#[allow(dead_code, reason = "shared with the API's tests, which use all of it")]
mod ask;
mod calls;
mod chain;
mod doctor;
mod outages;
#[path = "../api/process.rs"]
#[allow(dead_code, reason = "shared with the tests of crashes, which use all of it")]
mod process;
mod restore;
mod rows;
mod schema;
#[path = "../mysql/servers.rs"]
#[allow(dead_code, reason = "shared with the tests on database servers, which use all of it")]
mod servers;
mod topic;
mod watch;
