//! A replica as one that answers calls: the hot ones read where they lie and answered at once where
//! memory can, all others decoded and answered by a task.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use seen_api::{Call, CallMeta, Calls, Reply, Span, Tracer};
use seen_filter::Tick;
use seen_proto::message::{decode, encode};
use seen_proto::model::{ExplainCall, ForgetCall, HistoryCall, PushCall, UnmarkCall};
use seen_proto::status::{ApiError, call_error};
use seen_proto::v1;
use seen_proto::v1::filter_users_response::Result as Pushed;
use seen_proto::wire::{FilterCall, MarkCall};

use crate::replica::Replica;
use crate::service::Handled;
use crate::service::filter::{Moved, ReadMode};

/// Bytes set aside for a reply of Filter.
const REPLY_BYTES: usize = 1_024;

/// One replica's answers. Cheap to clone.
#[derive(Clone)]
pub struct ReplicaCalls {
    replica: Arc<Replica>,
    pub(crate) tracer: Tracer,
}

impl ReplicaCalls {
    /// The answers of this replica.
    pub fn new(replica: Arc<Replica>) -> Self {
        Self { replica, tracer: Tracer::off() }
    }

    /// The same answers, with spans of the calls that are sampled.
    pub fn traced(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Sends what a hot handler came to.
    fn hot(
        &self,
        reply: Box<dyn Reply>,
        handle: impl FnOnce(&Arc<Replica>, &mut Vec<u8>) -> Result<Handled, ApiError>,
    ) {
        let mut out = Vec::with_capacity(REPLY_BYTES);
        match handle(&self.replica, &mut out) {
            Ok(Handled::Written) => reply.send(Ok(Bytes::from(out))),
            Ok(Handled::Pending(pending)) => self.later(reply, pending),
            Err(error) => {
                self.refused(&error);
                reply.send(Err(error));
            }
        }
    }

    /// Answers in a task, which ends early once nobody waits any more. A write that was handed to storage
    /// goes on all the same (rule R4): what ends is the waiting for it.
    fn later(
        &self,
        mut reply: Box<dyn Reply>,
        answer: impl Future<Output = Result<Bytes, ApiError>> + Send + 'static,
    ) {
        let running = self.replica.running();
        let calls = self.clone();
        tokio::spawn(async move {
            let _running = running;
            let mut answer = pin!(answer);
            let told = poll_fn(|cx| match answer.as_mut().poll(cx) {
                Poll::Ready(told) => Poll::Ready(Some(told)),
                Poll::Pending => reply.poll_abandoned(cx).map(|()| None),
            });
            match told.await {
                Some(Ok(told)) => reply.send(Ok(told)),
                Some(Err(error)) => {
                    calls.refused(&error);
                    reply.send(Err(error));
                }
                None => {}
            }
        });
    }

    /// Answers a call with this span, which the reply ends; `mode` is how it is to be read where a proxy says so.
    pub(crate) fn call_in(
        &self,
        mode: ReadMode,
        call: Call,
        meta: &CallMeta,
        body: Bytes,
        reply: Box<dyn Reply>,
        span: Span,
    ) {
        let deadline = self.replica.ticker().now().plus_us(meta.timeout_us);
        let (reply, own) = (span.with_reply(reply), self.clone());
        match call {
            Call::Filter => self.hot(reply, |replica, out| {
                replica.filter_in(mode, &FilterCall::parse(&body)?, deadline, &span, out)
            }),
            Call::Mark => self.hot(reply, |replica, out| {
                replica.mark(&MarkCall::parse(&body)?, deadline, &span, out)
            }),
            Call::Unmark => self.later(reply, own.unmark(body, deadline, span)),
            Call::Forget => self.later(reply, own.forget(body, deadline, span)),
            Call::History => self.later(reply, own.history(body, deadline, span)),
            Call::Explain => self.later(reply, own.explain(body, deadline, span)),
            Call::FilterUsers => {
                self.later(reply, own.push(meta.timeout_us, body, mode.moved, span));
            }
        }
    }

    async fn push(
        self,
        timeout_us: u64,
        body: Bytes,
        moved: Option<Moved>,
        span: Span,
    ) -> Result<Bytes, ApiError> {
        // Without a message there is no id to answer under.
        let request: v1::FilterUsersRequest = decode(body)?;
        let request_id = request.request_id;
        let answer = async {
            let mut call = PushCall::try_from(request)?;
            let left_ms = u32::try_from(timeout_us / 1_000).unwrap_or(u32::MAX).max(1);
            call.timeout_ms = call.timeout_ms.min(left_ms);
            self.replica.filter_users(call, moved, &span).await
        };
        let result = match answer.await {
            Ok(users) => Pushed::Users(users),
            Err(error) => {
                self.refused(&error);
                Pushed::Error(call_error(error))
            }
        };
        Ok(encode(&v1::FilterUsersResponse { request_id, result: Some(result) }))
    }

    async fn unmark(self, body: Bytes, deadline: Tick, span: Span) -> Result<Bytes, ApiError> {
        let call = UnmarkCall::try_from(decode::<v1::UnmarkRequest>(body)?)?;
        Ok(encode(&self.replica.unmark(call, deadline, &span).await?))
    }

    async fn forget(self, body: Bytes, deadline: Tick, span: Span) -> Result<Bytes, ApiError> {
        let call = ForgetCall::try_from(decode::<v1::ForgetRequest>(body)?)?;
        Ok(encode(&self.replica.forget(call, deadline, &span).await?))
    }

    async fn history(self, body: Bytes, deadline: Tick, span: Span) -> Result<Bytes, ApiError> {
        let call = HistoryCall::try_from(decode::<v1::HistoryRequest>(body)?)?;
        Ok(encode(&self.replica.history(call, deadline, &span).await?))
    }

    async fn explain(self, body: Bytes, deadline: Tick, span: Span) -> Result<Bytes, ApiError> {
        let call = ExplainCall::try_from(decode::<v1::ExplainRequest>(body)?)?;
        Ok(encode(&self.replica.explain(call, deadline, &span).await?))
    }
}

impl Calls for ReplicaCalls {
    fn call(&self, call: Call, meta: &CallMeta, body: Bytes, reply: Box<dyn Reply>) {
        let span = self.tracer.server(call, meta.trace.as_ref());
        self.call_in(ReadMode::default(), call, meta, body, reply, span);
    }

    fn refused(&self, error: &ApiError) {
        self.replica.metrics.error(error.kind);
    }

    fn stream_begins(&self) -> Option<Box<dyn Any + Send>> {
        Some(Box::new(self.replica.running()))
    }
}
