//! The binary on real database servers: what fails at start, `seen migrate`, and the main job.

#[path = "../api/ask.rs"]
#[allow(dead_code, reason = "shared with the API's tests, which use all of it")]
mod ask;
mod attempts;
mod export;
mod job;
mod migrate;
mod peer;
#[path = "../api/process.rs"]
#[allow(dead_code, reason = "shared with the tests of crashes, which use all of it")]
mod process;
mod servers;
mod shards;
mod start;
mod warm;
