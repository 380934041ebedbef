//! Hearing the storage's clock where rows expire. Builds bring it along, but a replica whose users are
//! all in memory builds nothing, and would never learn that a bucket has ended (row 42: no other clock
//! may say so).

use std::sync::Arc;

use seen_filter::history::PageRequest;
use seen_filter::{NamespaceId, UserId};
use tokio::time::{Duration, MissedTickBehavior, interval};

use crate::replica::Replica;
use crate::rules::Input;

/// How often in a bucket.
const ASKS_PER_BUCKET: u64 = 4;
/// Shortest and longest time between two asks, in milliseconds.
const PAUSE_MS_MIN: u64 = 500;
const PAUSE_MS_MAX: u64 = 60_000;

/// Asks storage for the time until it is dropped; not at all where nothing expires.
pub(super) async fn serve(replica: Arc<Replica>) {
    let expiring = replica.namespaces.iter().enumerate().filter_map(|(at, namespace)| {
        let retention = namespace.rules.settings().namespace.retention?;
        Some((retention.bucket_ms / ASKS_PER_BUCKET, at))
    });
    let Some((pause_ms, namespace)) = expiring.min() else { return };
    let pause = Duration::from_millis(pause_ms.clamp(PAUSE_MS_MIN, PAUSE_MS_MAX));
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = 0;
    loop {
        ticks.tick().await;
        // Any page tells the time; this is the cheapest. All namespaces are of one store. Another user
        // each time, whose shard may be there when that of the last one is not.
        asked += 1;
        let request = PageRequest {
            namespace: NamespaceId::new(namespace as u16),
            user: UserId::new(asked),
            after: None,
            rows_max: 1,
        };
        match replica.history.page(request).await {
            Ok(page) => {
                let now = replica.ticker.now();
                for namespace in 0..replica.namespaces.len() {
                    replica.step(namespace, now, Input::StorageClock(page.storage_now));
                }
            }
            Err(error) => tracing::debug!(error = %error, "storage's clock could not be read"),
        }
    }
}
