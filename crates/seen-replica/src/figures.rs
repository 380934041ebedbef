//! The two live figures: a sample of "seen" answers verified in storage gives the real
//! false-positive rate; a sample of "unread" answers must find nothing (row 55). Verified behind the
//! caller's back, and skipped whenever the queue has no room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use seen_filter::history::Answers;
use seen_filter::{Item, Question, StoreError, Tick, UserId};
use tokio::sync::oneshot;

use crate::replica::Replica;
use crate::rules::{Input, Outcome};
use crate::storage::CheckJob;

/// A sample older than this is not worth asking, in microseconds.
const SAMPLE_AGE_US_MAX: u64 = 1_000_000;
/// How long a row that memory lacks may be on its way, in microseconds. So many seconds' samples wait at
/// most.
const SUSPECT_AGE_US_MAX: u64 = 60_000_000;
/// How far the feed must have proved itself beyond the moment when storage had the row, in microseconds.
const SUSPECT_MARGIN_US: u64 = 1_000_000;
/// How often it is looked whether it has come.
const SUSPECT_LOOK: Duration = Duration::from_millis(200);

/// How many answers are verified.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleLimits {
    /// Share of Filter answers of which one "seen" is verified, 0 to 1.
    pub seen_share: f64,
    /// Share of Filter answers of which one "unread" is verified, 0 to 1.
    pub unread_share: f64,
    /// Verifications begun in a second, both kinds together.
    pub checks_per_s_max: u32,
}

impl Default for SampleLimits {
    fn default() -> Self {
        Self { seen_share: 0.01, unread_share: 0.001, checks_per_s_max: 50 }
    }
}

/// Decides which answers are verified.
pub(crate) struct Figures {
    /// Of 2^32.
    seen_share: u64,
    unread_share: u64,
    checks_per_s_max: u64,
    state: AtomicU64,
    /// The second that `begun` counts for.
    second: AtomicU64,
    begun: AtomicU64,
}

impl Figures {
    pub fn new(limits: SampleLimits, seed: u64) -> Self {
        let of_2_32 = |share: f64| (share.clamp(0.0, 1.0) * 4_294_967_296.0) as u64;
        Self {
            seen_share: of_2_32(limits.seen_share),
            unread_share: of_2_32(limits.unread_share),
            checks_per_s_max: u64::from(limits.checks_per_s_max),
            state: AtomicU64::new(seed),
            second: AtomicU64::new(0),
            begun: AtomicU64::new(0),
        }
    }

    /// Whether a "seen" and an "unread" of this answer are to be verified: drawn so that no caller
    /// meets a pattern, and at most so many in a second.
    pub fn due(&self, now: Tick) -> (bool, bool) {
        // A Weyl sequence spread by a multiply: cheap, and shared without a lock.
        let at = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let spread = (at ^ (at >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let seen = (spread >> 32) < self.seen_share;
        let unread = (spread & 0xffff_ffff) < self.unread_share;
        if !(seen || unread) {
            return (false, false);
        }
        let second = now.get() / 1_000_000;
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.begun.store(0, Ordering::Relaxed);
        }
        let within = self.begun.fetch_add(1, Ordering::Relaxed) < self.checks_per_s_max;
        (seen && within, unread && within)
    }
}

impl Replica {
    /// Has storage asked about one item that was answered "seen" and one that was answered "unread".
    pub(crate) fn verify(
        self: &Arc<Self>,
        namespace: usize,
        user: UserId,
        seen: Option<Item>,
        unseen: Option<Item>,
    ) {
        let items: Vec<Item> = seen.into_iter().chain(unseen).collect();
        if items.is_empty() {
            return;
        }
        let Some(answer) = self.look_up(namespace, user, items) else { return };
        let replica = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(Ok(answers)) = answer.await
                && let Some(found) = answers.found.first()
                && let Some(missed) = replica.verified(namespace, seen, unseen, found)
            {
                replica.judge(namespace, user, missed).await;
            }
        });
    }

    /// Asks storage. `None` where it has too much to do.
    fn look_up(
        &self,
        namespace: usize,
        user: UserId,
        items: Vec<Item>,
    ) -> Option<oneshot::Receiver<Result<Answers, StoreError>>> {
        let (reply, answer) = oneshot::channel();
        let deadline = self.ticker.now().plus_us(SAMPLE_AGE_US_MAX);
        let questions = vec![Question { user, items }];
        let span = Default::default();
        let job = CheckJob { namespace, questions, may_be_late: false, deadline, span, reply };
        let queued = self.queues.checks.try_send(self.shard_of(namespace, user), job);
        queued.is_ok().then_some(answer)
    }

    /// Counts what was verified. The item that was answered "unread" and that storage has, if so.
    fn verified(
        &self,
        namespace: usize,
        seen: Option<Item>,
        unseen: Option<Item>,
        found: &[bool],
    ) -> Option<Item> {
        let metrics = &self.namespaces[namespace].metrics;
        let mut found = found.iter().copied();
        if seen.is_some() {
            metrics.seen_samples.increment(1);
            metrics.false_positives.increment(u64::from(found.next() == Some(false)));
        }
        let item = unseen?;
        metrics.unseen_samples.increment(1);
        // Where the newest N are kept, storage may hold rows that the entry rightly left out.
        let by_count = self.namespaces[namespace].rules.settings().namespace.newest_max.is_some();
        (found.next() == Some(true) && !by_count).then_some(item)
    }

    /// Storage has an item that was answered "unread": a false negative, unless the feed brings it. A feed
    /// that proves nothing for long leaves that open; its users are asked in storage anyway (rule R5).
    async fn judge(&self, namespace: usize, user: UserId, item: Item) {
        // A batch that is applied now may be of a look at the source that was before.
        let at = self.ticker.now().plus_us(SUSPECT_MARGIN_US);
        let until = at.plus_us(SUSPECT_AGE_US_MAX);
        loop {
            let now = self.ticker.now();
            let input = Input::VerifiedUnread { user, item, found: true, at };
            match self.step(namespace, now, input) {
                Outcome::OnItsWay if now < until => tokio::time::sleep(SUSPECT_LOOK).await,
                Outcome::FalseNegative => break,
                _ => return,
            }
        }
        // The feed may have brought the row, and that it was removed.
        let Some(answer) = self.look_up(namespace, user, vec![item]) else { return };
        let still = answer.await.ok().and_then(Result::ok);
        if still.and_then(|answers| Some(*answers.found.first()?.first()?)) != Some(true) {
            return;
        }
        self.namespaces[namespace].metrics.false_negatives.increment(1);
        let name = &self.namespaces[namespace].name;
        tracing::error!(
            namespace = name,
            "false negative: storage has a row that was answered unread; its writer may bypass \
             the change feed; the user is asked in storage until rebuilt"
        );
    }

    /// The measured false-positive rate: of all unread candidates, the share that was called seen.
    /// `None` before the first sample.
    pub(crate) fn measured_rate(&self, namespace: usize) -> Option<f64> {
        let metrics = &self.namespaces[namespace].metrics;
        let samples = metrics.seen_samples.total();
        if samples == 0 {
            return None;
        }
        let wrong_share = metrics.false_positives.total() as f64 / samples as f64;
        let seen = metrics.seen.total() as f64;
        let unseen = metrics.checks.total() as f64 - seen;
        let wrong = seen * wrong_share;
        Some(if wrong + unseen > 0.0 { wrong / (wrong + unseen) } else { 0.0 })
    }
}
