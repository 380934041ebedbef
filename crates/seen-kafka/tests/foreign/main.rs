//! Topics as Debezium writes them, on a real Kafka, without a database: what of them reaches which reader.

mod places;
mod rows;
mod ticdc;
mod world;
