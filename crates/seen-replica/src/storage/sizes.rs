//! What the namespaces take in storage, for Status: looked at when somebody asks, and not often.

use std::sync::Arc;

use seen_filter::NamespaceId;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use super::SizesJob;
use crate::replica::Replica;

/// How long what was found is good enough.
const FRESH: Duration = Duration::from_secs(10);
/// Questions answered by one look.
const TAKEN_MAX: usize = 64;

pub(super) async fn serve(replica: Arc<Replica>, mut jobs: mpsc::Receiver<SizesJob>) {
    let mut found: Option<Instant> = None;
    let mut taken = Vec::new();
    while jobs.recv_many(&mut taken, TAKEN_MAX).await > 0 {
        if found.is_none_or(|at| at.elapsed() >= FRESH) {
            look(&replica).await;
            // Also after an error: a store in trouble is not asked more often.
            found = Some(Instant::now());
        }
        for job in taken.drain(..) {
            // Whoever asked may be gone.
            let _ = job.send(());
        }
    }
}

async fn look(replica: &Replica) {
    for (namespace, at) in replica.namespaces.iter().zip(0_u16..) {
        match replica.history.size(NamespaceId::new(at)).await {
            Ok(size) => *namespace.size.lock() = Some(size),
            Err(error) => {
                tracing::warn!(namespace = namespace.name, %error, "its size is not known");
            }
        }
    }
}
