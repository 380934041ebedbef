//! Point checks: what is queued together is asked together.

use std::sync::Arc;

use futures_util::future::join_all;
use seen_filter::history::Answers;
use seen_filter::{NamespaceId, Question, StoreError};
use tokio::sync::{Semaphore, mpsc};

use super::{BEGUN, CheckJob, JOBS, StorageLimits, expired};
use crate::replica::Replica;

/// Most jobs of one round at storage.
const ROUND_JOBS_MAX: usize = 64;
/// Most items of one round at storage; one job alone may hold more.
const ROUND_ITEMS_MAX: usize = 20_000;

pub(super) async fn serve(
    replica: Arc<Replica>,
    mut jobs: mpsc::Receiver<CheckJob>,
    limits: StorageLimits,
) {
    let in_flight = Arc::new(Semaphore::new(limits.checks_in_flight_max.max(1)));
    let mut taken = Vec::new();
    loop {
        // The permit comes first: while all are out, jobs gather into one round.
        let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else { return };
        if jobs.recv_many(&mut taken, ROUND_JOBS_MAX).await == 0 {
            return;
        }
        let rounds = rounds(&replica, std::mem::take(&mut taken));
        let replica = Arc::clone(&replica);
        tokio::spawn(async move {
            join_all(rounds.into_iter().map(|round| ask(&replica, round))).await;
            drop(permit);
        });
    }
}

/// Jobs that are asked together: of one namespace, bounded in items, and either all of them may be
/// answered late or none.
struct Round {
    namespace: usize,
    may_be_late: bool,
    items: usize,
    jobs: Vec<CheckJob>,
}

/// Groups jobs by what they ask; expired ones are answered here (row 36).
fn rounds(replica: &Replica, jobs: Vec<CheckJob>) -> Vec<Vec<CheckJob>> {
    let now = replica.ticker.now();
    let mut rounds: Vec<Round> = Vec::new();
    for job in jobs {
        if job.deadline <= now {
            // The caller may be gone; then there is nobody to tell.
            let _ = job.reply.send(Err(expired()));
            continue;
        }
        let items: usize = job.questions.iter().map(|question| question.items.len()).sum();
        let (namespace, may_be_late) = (job.namespace, job.may_be_late);
        let fits = |round: &&mut Round| {
            round.namespace == namespace
                && round.may_be_late == may_be_late
                && round.items + items <= ROUND_ITEMS_MAX
        };
        match rounds.iter_mut().find(fits) {
            Some(round) => {
                round.items += items;
                round.jobs.push(job);
            }
            None => rounds.push(Round { namespace, may_be_late, items, jobs: vec![job] }),
        }
    }
    rounds.into_iter().map(|round| round.jobs).collect()
}

async fn ask(replica: &Replica, mut round: Vec<CheckJob>) {
    let Some(first) = round.first() else { return };
    let namespace = NamespaceId::new(first.namespace as u16);
    let may_be_late = first.may_be_late;
    let mut questions: Vec<Question> = Vec::new();
    let mut counts = Vec::with_capacity(round.len());
    let jobs = round.len();
    for job in &mut round {
        job.span.event(BEGUN);
        job.span.note(JOBS, || jobs as i64);
        counts.push(job.questions.len());
        questions.append(&mut job.questions);
    }
    let result = match may_be_late {
        true => replica.history.check_late(namespace, questions).await,
        false => replica.history.check(namespace, questions).await,
    };
    let mut answers = split(result, &counts);
    for job in round.into_iter().rev() {
        let answer = answers.pop().unwrap_or_else(|| Err(expired()));
        let _ = job.reply.send(answer);
    }
}

fn split(
    result: Result<Answers, StoreError>,
    counts: &[usize],
) -> Vec<Result<Answers, StoreError>> {
    match result {
        Err(error) => counts.iter().map(|_| Err(error.clone())).collect(),
        Ok(answers) => {
            let snapshot = answers.snapshot;
            let mut found = answers.found.into_iter();
            let part = |count: &usize| {
                Ok(Answers { found: found.by_ref().take(*count).collect(), snapshot })
            };
            counts.iter().map(part).collect()
        }
    }
}
