//! What the producers of change feeds make of rows that are written to a MariaDB.

mod canal;
mod chain;
mod debezium;
mod maxwell;
