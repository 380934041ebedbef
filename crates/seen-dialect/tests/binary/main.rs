//! The formats that are no JSON: recorded messages, and every variant by vectors of our own.

mod damage;
mod open_protocol;
mod recorded;
mod said;
mod simple;
mod ticdc_avro;
mod tidb_binlog;
