//! What rings and journals hold at most, beside what they may hold.

use std::time::Duration;

use seen_client::Admin;
use serde::Serialize;
use tokio::task::JoinHandle;

use super::NAMESPACE;

/// How often is looked.
const INTERVAL: Duration = Duration::from_millis(100);

/// The most that one feed partition's ring and journal held, in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Held {
    pub ring_bytes: u64,
    pub ring_bytes_max: u64,
    pub journal_bytes: u64,
    pub journal_bytes_max: u64,
    /// Longest time since a partition last proved itself fresh, in milliseconds.
    pub unproven_ms: u64,
}

/// Looks at a replica until it is stopped.
pub struct Watch {
    end: tokio::sync::oneshot::Sender<()>,
    task: JoinHandle<Held>,
}

impl Watch {
    pub fn start(admin: &Admin) -> Self {
        let admin = admin.clone();
        let (end, mut ended) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut held = Held::default();
            while tokio::time::timeout(INTERVAL, &mut ended).await.is_err() {
                let Ok(status) = admin.status().await else { continue };
                for one in status.partitions.iter().filter(|one| one.namespace == NAMESPACE) {
                    held = held.or(Held {
                        ring_bytes: one.ring_bytes,
                        ring_bytes_max: one.ring_bytes_max,
                        journal_bytes: one.journal_bytes,
                        journal_bytes_max: one.journal_bytes_max,
                        unproven_ms: one.feed.and_then(|feed| feed.fresh_ms_ago).unwrap_or(0),
                    });
                }
            }
            held
        });
        Self { end, task }
    }

    pub async fn stop(self) -> Held {
        drop(self.end);
        self.task.await.expect("no panic")
    }
}

impl Held {
    /// The larger of each.
    pub fn or(self, other: Self) -> Self {
        Self {
            ring_bytes: self.ring_bytes.max(other.ring_bytes),
            ring_bytes_max: self.ring_bytes_max.max(other.ring_bytes_max),
            journal_bytes: self.journal_bytes.max(other.journal_bytes),
            journal_bytes_max: self.journal_bytes_max.max(other.journal_bytes_max),
            unproven_ms: self.unproven_ms.max(other.unproven_ms),
        }
    }
}
