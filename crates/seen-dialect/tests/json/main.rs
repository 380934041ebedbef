//! The JSON dialects, held against what producers really sent and against damage.

#[path = "../recorded/mod.rs"]
mod recorded;

mod damage;
mod debezium;
mod golden;
mod statements;
mod ticdc;
mod ticdc_recorded;
mod told;
