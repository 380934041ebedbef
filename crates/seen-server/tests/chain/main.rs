//! The whole chain with real parts: MariaDB, Debezium, Kafka and two replicas of the same users. Whoever
//! writes the rows, both replicas come to answer what storage holds, without a restart.
//!
//! With `SEEN_CHAIN=canal` or `maxwell` another producer is in Debezium's place: see `scripts/chain`.

#[path = "../api/ask.rs"]
#[allow(dead_code, reason = "shared with the API's tests, which use all of it")]
mod ask;
mod calls;
mod chain;
#[path = "../relay/child.rs"]
#[allow(dead_code, reason = "shared with the tests of the relay, which use all of it")]
mod child;
mod doctor;
mod failover;
mod halfway;
mod outages;
#[path = "../mysql/peer.rs"]
mod peer;
#[path = "../api/process.rs"]
#[allow(dead_code, reason = "shared with the tests of crashes, which use all of it")]
mod process;
mod producer;
mod pump;
mod replica;
mod restore;
mod rows;
mod schema;
#[path = "../mysql/servers.rs"]
#[allow(dead_code, reason = "shared with the tests on database servers, which use all of it")]
mod servers;
mod stage;
mod topic;
mod wait;
mod warm;
mod watch;
