//! The hop: a proxy and the replicas behind it against a bare echo, and how far both go.
//!
//! Proxy and replicas are processes of their own, each with one serving thread, on one embedded store; users are put into the
//! replicas' memory. Rounds of all sides are interleaved, so that whatever else the machine does hits all of them.

mod cluster;
mod cpu;
pub(super) mod many;
mod push;
mod rate;

use super::progress::Progress;
use super::{BenchError, Outcome, Plan};
use cluster::Wish;
use cpu::{Aims, Scene};

pub(super) use push::measure as push;
pub(super) use rate::measure as throughput;

/// Users in memory: with 5,000 items each more than 600 MB of filters, far beyond every cache.
const USERS: u64 = 100_000;
/// Connections of the load, and requests in flight on each.
const SATURATION: (usize, usize) = (6, 48);
const SIXTEEN: (usize, usize) = (2, 8);
/// The aims: shares of the echo's CPU.
const PROXY_SATURATED_MAX: f64 = 0.7;
const PROXY_16_MAX: f64 = 1.0;
const REPLICA_MAX: f64 = 0.35;
const SERVE_MAX: f64 = 0.9;

/// CPU at saturation.
///
/// # Errors
/// [`BenchError`].
pub(super) fn saturation(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    let aims = Aims { proxy: PROXY_SATURATED_MAX, replica: REPLICA_MAX, serve: SERVE_MAX };
    let scene = Scene { name: "hop_cpu_saturation", shape: SATURATION, aims: Some(aims) };
    scene.measure(&Wish::one(USERS), plan, progress)
}

/// CPU with 16 in flight.
///
/// # Errors
/// [`BenchError`].
pub(super) fn sixteen(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    let aims = Aims { proxy: PROXY_16_MAX, replica: REPLICA_MAX, serve: SERVE_MAX };
    let scene = Scene { name: "hop_cpu_16_in_flight", shape: SIXTEEN, aims: Some(aims) };
    scene.measure(&Wish::one(USERS), plan, progress)
}

/// CPU with 25 slots of 2 replicas, so that each is sent a fiftieth.
///
/// # Errors
/// [`BenchError`].
pub(super) fn replicas_50(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    let scene = Scene { name: "hop_cpu_50_replicas", shape: SATURATION, aims: None };
    let wish = Wish { pools: &[("feed", 25, 2)], in_one: true, ..Wish::one(USERS) };
    scene.measure(&wish, plan, progress)
}

/// CPU with TLS everywhere.
///
/// # Errors
/// [`BenchError`].
pub(super) fn tls(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    let scene = Scene { name: "hop_cpu_tls", shape: SATURATION, aims: None };
    scene.measure(&Wish { tls: true, ..Wish::one(USERS) }, plan, progress)
}
