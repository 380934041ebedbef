//! What the proxies of all threads know together.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use seen_cluster::map::MapHandle;
use seen_proto::v1;
use seen_proxy::Proxy;

/// States that one thread may have seen a replica in, the worst first: of several threads' the worst is shown.
const STATES: [&str; 7] = ["refused", "down", "ejected", "unready", "draining", "suspect", "up"];

/// The proxies of all threads.
pub(super) struct Watched {
    map: Arc<MapHandle>,
    proxies: Mutex<Vec<Proxy>>,
}

impl Watched {
    pub(super) fn new(map: Arc<MapHandle>) -> Self {
        Self { map, proxies: Mutex::default() }
    }

    /// A thread has made its proxy.
    pub(super) fn add(&self, proxy: Proxy) {
        self.proxies.lock().push(proxy);
    }

    /// The epoch that all threads have reached.
    pub(super) fn epoch(&self) -> u32 {
        self.proxies.lock().iter().map(|proxy| proxy.epoch().get()).min().unwrap_or(0)
    }

    /// The cluster, by the map.
    pub(super) fn cluster(&self) -> u64 {
        self.map.current().map.cluster
    }

    /// True if every thread has a replica that answers.
    pub(super) fn is_ready(&self) -> bool {
        let proxies = self.proxies.lock();
        !proxies.is_empty() && proxies.iter().all(Proxy::is_ready)
    }

    /// True once every thread has tried all replicas.
    pub(super) fn has_tried_all(&self) -> bool {
        let proxies = self.proxies.lock();
        !proxies.is_empty() && proxies.iter().all(Proxy::has_tried_all)
    }

    /// Requests under way.
    pub(super) fn in_flight(&self) -> u64 {
        self.proxies.lock().iter().map(|proxy| proxy.in_flight() as u64).sum()
    }

    /// Every replica once: in the worst state that a thread sees it in, with the requests of all.
    pub(super) fn replicas(&self) -> Vec<v1::ReplicaView> {
        let mut all: BTreeMap<(String, u32, String), v1::ReplicaView> = BTreeMap::new();
        for proxy in self.proxies.lock().iter() {
            for view in proxy.replicas() {
                let key = (view.pool.clone(), view.slot, view.name.clone());
                match all.get_mut(&key) {
                    None => {
                        all.insert(key, view);
                    }
                    Some(known) => join(known, view),
                }
            }
        }
        all.into_values().collect()
    }

    /// What an operator should look at.
    pub(super) fn problems(&self) -> Vec<String> {
        let wrong = self.replicas().into_iter().filter(|view| view.state != "up");
        wrong
            .map(|view| {
                format!("replica {} of {}/{} is {}", view.name, view.pool, view.slot, view.state)
            })
            .collect()
    }
}

fn join(known: &mut v1::ReplicaView, view: v1::ReplicaView) {
    let rank = |state: &str| STATES.iter().position(|one| *one == state).unwrap_or(0);
    if rank(&view.state) < rank(&known.state) {
        known.state = view.state;
        known.breaker = view.breaker;
    }
    known.in_flight += view.in_flight;
    known.p95_us = known.p95_us.max(view.p95_us);
    known.feed_lag_us = known.feed_lag_us.max(view.feed_lag_us);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_threads_the_worst_state_is_shown_and_requests_are_added() {
        let view = |state: &str, in_flight| v1::ReplicaView {
            state: state.to_owned(),
            in_flight,
            ..v1::ReplicaView::default()
        };
        let mut known = view("up", 3);
        join(&mut known, view("ejected", 4));
        join(&mut known, view("suspect", 1));
        assert_eq!((known.state.as_str(), known.in_flight), ("ejected", 8));
    }
}
