//! What must happen though nobody asks: fences as heartbeats, eviction, gauges.

use std::sync::Arc;

use tokio::time::{Duration, MissedTickBehavior, interval};

use crate::replica::Replica;
use crate::rules::Input;

/// How often.
const EVERY: Duration = Duration::from_millis(100);
/// Entries freed a round.
const SHED_ENTRIES_MAX: usize = 16_384;

pub(super) async fn serve(replica: Arc<Replica>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = replica.ticker.now();
        for namespace in 0..replica.namespaces.len() {
            replica.step(namespace, now, Input::Heartbeat);
            replica.step(namespace, now, Input::Shed { entries_max: SHED_ENTRIES_MAX });
        }
        replica.publish_gauges(now);
    }
}
