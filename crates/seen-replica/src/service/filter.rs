//! Filter: answered from memory in one go, or by a point check within the deadline, or flagged.

use std::sync::Arc;

use bytes::Bytes;
use seen_api::Span;
use seen_cluster::sabotage::defends;
use seen_filter::history::{Answers, Question};
use seen_filter::packed::PackedIds;
use seen_filter::verdicts::Verdicts;
use seen_filter::{
    FeedId, Incarnation, Item, ItemId, Kind, SnapshotId, StoreError, StoreErrorKind, Tick, UserId,
};
use seen_proto::model::{OnUnknown, Quality};
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1::DegradedReason;
use seen_proto::wire::{FilterCall, encode_filter_response};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::traced::{checking, describe, ended};
use super::{Handled, joint_rate, sound};
use crate::metrics::Call;
use crate::replica::Replica;
use crate::rules::{Candidates, Checked, Claim, Doubt, Input, Outcome, Read, ReadAnswer};
use crate::storage::{CheckJob, queue_error};

impl Candidates for FilterCall<'_> {
    fn visit(&self, each: &mut dyn FnMut(Kind, PackedIds<'_>)) {
        for segment in self.segments() {
            each(segment.kind, segment.ids);
        }
    }
}

/// What a Filter's answer rests on: the attribute of a span.
const PATH: &str = "seen.path";

/// How a Filter is to be answered, where it did not come the ordinary way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadMode {
    /// The caller's own replicas do not answer: no build is begun, and no hit is counted, so that nothing is kept here for a user of
    /// somebody else's (coherence row 34).
    pub emergency: bool,
    /// The user was with another replica until lately and may bring no token.
    pub moved: Option<Moved>,
}

/// What a user who was moved brings instead of a token: whatever was acknowledged before the move, as one claim that only an
/// own later fence or a point check satisfies (rule R9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Who moved the user: a proxy's life.
    pub incarnation: Incarnation,
    /// The number of the move at that proxy, rising.
    pub seq: u64,
}

impl Moved {
    /// As what it counts among a token's claims.
    pub(crate) fn claim(self) -> Claim {
        let feed = FeedId::default();
        Claim { feed, writer: self.incarnation, seq: self.seq, stamp: None, wildcard: true }
    }
}

/// What one namespace left open.
struct Open {
    namespace: usize,
    /// Positions asked, ascending; `items` are theirs.
    ask: Verdicts,
    items: Vec<Item>,
    doubt: Doubt,
    /// See [`ReadAnswer::late_from`].
    late_from: Option<Tick>,
}

/// An answer that waits for storage.
struct Waiting {
    user: UserId,
    candidates: usize,
    seen: Verdicts,
    rate: f64,
    on_unknown: OnUnknown,
    open: SmallVec<[Open; 1]>,
    began: Tick,
}

impl Replica {
    /// Answers a Filter in this mode, for a call with this span. The reply's bytes are appended to `out` where memory alone
    /// can answer.
    ///
    /// # Errors
    /// [`ApiError`]: unknown namespace, a token that is none, a deadline already past.
    pub fn filter_in(
        self: &Arc<Self>,
        mode: ReadMode,
        call: &FilterCall<'_>,
        deadline: Tick,
        span: &Span,
        out: &mut Vec<u8>,
    ) -> Result<Handled, ApiError> {
        describe(span, mode, call);
        let now = self.ticker.now();
        if deadline <= now {
            // Row 36: nobody waits for this any more.
            let what = "the deadline had passed before the call was begun";
            return Err(ApiError::new(ErrorKind::DeadlineExceeded, what));
        }
        let namespaces = self.resolve(call)?;
        let mut claims = self.claims(call.token)?;
        claims.extend(mode.moved.map(Moved::claim));
        let build = !mode.emergency && self.owns(call.user);
        let mut waiting = self.ask_memory(now, call, &namespaces, (&claims, build), span);
        if waiting.open.is_empty() {
            span.note(PATH, || "memory");
            self.metrics.hits.increment(1);
            let quality = sound(waiting.rate);
            encode_filter_response(out, &waiting.unseen(), &quality, &[]);
            self.count(&waiting, &namespaces, &quality);
            self.sample(now, call, &waiting, &namespaces);
            return Ok(Handled::Written);
        }
        self.metrics.misses.increment(1);
        span.note(PATH, || "storage");
        waiting.collect_items(call);
        let answer_by = self.answer_by(now, deadline);
        let (replica, span) = (Arc::clone(self), span.clone());
        Ok(Handled::Pending(Box::pin(async move {
            Ok(replica.ask_storage(waiting, namespaces, answer_by, span).await)
        })))
    }

    fn resolve(&self, call: &FilterCall<'_>) -> Result<SmallVec<[usize; 2]>, ApiError> {
        let mut namespaces = SmallVec::new();
        for name in call.namespaces.as_slice() {
            let at = self.namespace_index(name).ok_or_else(|| ApiError::unknown_namespace(name))?;
            if !namespaces.contains(&at) {
                namespaces.push(at);
            }
        }
        Ok(namespaces)
    }

    /// Reads every namespace's bits; what is seen in one need not be asked in another.
    fn ask_memory(
        &self,
        now: Tick,
        call: &FilterCall<'_>,
        namespaces: &[usize],
        (claims, build): (&[Claim], bool),
        span: &Span,
    ) -> Waiting {
        let mut waiting = Waiting {
            user: call.user,
            candidates: call.candidates,
            seen: Verdicts::new(),
            rate: 0.0,
            on_unknown: call.on_unknown,
            open: SmallVec::new(),
            began: now,
        };
        let mut rates: SmallVec<[f64; 2]> = SmallVec::new();
        for &namespace in namespaces {
            let (user, confirm) = (call.user, call.confirm);
            let read = Read { user, claims, candidates: call, confirm, build };
            let outcome = self.step_for(span, namespace, now, Input::Read(read));
            let Outcome::Answer(answer) = outcome else { continue };
            let ReadAnswer { seen, ask, doubt, exact, rate, late_from, .. } = answer;
            waiting.seen.or_with(&seen);
            let all_asked = ask.count() == answer.candidates && answer.candidates > 0;
            // Where storage decides about every "seen", no filter's error is left.
            if !exact && !all_asked && !call.confirm {
                rates.push(rate);
            }
            if let Some(doubt) = doubt
                && !ask.is_empty()
            {
                waiting.open.push(Open { namespace, ask, items: Vec::new(), doubt, late_from });
            }
        }
        waiting.rate = joint_rate(rates.into_iter());
        let seen = waiting.seen;
        for open in &mut waiting.open {
            open.ask = open.ask.without(&seen);
        }
        waiting.open.retain(|open| !open.ask.is_empty());
        waiting
    }

    async fn ask_storage(
        &self,
        mut waiting: Waiting,
        namespaces: SmallVec<[usize; 2]>,
        answer_by: Tick,
        span: Span,
    ) -> Bytes {
        let mut degraded: Option<DegradedReason> = None;
        let mut unknown = Verdicts::new();
        let mut replies = SmallVec::<[_; 1]>::new();
        let open = std::mem::take(&mut waiting.open);
        for open in &open {
            let asks = checking(&span, Some(open.doubt), open.items.len());
            let reply = self.send_check(open, waiting.user, answer_by, asks.clone());
            replies.push((asks, reply));
        }
        for (open, (asks, reply)) in open.iter().zip(replies) {
            let result = match reply {
                Ok(reply) => self.within(answer_by, reply).await,
                Err(error) => Err(error),
            };
            let reason = match &result {
                Err(error) if defends("replica.flag") => Some(reason_of(error, open.doubt)),
                _ => None,
            };
            ended(&asks, result.as_ref().err());
            let (seen, contested) = self.decide(open, &waiting, result.as_ref().ok());
            waiting.seen.or_with(&seen);
            if reason.is_some() {
                unknown.or_with(&open.ask.without(&seen));
            }
            let contested = contested.then_some(DegradedReason::Contested);
            degraded = worse(worse(degraded, reason), contested);
        }
        // What another namespace has meanwhile called seen is not unknown.
        let unknown = unknown.without(&waiting.seen);
        if waiting.on_unknown == OnUnknown::Hide {
            waiting.seen.or_with(&unknown);
        }
        let quality = match degraded {
            None => sound(waiting.rate),
            Some(reason) => {
                Quality::Degraded { rate: waiting.rate, reason, unknown: unknown.count() as u32 }
            }
        };
        if let Some(reason) = degraded {
            span.note("seen.degraded", || reason.as_str_name());
        }
        let mut out = Vec::new();
        encode_filter_response(&mut out, &waiting.unseen(), &quality, &[]);
        self.count(&waiting, &namespaces, &quality);
        Bytes::from(out)
    }

    fn send_check(
        &self,
        open: &Open,
        user: UserId,
        deadline: Tick,
        span: Span,
    ) -> Result<oneshot::Receiver<Result<Answers, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let questions = vec![Question { user, items: open.items.clone() }];
        let (namespace, may_be_late) = (open.namespace, open.late_from.is_some());
        let job = CheckJob { namespace, questions, may_be_late, deadline, span, reply };
        match self.queues.checks.try_send(self.shard_of(open.namespace, user), job) {
            Ok(()) => Ok(answer),
            Err(error) => Err(queue_error(&error, "point checks")),
        }
    }

    /// Ors storage's answer, or nothing, with what memory holds beside it (rule R5).
    fn decide(
        &self,
        open: &Open,
        waiting: &Waiting,
        answers: Option<&Answers>,
    ) -> (Verdicts, bool) {
        let nothing = vec![false; open.items.len()];
        let found = answers.and_then(|answers| answers.found.first()).unwrap_or(&nothing);
        let unknown = SnapshotId { primary: Default::default(), lower_bound: None };
        let snapshot = answers.map_or(unknown, |answers| answers.snapshot);
        let (user, asked) = (waiting.user, waiting.began);
        let checked = Checked { user, items: &open.items, found, snapshot, asked };
        let now = self.ticker.now();
        let outcome = self.step(open.namespace, now, checked.answering(open.late_from));
        let Outcome::Decided { seen: by_index, contested } = outcome else {
            return (Verdicts::new(), true);
        };
        let mut seen = Verdicts::new();
        for (index, position) in open.ask.ones().enumerate() {
            if by_index.get(index) {
                seen.set(position);
            }
        }
        (seen, contested && answers.is_some())
    }

    fn count(&self, waiting: &Waiting, namespaces: &[usize], quality: &Quality) {
        let us = self.ticker.now().since_us(waiting.began);
        self.metrics.answered(Call::Filter, us);
        self.metrics.quality(quality);
        for namespace in namespaces {
            let metrics = &self.namespaces[*namespace].metrics;
            metrics.checks.increment(waiting.candidates as u64);
            metrics.seen.increment(waiting.seen.count() as u64);
        }
    }

    /// Hands one seen and one unseen candidate to the live figures. Of several namespaces it is not
    /// told which one called the item seen, so that only single ones are sampled.
    fn sample(
        self: &Arc<Self>,
        now: Tick,
        call: &FilterCall<'_>,
        waiting: &Waiting,
        namespaces: &[usize],
    ) {
        let (want_seen, want_unread) = self.figures.due(now);
        let [namespace] = namespaces else { return };
        if !(want_seen || want_unread) {
            return;
        }
        let pick = |position: Option<usize>| position.and_then(|at| item_at(call, at));
        let seen = pick(waiting.seen.ones().next().filter(|_| want_seen));
        let unread = waiting.seen.zeros(waiting.candidates).next();
        let unread = pick(unread.filter(|_| want_unread));
        self.verify(*namespace, call.user, seen, unread);
    }
}

impl Waiting {
    /// What the answer names, once all is known.
    fn unseen(&self) -> Verdicts {
        Verdicts::first(self.candidates).without(&self.seen)
    }

    fn collect_items(&mut self, call: &FilterCall<'_>) {
        for open in &mut self.open {
            let mut at = 0;
            open.items.reserve_exact(open.ask.count());
            call.visit(&mut |kind, ids| {
                for id in ids.iter() {
                    if open.ask.get(at) {
                        open.items.push(Item { kind, id: ItemId::new(id) });
                    }
                    at += 1;
                }
            });
        }
    }
}

fn item_at(call: &FilterCall<'_>, position: usize) -> Option<Item> {
    let mut first = 0;
    let mut item = None;
    call.visit(&mut |kind, ids| {
        if let Some(id) = position.checked_sub(first).and_then(|at| ids.get(at)) {
            item.get_or_insert(Item { kind, id: ItemId::new(id) });
        }
        first += ids.len();
    });
    item
}

/// Why an answer is degraded, given that storage could not be asked.
pub(super) fn reason_of(error: &StoreError, doubt: Doubt) -> DegradedReason {
    match (error.kind, doubt) {
        (StoreErrorKind::Expired, _) => DegradedReason::Deadline,
        (StoreErrorKind::Overloaded, _) => DegradedReason::Overloaded,
        _ => DegradedReason::StorageUnavailable,
    }
}

/// The reason to send of two: the first of the .proto's list.
pub(super) fn worse(
    a: Option<DegradedReason>,
    b: Option<DegradedReason>,
) -> Option<DegradedReason> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if (a as i32) <= (b as i32) { a } else { b }),
        (a, b) => a.or(b),
    }
}
