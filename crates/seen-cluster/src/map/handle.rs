//! The map that is in use now.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::ResolvedMap;

/// The map that is in use now, shared by all threads.
#[derive(Debug)]
pub struct MapHandle {
    current: Arc<ArcSwap<ResolvedMap>>,
    revisions: watch::Receiver<u64>,
}

/// Puts maps into use. Dropped, it leaves the last one in use.
#[derive(Debug)]
pub struct MapPublisher {
    current: Arc<ArcSwap<ResolvedMap>>,
    revisions: watch::Sender<u64>,
}

impl MapHandle {
    /// A map in use, and what can put another one into use.
    pub fn new(first: ResolvedMap) -> (MapPublisher, Arc<Self>) {
        let (sender, receiver) = watch::channel(first.revision);
        let current = Arc::new(ArcSwap::from_pointee(first));
        let publisher = MapPublisher { current: current.clone(), revisions: sender };
        (publisher, Arc::new(Self { current, revisions: receiver }))
    }

    /// The map in use.
    pub fn current(&self) -> Arc<ResolvedMap> {
        self.current.load_full()
    }

    /// Waits until the map in use has another revision than `known`, and returns it. Waits for good if none can come any more.
    pub async fn changed(&self, known: u64) -> Arc<ResolvedMap> {
        let mut revisions = self.revisions.clone();
        let is_over = revisions.wait_for(|revision| *revision != known).await.is_err();
        if is_over {
            std::future::pending::<()>().await;
        }
        self.current()
    }

    /// Its revisions, to be watched.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revisions.clone()
    }
}

impl MapPublisher {
    /// Puts a map into use.
    pub fn publish(&self, map: ResolvedMap) {
        let revision = map.revision;
        // The map first: whoever is told of a revision finds it, or a later one.
        self.current.store(Arc::new(map));
        self.revisions.send_replace(revision);
    }
}
