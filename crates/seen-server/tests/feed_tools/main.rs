//! `seen doctor --feed`, `seen feed tail`, `replay` and `status` at a real Kafka, as people run them.

#[path = "../api/process.rs"]
#[allow(dead_code, reason = "shared with the tests of crashes, which use all of it")]
mod process;
mod ran;
mod status;
mod topics;
