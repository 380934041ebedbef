//! Writes: commit, insert, acknowledge (rule R4), in tasks that no caller can stop.

use std::sync::Arc;

use seen_cluster::sabotage::defends;
use seen_filter::history::{Write, WriteOp};
use seen_filter::{CommitStamp, Item, NamespaceId, StoreError, StoreErrorKind};
use tokio::sync::{Semaphore, mpsc, watch};

use super::{BEGUN, ForgetJob, JOBS, WriteJob, expired};
use crate::replica::Replica;
use crate::rules::{Claim, Input, Outcome, WriteId};

/// Most jobs of one call to storage.
const BATCH_JOBS_MAX: usize = 512;
/// Most rows of one call to storage; a job has at most 1,000, and a call may have 65,536.
const BATCH_ROWS_MAX: usize = 16_384;
/// Calls to storage at once: one in its commit, one gathering behind it.
const BATCHES_IN_FLIGHT_MAX: usize = 2;
/// Forgets at storage at once.
const FORGETS_IN_FLIGHT_MAX: usize = 1;

pub(super) async fn serve(
    replica: Arc<Replica>,
    mut jobs: mpsc::Receiver<WriteJob>,
    mut stop: watch::Receiver<bool>,
) {
    let in_flight = Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX));
    let mut taken = Vec::new();
    loop {
        let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else { return };
        tokio::select! {
            biased;
            // Of what was taken and did not fit the batch before, nothing is waited for.
            () = std::future::ready(()), if !taken.is_empty() => {}
            received = jobs.recv_many(&mut taken, BATCH_JOBS_MAX) => {
                if received == 0 {
                    break;
                }
            }
            _ = stop.wait_for(|stop| *stop) => {
                // What was accepted is finished; what comes later is refused.
                jobs.close();
                if jobs.is_empty() {
                    break;
                }
                continue;
            }
        }
        let batch = batch_of(&mut taken);
        let replica = Arc::clone(&replica);
        tokio::spawn(async move {
            commit(&replica, batch).await;
            drop(permit);
        });
    }
    let _ = in_flight.acquire_many(BATCHES_IN_FLIGHT_MAX as u32).await;
}

/// Takes the jobs that come first, as many as fit into one call to storage, and at least one.
fn batch_of(taken: &mut Vec<WriteJob>) -> Vec<WriteJob> {
    let mut rows = 0;
    let mut fits = |job: &WriteJob| {
        rows += job.items.len();
        rows <= BATCH_ROWS_MAX
    };
    let jobs = taken.iter().take_while(|job| fits(job)).count().max(1).min(taken.len());
    let rest = taken.split_off(jobs);
    std::mem::replace(taken, rest)
}

/// A job between its begin and its end.
struct Begun {
    job: WriteJob,
    id: WriteId,
    items: Vec<Item>,
}

async fn commit(replica: &Replica, jobs: Vec<WriteJob>) {
    let now = replica.ticker.now();
    let mut begun = Vec::with_capacity(jobs.len());
    let mut writes = Vec::with_capacity(jobs.len());
    for mut job in jobs {
        if job.deadline <= now && defends("replica.expired_write") {
            // Row 38: an attempt that its caller has given up must not land later.
            let _ = job.reply.send(Err(expired()));
            continue;
        }
        let items: Vec<Item> = job.items.iter().map(|(item, _)| *item).collect();
        let added: &[Item] = if job.op == WriteOp::Append { &items } else { &[] };
        let rules = &replica.namespaces[job.namespace].rules;
        let input = Input::BeginWrite { user: job.user, items: added };
        let (Outcome::Began(id), _) = rules.step(now, input) else { continue };
        writes.push(Write {
            namespace: NamespaceId::new(job.namespace as u16),
            user: job.user,
            op: job.op,
            items: std::mem::take(&mut job.items),
        });
        begun.push(Begun { job, id, items });
    }
    commit_all(replica, writes, begun).await;
}

/// Commits all of them together. What storage refuses for its content is the fault of one job, and must
/// not be that of all others: they are then committed one by one.
async fn commit_all(replica: &Replica, writes: Vec<Write>, begun: Vec<Begun>) {
    if begun.is_empty() {
        return;
    }
    for one in &begun {
        one.job.span.event(BEGUN);
        one.job.span.note(JOBS, || begun.len() as i64);
    }
    let each = if begun.len() > 1 { writes.clone() } else { Vec::new() };
    let result = replica.history.write(writes).await;
    let is_refused =
        result.as_ref().is_err_and(|error| error.kind == StoreErrorKind::InvalidRequest);
    if is_refused && !each.is_empty() {
        for (write, begun) in each.into_iter().zip(begun) {
            let result = replica.history.write(vec![write]).await;
            finish(replica, begun, &result);
        }
        return;
    }
    for begun in begun {
        finish(replica, begun, &result);
    }
}

fn finish(replica: &Replica, begun: Begun, result: &Result<Option<CommitStamp>, StoreError>) {
    let Begun { job, id, items } = begun;
    let now = replica.ticker.now();
    let done = Ok(None);
    let result = match result {
        Err(error) if !believed(error.kind) => &done,
        result => result,
    };
    let user = job.user;
    let items = items.as_slice();
    let input = match (result, job.op) {
        (Ok(stamp), WriteOp::Append) => Input::Committed { write: id, user, items, stamp: *stamp },
        (Ok(stamp), WriteOp::Remove) => Input::Removed { write: id, user, items, stamp: *stamp },
        (Err(error), op) if error.kind == StoreErrorKind::OutcomeUnknown => match op {
            // Row 11: it may have happened, so memory must hold it.
            WriteOp::Append => Input::Uncertain { write: id, user, items },
            WriteOp::Remove => Input::Removed { write: id, user, items, stamp: None },
        },
        (Err(error), _) => {
            replica.step(job.namespace, now, Input::Abandoned { write: id, user });
            let _ = job.reply.send(Err(error.clone()));
            return;
        }
    };
    let outcome = replica.step(job.namespace, now, input);
    let _ = job.reply.send(claim_of(outcome, result.as_ref().err()));
}

/// True unless a test has a failed commit acknowledged.
fn believed(kind: StoreErrorKind) -> bool {
    match kind {
        StoreErrorKind::OutcomeUnknown => defends("replica.unknown_write"),
        _ => defends("replica.failed_write"),
    }
}

fn claim_of(outcome: Outcome, error: Option<&StoreError>) -> Result<Claim, StoreError> {
    match (outcome, error) {
        (_, Some(error)) => Err(error.clone()),
        (Outcome::Acknowledged(claim), None) => Ok(claim),
        (other, None) => {
            debug_assert!(false, "a committed write ended as {other:?}");
            Err(StoreError::new(StoreErrorKind::OutcomeUnknown, "the write was not acknowledged"))
        }
    }
}

pub(super) async fn serve_forgets(
    replica: Arc<Replica>,
    mut jobs: mpsc::Receiver<ForgetJob>,
    mut stop: watch::Receiver<bool>,
) {
    let in_flight = Arc::new(Semaphore::new(FORGETS_IN_FLIGHT_MAX));
    loop {
        let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else { return };
        let job = tokio::select! {
            biased;
            job = jobs.recv() => job,
            _ = stop.wait_for(|stop| *stop) => {
                jobs.close();
                jobs.try_recv().ok()
            }
        };
        let Some(job) = job else { break };
        let replica = Arc::clone(&replica);
        tokio::spawn(async move {
            forget(&replica, job).await;
            drop(permit);
        });
    }
    let _ = in_flight.acquire_many(FORGETS_IN_FLIGHT_MAX as u32).await;
}

async fn forget(replica: &Replica, job: ForgetJob) {
    if job.deadline <= replica.ticker.now() {
        let _ = job.reply.send(Err(expired()));
        return;
    }
    let namespace = NamespaceId::new(job.namespace as u16);
    let result = replica.history.forget(namespace, job.user).await;
    let answer = match result {
        Ok(forgotten) => {
            let (epoch, stamp) = (forgotten.epoch, forgotten.stamp);
            let input = Input::Forgot { user: job.user, epoch, stamp };
            let outcome = replica.step(job.namespace, replica.ticker.now(), input);
            claim_of(outcome, None).map(|claim| (forgotten, claim))
        }
        Err(error) => Err(error),
    };
    let _ = job.reply.send(answer);
}
