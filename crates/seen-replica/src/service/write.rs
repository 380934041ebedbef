//! Mark, Unmark and Forget: acknowledged when durable and in memory (rule R4).

use std::sync::Arc;

use bytes::Bytes;
use seen_api::Span;
use seen_api::trace::NAMESPACE;
use seen_cluster::sabotage::defends;
use seen_filter::history::WriteOp;
use seen_filter::{Item, StoreError, Tick, TimeRule, UnixMillis, UserId};
use seen_proto::model::{ForgetCall, ForgetScope, UnmarkCall};
use seen_proto::status::{ApiError, ErrorKind, call_error};
use seen_proto::token::{AckSeq, ClusterId, Element, Token, WriteClaim};
use seen_proto::v1;
use seen_proto::wire::{MarkCall, encode_mark_response};
use tokio::sync::oneshot;

use super::traced::ITEMS;
use super::{Handled, write_error};
use crate::metrics::Call;
use crate::replica::Replica;
use crate::rules::Claim;
use crate::storage::{ForgetJob, WriteJob, queue_error};

/// Items with their times.
type MarkedItems = Vec<(Item, Option<UnixMillis>)>;
/// What becomes of a write.
type Acknowledgement = oneshot::Receiver<Result<Claim, StoreError>>;

impl Replica {
    /// Marks items, for a call with this span. The reply's bytes are appended to `out` at once only where nothing is written.
    ///
    /// # Errors
    /// [`ApiError`]; `OutcomeUnknown` if the caller's time ran out before the commit was confirmed.
    pub fn mark(
        self: &Arc<Self>,
        call: &MarkCall<'_>,
        deadline: Tick,
        span: &Span,
        out: &mut Vec<u8>,
    ) -> Result<Handled, ApiError> {
        span.note(NAMESPACE, || call.namespace.to_owned());
        let namespace = self.named(call.namespace)?;
        let session = self.session(call.token)?;
        let mut items: MarkedItems = call.items().collect();
        if items.is_empty() {
            encode_mark_response(out, &[]);
            return Ok(Handled::Written);
        }
        // Of repeats the first one's time counts, or the last one's, as it would over two calls.
        if self.namespaces[namespace].rules.settings().namespace.time_rule == TimeRule::Last {
            items.reverse();
        }
        items.sort_by_key(|(item, _)| *item);
        items.dedup_by_key(|(item, _)| *item);
        let began = self.ticker.now();
        let answer_by = self.answer_by(began, deadline);
        let rows = items.len() as u64;
        let write = (WriteOp::Append, items);
        let (waits, reply) = self.send_write(namespace, call.user, write, answer_by, span)?;
        let replica = Arc::clone(self);
        Ok(Handled::Pending(Box::pin(async move {
            let claim = replica.acknowledged(answer_by, reply, &waits).await?;
            replica.metrics.marked.increment(rows);
            replica.metrics.answered(Call::Mark, replica.ticker.now().since_us(began));
            let mut out = Vec::new();
            encode_mark_response(&mut out, &replica.token_with(session, &[claim]));
            Ok(Bytes::from(out))
        })))
    }

    /// Unmarks items.
    ///
    /// # Errors
    /// As [`Self::mark`].
    pub async fn unmark(
        self: &Arc<Self>,
        call: UnmarkCall,
        deadline: Tick,
        span: &Span,
    ) -> Result<v1::UnmarkResponse, ApiError> {
        span.note(NAMESPACE, || call.namespace.clone());
        let namespace = self.named(&call.namespace)?;
        let session = self.session(&call.token)?;
        let mut items = call.items;
        items.sort_unstable();
        items.dedup();
        if items.is_empty() {
            return Ok(v1::UnmarkResponse { token: Vec::new() });
        }
        let began = self.ticker.now();
        let answer_by = self.answer_by(began, deadline);
        let items = items.into_iter().map(|item| (item, None)).collect();
        let write = (WriteOp::Remove, items);
        let (waits, reply) = self.send_write(namespace, call.user, write, answer_by, span)?;
        let claim = self.acknowledged(answer_by, reply, &waits).await?;
        self.metrics.answered(Call::Unmark, self.ticker.now().since_us(began));
        Ok(v1::UnmarkResponse { token: self.token_with(session, &[claim]) })
    }

    /// Forgets a user in one namespace, or in all; each by itself.
    ///
    /// # Errors
    /// [`ApiError`] if nothing could be forgotten.
    pub async fn forget(
        self: &Arc<Self>,
        call: ForgetCall,
        deadline: Tick,
        span: &Span,
    ) -> Result<v1::ForgetResponse, ApiError> {
        let session = self.session(&call.token)?;
        let namespaces: Vec<usize> = match &call.scope {
            ForgetScope::Namespace(name) => vec![self.named(name)?],
            ForgetScope::All => (0..self.namespaces.len()).collect(),
        };
        let began = self.ticker.now();
        let answer_by = self.answer_by(began, deadline);
        let mut rows = Vec::new();
        let mut claims = Vec::new();
        let mut first_error = None;
        for namespace in namespaces {
            let name = self.namespaces[namespace].name.clone();
            match self.forget_one(namespace, call.user, answer_by, span).await {
                Ok((forgotten, claim)) => {
                    claims.push(claim);
                    rows.push(v1::ForgottenNamespace {
                        namespace: name,
                        rows: forgotten.rows,
                        epoch: forgotten.epoch.get(),
                        error: None,
                    });
                }
                Err(error) => {
                    // What may have been done must not be told as certainly not done.
                    if error.kind == ErrorKind::OutcomeUnknown {
                        first_error = Some(error.clone());
                    }
                    first_error.get_or_insert(error.clone());
                    let error = Some(call_error(error));
                    rows.push(v1::ForgottenNamespace { namespace: name, rows: 0, epoch: 0, error });
                }
            }
        }
        match first_error {
            Some(error) if claims.is_empty() => Err(error),
            _ => {
                self.metrics.answered(Call::Forget, self.ticker.now().since_us(began));
                let token = self.token_with(session, &claims);
                Ok(v1::ForgetResponse { namespaces: rows, token })
            }
        }
    }

    async fn forget_one(
        &self,
        namespace: usize,
        user: UserId,
        answer_by: Tick,
        span: &Span,
    ) -> Result<(seen_filter::Forgotten, Claim), ApiError> {
        let (reply, answer) = oneshot::channel();
        let job = ForgetJob { namespace, user, deadline: answer_by, reply };
        if let Err(error) = self.queues.forgets.try_send(self.shard_of(namespace, user), job) {
            return Err(write_error(queue_error(&error, "forgets")));
        }
        let waits = span.child("storage.forget");
        waits.note(NAMESPACE, || self.namespaces[namespace].name.clone());
        self.acknowledged(answer_by, answer, &waits).await
    }

    fn send_write(
        &self,
        namespace: usize,
        user: UserId,
        (op, items): (WriteOp, MarkedItems),
        deadline: Tick,
        span: &Span,
    ) -> Result<(Span, Acknowledgement), ApiError> {
        if deadline <= self.ticker.now() {
            let what = "the deadline had passed before the write was begun; nothing was written";
            return Err(ApiError::new(ErrorKind::DeadlineExceeded, what));
        }
        let (reply, answer) = oneshot::channel();
        let waits = span.child("storage.write");
        waits.note(ITEMS, || items.len() as i64);
        let span = waits.clone();
        let job = WriteJob { namespace, user, op, items, deadline, span, reply };
        match self.queues.writes.try_send(self.shard_of(namespace, user), job) {
            Ok(()) => Ok((waits, answer)),
            Err(error) => {
                let error = write_error(queue_error(&error, "writes"));
                waits.outcome(Some(&error));
                Err(error)
            }
        }
    }

    /// Waits for a write's acknowledgement. Whoever stops waiting does not stop the write.
    async fn acknowledged<T>(
        &self,
        answer_by: Tick,
        reply: oneshot::Receiver<Result<T, StoreError>>,
        waits: &Span,
    ) -> Result<T, ApiError> {
        let waited = tokio::time::timeout_at(self.ticker.instant(answer_by), reply).await;
        let answer = match waited {
            // An error of the store's own says itself whether anything was written.
            Ok(Ok(done)) => done.map_err(write_error),
            Ok(Err(_)) => {
                let what = "the process is shutting down; whether it was written is not known";
                Err(ApiError::new(ErrorKind::OutcomeUnknown, what))
            }
            Err(_) => {
                // It is queued or under way: nobody can tell which.
                let what =
                    "the time allowed ran out before the commit was confirmed; repeat the call";
                let kind = match defends("replica.late_commit") {
                    true => ErrorKind::OutcomeUnknown,
                    false => ErrorKind::DeadlineExceeded,
                };
                Err(ApiError::new(kind, what))
            }
        };
        waits.outcome(answer.as_ref().err());
        waits.end();
        answer
    }

    pub(crate) fn named(&self, name: &str) -> Result<usize, ApiError> {
        self.namespace_index(name).ok_or_else(|| ApiError::unknown_namespace(name))
    }

    fn session(&self, token: &[u8]) -> Result<Token, ApiError> {
        Ok(Token::decode(token, ClusterId::new(self.cluster))?)
    }

    /// The session's token with these acknowledgements, as bytes.
    fn token_with(&self, mut session: Token, claims: &[Claim]) -> Vec<u8> {
        if !defends("replica.session") {
            session = Token::default();
        }
        for claim in claims {
            let write = WriteClaim {
                feed: claim.feed,
                incarnation: claim.writer,
                seq: AckSeq::new(claim.seq),
                stamp: claim.stamp,
            };
            session.add(Element::Write(write), || self.wildcards.fresh());
        }
        let mut bytes = Vec::new();
        session.encode(ClusterId::new(self.cluster), &mut bytes);
        bytes
    }
}
