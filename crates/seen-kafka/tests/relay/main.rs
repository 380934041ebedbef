//! The relay from a store in memory to librdkafka's mock cluster, and to a real Kafka.

mod conformance;
mod real;
mod resume;
mod stage;
mod takeover;
mod told;
