//! How a replica fares in its cluster, for whoever is connected to it: told with the welcome, on change, and now and then.

use seen_filter::VirtualSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use seen_proto::v1;
use tokio::sync::watch;
use tokio::time::{Duration, MissedTickBehavior, interval};

use super::pulse::Pulse;
use super::readiness::{Facts, PeerState, Readiness, ReadinessLimits, Unready};
use crate::changes::Changes;
use crate::replica::Replica;
use crate::warm::Progress;

/// How often a replica looks at itself.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How one replica fares. Shared by all its connections and by what drives it.
pub struct Standing {
    replica: Arc<Replica>,
    unready: Mutex<Option<Unready>>,
    map_epoch: AtomicU32,
    /// The warm-up of the slots that are about to become its own.
    incoming: Mutex<Option<Arc<Progress>>>,
    changes: Changes,
    pub(super) pulse: Pulse,
}

impl Standing {
    /// Of a replica that wants no requests yet.
    pub fn new(replica: Arc<Replica>) -> Self {
        Self {
            replica,
            unready: Mutex::new(Some(Unready::Starting)),
            map_epoch: AtomicU32::new(0),
            incoming: Mutex::default(),
            changes: Changes::default(),
            pulse: Pulse::default(),
        }
    }

    /// The replica.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// Why it wants no requests; `None` if it does.
    pub fn unready(&self) -> Option<Unready> {
        *self.unready.lock()
    }

    /// The epoch of its map; 0 = it has none.
    pub fn map_epoch(&self) -> u32 {
        self.map_epoch.load(Ordering::Relaxed)
    }

    /// The map says whose users may be kept: those of the slot, and those that come to it next, which it must follow before it
    /// owns them (coherence row 35). `incoming` is the warm-up of the latter, where there are any.
    pub fn set_map(&self, epoch: u32, kept: &VirtualSet, incoming: Option<Arc<Progress>>) {
        self.replica.own_slots(kept);
        *self.incoming.lock() = incoming;
        self.map_epoch.store(epoch, Ordering::Relaxed);
        self.announce();
    }

    /// Tells everybody connected at once.
    pub fn announce(&self) {
        self.changes.tell();
    }

    /// Changes whenever everybody should be told.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.follow()
    }

    /// As it is told.
    pub fn state(&self) -> v1::ReplicaState {
        let unready = self.unready();
        let draining = self.replica.draining();
        let incoming = self.incoming.lock().as_ref().map_or(1.0, |progress| progress.view().share);
        v1::ReplicaState {
            ready: unready.is_none() && !draining,
            draining,
            feed_lag_us: self.replica.feed_lag_us().unwrap_or(u64::MAX),
            map_epoch: self.map_epoch(),
            reason: unready.map_or_else(String::new, |unready| unready.text().to_owned()),
            users: self.replica.users(),
            incoming_permille: (incoming * 1_000.0) as u32,
        }
    }

    /// Looks at itself again and again, until dropped. `peers` tells the live replicas of the slot, without this one; `warming` is
    /// the warm-up of the start.
    pub async fn keep(
        &self,
        limits: ReadinessLimits,
        warming: &Progress,
        mut peers: impl FnMut() -> Vec<PeerState> + Send,
    ) {
        let ticker = self.replica.ticker;
        let mut readiness = Readiness::new(limits, ticker.now());
        let mut begun = false;
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let now = ticker.now();
            self.pulse.beat(now);
            // Once and for all: partitions of users that come later are opened before these are its own.
            begun = begun || self.replica.tried_all();
            let unready = readiness.look(&Facts {
                now,
                begun,
                feed_lag_us: self.replica.feed_lag_us(),
                peers: &peers(),
                warm_share: warming.view().share,
                draining: self.replica.draining(),
            });
            let before = std::mem::replace(&mut *self.unready.lock(), unready);
            if before != unready {
                let reason = unready.map_or("", Unready::text);
                tracing::info!(ready = unready.is_none(), reason, "readiness changed");
                self.announce();
            }
        }
    }
}
