//! FilterUsers: a few items against many users. Users in memory are answered from there; all others
//! share one storage round, which builds nothing and keeps nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use seen_api::Span;
use seen_api::trace::NAMESPACE;
use seen_filter::history::{Answers, Question};
use seen_filter::packed::PackedIds;
use seen_filter::verdicts::Verdicts;
use seen_filter::{Item, Kind, Shard, StoreError, Tick, UserId};
use seen_proto::model::{OnUnknown, PushCall, PushRows, Quality};
use seen_proto::status::ApiError;
use seen_proto::v1::{self, DegradedReason, UserAnswer};
use tokio::sync::oneshot;

use super::filter::Moved;
use super::filter::{reason_of, worse};
use super::traced::{ITEMS, checking, ended};
use super::{joint_rate, sound};
use crate::metrics::Call;
use crate::replica::Replica;
use crate::rules::{Candidates, Checked, Claim, Doubt, Input, Outcome, Read};
use crate::storage::{CheckJob, queue_error};

/// Users answered from memory before other work of the thread gets its turn.
const USERS_PER_TURN: usize = 256;
/// Items of one question round; a message's round is cut into jobs of at most this many.
const JOB_ITEMS_MAX: usize = 20_000;

/// The message's items, laid out as the walker would hand them out.
struct Items {
    groups: Vec<(Kind, Vec<u8>)>,
}

impl Items {
    fn new(items: &[Item]) -> Self {
        let mut groups: Vec<(Kind, Vec<u8>)> = Vec::new();
        for item in items {
            let bytes = item.id.get().to_le_bytes();
            match groups.last_mut() {
                Some((kind, ids)) if *kind == item.kind => ids.extend(bytes),
                _ => groups.push((item.kind, bytes.to_vec())),
            }
        }
        Self { groups }
    }
}

impl Candidates for Items {
    fn visit(&self, each: &mut dyn FnMut(Kind, PackedIds<'_>)) {
        for (kind, bytes) in &self.groups {
            if let Ok(ids) = PackedIds::new(bytes) {
                each(*kind, ids);
            }
        }
    }
}

/// One user's answer while it is put together.
#[derive(Clone, Copy)]
struct Row {
    seen: Verdicts,
    /// Positions that storage must still decide, of any namespace.
    open: Verdicts,
    filtered: bool,
    degraded: bool,
}

/// One question to storage, and whose row it belongs to.
struct Asked {
    row: usize,
    ask: Verdicts,
    question: Question,
    doubt: Doubt,
    late_from: Option<Tick>,
    /// When it was asked for.
    began: Tick,
}

/// Some questions sent, and their answer to come.
struct Sent {
    asked: Vec<Asked>,
    reply: Result<oneshot::Receiver<Result<Answers, StoreError>>, StoreError>,
    waits: Span,
}

impl Replica {
    /// Answers one message of FilterUsers for a call with this span, in part where the time does not suffice.
    ///
    /// # Errors
    /// [`ApiError`]: unknown namespace, or a token that is none.
    pub async fn filter_users(
        self: &Arc<Self>,
        call: PushCall,
        moved: Option<Moved>,
        span: &Span,
    ) -> Result<v1::FilterUsersResult, ApiError> {
        let began = self.ticker.now();
        let deadline = began.plus_us(u64::from(call.timeout_ms) * 1_000);
        let answer_by = self.answer_by(began, deadline);
        let mut claims = self.claims(&call.token)?;
        claims.extend(moved.map(Moved::claim));
        span.note(NAMESPACE, || call.namespaces.join(","));
        span.note(ITEMS, || call.items.len() as i64);
        span.note("seen.users", || call.users.len() as i64);
        let mut namespaces = Vec::new();
        for name in &call.namespaces {
            let at = self.named(name)?;
            if !namespaces.contains(&at) {
                namespaces.push(at);
            }
        }
        let items = Items::new(&call.items);
        let fresh =
            Row { seen: Verdicts::new(), open: Verdicts::new(), filtered: false, degraded: false };
        let mut rows = vec![fresh; call.users.len()];
        let mut reason = None;
        let mut reached = call.users.len();
        for namespace in &namespaces {
            let sent = self
                .ask_memory_about(*namespace, &call, &items, &claims, (&mut rows, &mut reached))
                .await;
            let sent = self.send(*namespace, sent, answer_by, span);
            let failed = self.settle(*namespace, sent, &mut rows, answer_by).await;
            reason = worse(reason, failed);
        }
        if reached < rows.len() {
            reason = worse(reason, Some(DegradedReason::Deadline));
        }
        self.metrics.answered(Call::FilterUsers, self.ticker.now().since_us(began));
        Ok(self.put_together(&call, &namespaces, &rows[..reached], reason))
    }

    /// Reads the bits of every user, in turns, until the time is up; returns what storage must be
    /// asked.
    async fn ask_memory_about(
        &self,
        namespace: usize,
        call: &PushCall,
        items: &Items,
        claims: &[Claim],
        (rows, reached): (&mut [Row], &mut usize),
    ) -> Vec<Asked> {
        let mut asked = Vec::new();
        let deadline_us = u64::from(call.timeout_ms) * 1_000;
        let began = self.ticker.now();
        for (at, user) in call.users.iter().enumerate().take(*reached) {
            if at % USERS_PER_TURN == USERS_PER_TURN - 1 {
                tokio::task::yield_now().await;
                if self.ticker.now().since_us(began) > deadline_us / 2 {
                    *reached = at;
                    break;
                }
            }
            let read =
                Read { user: *user, claims, candidates: items, confirm: false, build: false };
            let now = self.ticker.now();
            let Outcome::Answer(answer) = self.step(namespace, now, Input::Read(read)) else {
                continue;
            };
            let row = &mut rows[at];
            row.seen.or_with(&answer.seen);
            let all_asked = answer.ask.count() == answer.candidates;
            row.filtered |= !answer.exact && !all_asked;
            let ask = answer.ask.without(&row.seen);
            if let Some(doubt) = answer.doubt
                && !ask.is_empty()
            {
                row.open.or_with(&ask);
                let items = ask.ones().filter_map(|at| call.items.get(at).copied()).collect();
                let question = Question { user: *user, items };
                let late_from = answer.late_from;
                asked.push(Asked { row: at, ask, question, doubt, late_from, began: now });
            }
        }
        asked
    }

    /// Puts all questions into their shards' queues, cut into jobs of bounded size. Those that may be
    /// answered late have jobs of their own.
    fn send(&self, namespace: usize, asked: Vec<Asked>, deadline: Tick, span: &Span) -> Vec<Sent> {
        let mut jobs: Vec<((Shard, bool), Vec<Asked>)> = Vec::new();
        // Of each shard and kind the job that is being filled, and the items that it holds.
        let mut filling: BTreeMap<(Shard, bool), (usize, usize)> = BTreeMap::new();
        for one in asked {
            let shard = self.shard_of(namespace, one.question.user);
            let kind = (shard, one.late_from.is_some());
            let items = one.question.items.len();
            match filling.get_mut(&kind) {
                Some((job, held)) if *held + items <= JOB_ITEMS_MAX => {
                    *held += items;
                    jobs[*job].1.push(one);
                }
                _ => {
                    filling.insert(kind, (jobs.len(), items));
                    jobs.push((kind, vec![one]));
                }
            }
        }
        let send = |((shard, may_be_late), asked): ((Shard, bool), Vec<Asked>)| {
            let (reply, answer) = oneshot::channel();
            let questions: Vec<Question> = asked.iter().map(|one| one.question.clone()).collect();
            let waits = checking(span, None, questions.iter().map(|one| one.items.len()).sum());
            let span = waits.clone();
            let job = CheckJob { namespace, questions, may_be_late, deadline, span, reply };
            let sent = self.queues.checks.try_send(shard, job);
            let reply = sent.map(|()| answer).map_err(|e| queue_error(&e, "point checks"));
            Sent { asked, reply, waits }
        };
        jobs.into_iter().map(send).collect()
    }

    /// Takes storage's answers in. Returns why some are missing.
    async fn settle(
        &self,
        namespace: usize,
        sent: Vec<Sent>,
        rows: &mut [Row],
        answer_by: Tick,
    ) -> Option<DegradedReason> {
        let mut reason = None;
        for Sent { asked, reply, waits } in sent {
            let answers = match reply {
                Ok(reply) => self.within(answer_by, reply).await,
                Err(error) => Err(error),
            };
            ended(&waits, answers.as_ref().err());
            for (index, one) in asked.iter().enumerate() {
                match &answers {
                    Ok(answers) => {
                        let contested = self.settle_one(namespace, one, index, answers, rows);
                        let contested = contested.then_some(DegradedReason::Contested);
                        reason = worse(reason, contested);
                    }
                    Err(error) => reason = worse(reason, Some(reason_of(error, one.doubt))),
                }
            }
        }
        reason
    }

    fn settle_one(
        &self,
        namespace: usize,
        one: &Asked,
        index: usize,
        answers: &Answers,
        rows: &mut [Row],
    ) -> bool {
        let row = &mut rows[one.row];
        let Some(found) = answers.found.get(index) else { return false };
        let user: UserId = one.question.user;
        let snapshot = answers.snapshot;
        let checked =
            Checked { user, items: &one.question.items, found, snapshot, asked: one.began };
        let now = self.ticker.now();
        let Outcome::Decided { seen, contested } =
            self.step(namespace, now, checked.answering(one.late_from))
        else {
            return false;
        };
        for (index, position) in one.ask.ones().enumerate() {
            if seen.get(index) {
                row.seen.set(position);
            }
        }
        row.open = row.open.without(&one.ask);
        row.degraded |= contested;
        contested
    }

    fn put_together(
        &self,
        call: &PushCall,
        namespaces: &[usize],
        rows: &[Row],
        reason: Option<DegradedReason>,
    ) -> v1::FilterUsersResult {
        let items = call.items.len();
        let mut result = PushRows::new(call);
        for (at, row) in rows.iter().enumerate() {
            let open = row.open.without(&row.seen);
            if open.count() == items && items > 0 {
                // Nothing is known of this user: the row stays as the call wishes it.
                continue;
            }
            let answer = match (open.is_empty() && !row.degraded, row.filtered) {
                (false, _) => UserAnswer::Degraded,
                (true, true) => UserAnswer::Filtered,
                (true, false) => UserAnswer::Exact,
            };
            let mut seen = row.seen;
            if call.on_unknown == OnUnknown::Hide {
                seen.or_with(&open);
            }
            result.set(at, answer, seen.zeros(items));
        }
        let filtered = rows.iter().any(|row| row.filtered);
        let rates = namespaces.iter().map(|namespace| {
            self.namespaces[*namespace].rules.settings().namespace.false_positive_rate
        });
        let rate = if filtered { joint_rate(rates) } else { 0.0 };
        let unknown = result.unknown() as u32;
        let quality = match reason {
            None => sound(rate),
            Some(reason) => Quality::Degraded { rate, reason, unknown },
        };
        result.finish(quality)
    }
}
