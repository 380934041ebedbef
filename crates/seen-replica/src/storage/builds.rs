//! Builds: histories read by keyset pages, bounded in number and in their share of storage. A build
//! outlives the caller that caused it (row 9).

use std::sync::Arc;

use seen_api::trace::OUTCOME;
use seen_filter::build::Builder;
use seen_filter::history::PageRequest;
use seen_filter::{Item, NamespaceId, SnapshotId, StoreError, UserEpoch};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::{BuildJob, StorageLimits};
use crate::replica::Replica;
use crate::rules::{Input, Install, Origin, Outcome, Refusal};

/// Pause of a builder whose storage failed, so that a dead store is not hammered.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn serve(
    replica: Arc<Replica>,
    (mut urgent, mut background): (mpsc::Receiver<BuildJob>, mpsc::Receiver<BuildJob>),
    limits: StorageLimits,
) {
    let in_flight = Arc::new(Semaphore::new(limits.builds_in_flight_max.max(1)));
    let pause = Duration::from_secs(1) / limits.background_builds_per_s_max.max(1);
    let mut background_from = Instant::now();
    loop {
        let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else { return };
        let job = tokio::select! {
            biased;
            job = urgent.recv() => job,
            // Rebuilds of users that have an entry already can wait: expiry and removals come in
            // waves (row 54).
            job = after(background_from, background.recv()) => {
                background_from = Instant::now() + pause;
                job
            }
        };
        let Some(job) = job else { return };
        let replica = Arc::clone(&replica);
        tokio::spawn(async move {
            run(&replica, job, limits).await;
            drop(permit);
        });
    }
}

/// Waits for `moment`, then for `next`.
async fn after<T>(moment: Instant, next: impl Future<Output = T>) -> T {
    sleep_until(moment).await;
    next.await
}

/// What the pages came to.
struct Whole {
    builder: Builder,
    snapshot: SnapshotId,
    user_epoch: UserEpoch,
    rows: u64,
}

async fn run(replica: &Replica, job: BuildJob, limits: StorageLimits) {
    let span = job.cause.child("storage.build");
    let began = Instant::now();
    let metrics = &replica.metrics;
    match read_pages(replica, &job, limits).await {
        Ok(whole) => {
            metrics.rows_reread.increment(whole.rows);
            span.note("seen.rows", || whole.rows as i64);
            let state = whole.builder.finish();
            let install = Install {
                user: job.user,
                generation: job.generation,
                state,
                snapshot: whole.snapshot,
                user_epoch: whole.user_epoch,
                origin: Origin::Storage,
            };
            let input = Input::Install(install);
            match replica.step(job.namespace, replica.ticker.now(), input) {
                Outcome::Refused(refusal) => {
                    span.note(OUTCOME, || refusal.label());
                    refused(replica, &job, refusal);
                }
                _ => metrics.builds.increment(1),
            }
            metrics.build_seconds.record(began.elapsed().as_secs_f64());
        }
        Err(error) => {
            metrics.build_failures.increment(1);
            span.failed("failed", "storage could not be read");
            tracing::debug!(error = %error, "a build could not read storage");
            sleep(FAILURE_PAUSE).await;
            replica.build_failed(&job);
        }
    }
    replica.step(job.namespace, replica.ticker.now(), Input::Shed { entries_max: 1_024 });
}

fn refused(replica: &Replica, job: &BuildJob, refusal: Refusal) {
    replica.metrics.build_refusals(refusal);
    tracing::debug!(reason = refusal.label(), namespace = job.namespace, "an install was refused");
}

async fn read_pages(
    replica: &Replica,
    job: &BuildJob,
    limits: StorageLimits,
) -> Result<Whole, StoreError> {
    let rules = &replica.namespaces[job.namespace].rules;
    let mut builder = Builder::new(rules.key(), rules.sizing());
    let mut after: Option<Item> = None;
    let mut first: Option<(SnapshotId, UserEpoch)> = None;
    let mut rows = 0;
    loop {
        let request = PageRequest {
            namespace: NamespaceId::new(job.namespace as u16),
            user: job.user,
            after,
            rows_max: limits.page_rows_max,
        };
        let asked = Instant::now();
        let page = replica.history.page(request).await?;
        let busy = asked.elapsed();
        // The first page's snapshot is the lower bound of all: later pages see at least as much.
        let (snapshot, user_epoch) = *first.get_or_insert((page.snapshot, page.user_epoch));
        replica.step(job.namespace, replica.ticker.now(), Input::StorageClock(page.storage_now));
        rows += page.rows.len() as u64;
        for row in &page.rows {
            builder.push(row.item, row.marked_at, row.bucket);
        }
        after = page.rows.last().map(|row| row.item);
        if page.last || after.is_none() {
            return Ok(Whole { builder, snapshot, user_epoch, rows });
        }
        if !job.urgent {
            let share = limits.builds_share_percent.clamp(1, 100);
            sleep(busy * (100 - share) / share).await;
        }
    }
}
