//! How many shards are in use, as metrics.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::home::Home;
use super::primary::PrimaryWatch;
use crate::metrics::{SEMI_SYNC_OFF, SHARDS};

/// States of a shard, as the metric's label says them.
const STATES: [&str; 4] = ["in_use", "no_primary", "unseen", "refused"];

fn state(home: &Home) -> &'static str {
    match home.trouble() {
        _ if home.is_refused() => "refused",
        _ if home.standing().primary().is_none() => "no_primary",
        Some(_) => "unseen",
        None => "in_use",
    }
}

/// Counts at intervals until stopped.
pub(crate) async fn run(
    homes: Vec<Arc<Home>>,
    groups: Vec<Arc<PrimaryWatch>>,
    interval: Duration,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let states: Vec<&str> = homes.iter().map(|home| state(home)).collect();
        for name in STATES {
            let count = states.iter().filter(|state| **state == name).count();
            metrics::gauge!(SHARDS, "state" => name).set(count as f64);
        }
        let off = groups.iter().filter(|group| group.waits_for_nobody()).count();
        metrics::gauge!(SEMI_SYNC_OFF).set(off as f64);
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
