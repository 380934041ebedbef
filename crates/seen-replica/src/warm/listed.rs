//! Warming from storage, for users that somebody names: those of a list, or those that no peer could give. At a limited rate,
//! behind whatever callers wait for.

use std::sync::Arc;

use seen_filter::UserId;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use crate::replica::Replica;
use crate::rules::{Input, Outcome};
use crate::storage::BuildJob;

/// Pause while the queue of builds is full.
const FULL_PAUSE: Duration = Duration::from_millis(50);

/// What became of the users of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Builds begun.
    pub begun: u64,
    /// In memory before, or being built.
    pub held: u64,
    /// Of other replicas, or of a feed that is not followed.
    pub not_owned: u64,
}

/// Has the entries of these users built from storage, at most `per_s` a second; they are background work there, and share its
/// limits. Returns when the last build is begun; `None` where no namespace has this name.
pub async fn build_listed(
    replica: &Arc<Replica>,
    namespace: &str,
    users: impl IntoIterator<Item = UserId>,
    per_s: u32,
) -> Option<Listed> {
    let at = replica.namespace_index(namespace)?;
    let pause = Duration::from_secs(1) / per_s.max(1);
    let mut listed = Listed::default();
    let mut next = Instant::now();
    for user in users {
        if !replica.owns(user) {
            listed.not_owned += 1;
            continue;
        }
        let rules = &replica.namespaces[at].rules;
        if rules.holds(user) {
            listed.held += 1;
            continue;
        }
        sleep_until(next).await;
        next = next.max(Instant::now()) + pause;
        // Entered as a transfer is: the same as a build that a reader causes, but for its urgency.
        match replica.step(at, replica.ticker.now(), Input::BeginTransfer { user }) {
            Outcome::Building(generation) => {
                let cause = Default::default();
                let job = BuildJob { namespace: at, user, generation, urgent: false, cause };
                Entered { replica, job: Some(job) }.queue().await;
                listed.begun += 1;
            }
            Outcome::Refused(crate::rules::Refusal::NotFollowed) => listed.not_owned += 1,
            _ => listed.held += 1,
        }
    }
    Some(listed)
}

/// A build that is entered and not queued. Dropped, it is given up: the user must not stay in Building.
struct Entered<'a> {
    replica: &'a Replica,
    job: Option<BuildJob>,
}

impl Entered<'_> {
    async fn queue(mut self) {
        while let Some(job) = self.job.take() {
            let shard = self.replica.shard_of(job.namespace, job.user);
            if let Err(refused) = self.replica.queues.background_builds.try_send(shard, job) {
                self.job = Some(refused.into_inner());
                sleep(FULL_PAUSE).await;
            }
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(job) = &self.job {
            self.replica.build_failed(job);
        }
    }
}
