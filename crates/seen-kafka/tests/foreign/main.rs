//! Topics as Debezium writes them, on a real Kafka, without a database: what of them reaches which reader.

mod brokers;
mod codecs;
mod places;
mod refused;
mod rows;
mod secured;
mod ticdc;
mod world;
