//! Listings: pages of a history for people, a few at a time, behind everything else.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::{ListJob, ListRequest, expired};
use crate::replica::Replica;

/// Listings at storage at once.
const IN_FLIGHT_MAX: usize = 2;

pub(super) async fn serve(replica: Arc<Replica>, mut jobs: mpsc::Receiver<ListJob>) {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    loop {
        let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else { return };
        let Some(job) = jobs.recv().await else { return };
        let replica = Arc::clone(&replica);
        tokio::spawn(async move {
            let result = if job.deadline <= replica.ticker.now() {
                Err(expired())
            } else {
                match job.request {
                    ListRequest::Key(request) => replica.history.page(request).await,
                    ListRequest::Recent(request) => replica.history.recent(request).await,
                }
            };
            // Whoever asked may be gone.
            let _ = job.reply.send(result);
            drop(permit);
        });
    }
}
