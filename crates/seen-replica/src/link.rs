//! A replica at its end of the link: the hot calls are answered where they lie, into what the connection writes next; all others
//! by tasks. Right for any user, whatever map the proxy had (coherence rows 34 and 35).

mod asked;
mod peers;
mod pulse;
pub mod readiness;
mod standing;

use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use seen_api::{Call, Calls, Reply, Span, Tracer};
use seen_cluster::link::transfer::TransferSink;
use seen_cluster::link::{Cut, HelloExpectation, Incoming, LinkService, Replier, check_hello};
use seen_cluster::sabotage::defends;
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1::{self, LinkLane};
use seen_proto::wire::{FilterCall, MarkCall};
use tokio::sync::watch;

use crate::calls::ReplicaCalls;
use crate::replica::Replica;
use crate::service::Handled;
use crate::warm::{Ask, Donor, DonorLimits, push};

pub use peers::{LinkDonors, LinkPeer};
pub use standing::Standing;

/// The lanes that a replica serves.
const LANES: [LinkLane; 3] = [LinkLane::Filters, LinkLane::Push, LinkLane::Transfer];
/// Longest request that is copied instead of kept where it was read.
const COPIED_BYTES_MAX: usize = 512;
/// Longest reply that is kept as room for the next one.
const REPLY_BYTES_KEPT_MAX: usize = 65_536;

thread_local! {
    /// Where replies are put together, so that none allocates.
    static REPLY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a replica is in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRole {
    /// Its pool's tag.
    pub pool: String,
    /// Its slot within the pool.
    pub slot: u32,
    /// The program's version, for people.
    pub program: String,
    /// Bytes of requests that one connection may have under way.
    pub credit_bytes: u64,
    /// How much work it does for those that take its users.
    pub donor: DonorLimits,
}

/// The link's service of one replica. Share it among all connections.
pub struct ReplicaLink {
    replica: Arc<Replica>,
    calls: ReplicaCalls,
    standing: Arc<Standing>,
    donor: Donor,
    identity: v1::ReplicaIdentity,
    credit_bytes: u64,
}

impl ReplicaLink {
    /// The service of the replica that fares so.
    pub fn new(standing: Arc<Standing>, role: ClusterRole) -> Self {
        let replica = Arc::clone(standing.replica());
        let identity = replica.identity(role.pool, role.slot, role.program);
        Self {
            calls: ReplicaCalls::new(Arc::clone(&replica)),
            donor: Donor::new(Arc::clone(&replica), role.donor),
            standing,
            identity,
            credit_bytes: role.credit_bytes,
            replica,
        }
    }

    /// The same service, with spans of the calls that are sampled.
    pub fn traced(mut self, tracer: Tracer) -> Self {
        self.calls = self.calls.traced(tracer);
        self
    }

    /// Who this replica is.
    pub fn identity(&self) -> &v1::ReplicaIdentity {
        &self.identity
    }

    /// Answers a hot call: into the connection's buffer where memory suffices.
    fn hot(
        &self,
        reply: Replier,
        span: Span,
        handle: impl FnOnce(&Arc<Replica>, &Span, &mut Vec<u8>) -> Result<Handled, ApiError>,
    ) {
        let pending = REPLY.with_borrow_mut(|out| {
            out.clear();
            let handled = handle(&self.replica, &span, out);
            let pending = match handled {
                Ok(Handled::Written) => {
                    ended(&span, None);
                    reply.message(out);
                    None
                }
                Ok(Handled::Pending(pending)) => Some((pending, reply)),
                Err(error) => {
                    ended(&span, Some(&error));
                    self.refuse(reply, error);
                    None
                }
            };
            out.shrink_to(REPLY_BYTES_KEPT_MAX);
            pending
        });
        let Some((pending, reply)) = pending else { return };
        let running = self.replica.running();
        let calls = self.calls.clone();
        tokio::spawn(async move {
            let _running = running;
            let answer = pending.await;
            ended(&span, answer.as_ref().err());
            match answer {
                Ok(body) => reply.message(&body),
                Err(error) => {
                    calls.refused(&error);
                    reply.error(error);
                }
            }
        });
    }

    fn refuse(&self, reply: Replier, error: ApiError) {
        self.calls.refused(&error);
        reply.error(error);
    }

    /// Why a write must not be done any more.
    fn is_late(&self, request: &Incoming<'_>) -> Option<&'static str> {
        if request.waits_until <= request.now {
            return Some(
                "it was on its way for too long; nothing was written, and another replica may",
            );
        }
        let stood_still = self.standing.pulse.is_suspect(self.replica.ticker.tick(request.now));
        stood_still
            .then_some("the process stood still; nothing was written, and another replica may")
    }

    fn count_epoch(&self, theirs: u32) {
        let own = self.standing.map_epoch();
        if theirs == own || theirs == 0 || own == 0 {
            return;
        }
        let metrics = &self.replica.metrics;
        if theirs < own { &metrics.older_maps } else { &metrics.newer_maps }.increment(1);
    }
}

impl LinkService for ReplicaLink {
    fn welcome(&self, hello: &v1::LinkHello) -> Result<v1::LinkWelcome, v1::LinkRefusal> {
        let expected = HelloExpectation { identity: &self.identity, lanes: &LANES };
        let version = check_hello(hello, &expected)?;
        let (credit_bytes, identity) = (self.credit_bytes, Some(self.identity.clone()));
        Ok(v1::LinkWelcome { version, credit_bytes, identity, state: Some(self.state()) })
    }

    fn state(&self) -> v1::ReplicaState {
        self.standing.state()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.standing.changes()
    }

    fn handle(&self, request: Incoming<'_>, reply: Replier) {
        self.count_epoch(request.epoch);
        let call = match asked::call(request.call) {
            Ok(call) => call,
            Err(error) => return self.refuse(reply, error),
        };
        let mode = asked::mode(request.flags, request.moved);
        let until = if call.writes() { request.waits_until } else { request.deadline };
        let deadline = self.replica.ticker.tick(until);
        if call.writes()
            && let Some(what) = self.is_late(&request)
            && defends("replica.late_write")
        {
            // Rows 36 and 38: its sender may have written it elsewhere long ago.
            self.replica.metrics.late_writes.increment(1);
            return self.refuse(reply, ApiError::new(ErrorKind::Unavailable, what));
        }
        let meta = asked::meta(request.us_until(until), request.trace.as_ref());
        let span = self.calls.tracer.joined(call, meta.trace.as_ref());
        match call {
            Call::Filter => self.hot(reply, span, |replica, span, out| {
                let call = FilterCall::parse(request.body())?;
                replica.filter_in(mode, &call, deadline, span, out)
            }),
            Call::Mark => self.hot(reply, span, |replica, span, out| {
                replica.mark(&MarkCall::parse(request.body())?, deadline, span, out)
            }),
            _ => {
                let reply = Box::new(LinkReply(reply));
                self.calls.call_in(mode, call, &meta, body(&request), reply, span);
            }
        }
    }

    fn transfer<'a>(
        &'a self,
        ask: Bytes,
        out: &'a mut TransferSink<'_>,
    ) -> BoxFuture<'a, Result<(), Cut>> {
        Box::pin(async move {
            let mut sink = peers::ServerSink { out, cut: None };
            let result = if push::is_push(&ask) {
                push::take(&self.replica, &ask, &mut sink).await
            } else {
                match Ask::decode(&ask) {
                    Ok(ask) => self.donor.give(&ask, &mut sink).await,
                    Err(failure) => push::decline(&mut sink, failure).await,
                }
            };
            if let Err(failure) = result {
                // The other end was told, or is gone.
                tracing::info!(error = %failure, "a stream of entries was not given or taken");
            }
            sink.cut.map_or(Ok(()), Err)
        })
    }
}

/// A hot call is over. Said before the proxy knows: whoever has the answer may end the process.
fn ended(span: &Span, error: Option<&ApiError>) {
    span.outcome(error);
    span.end();
}

/// A request's bytes, for as long as it waits. Small ones are copied: kept where they lie, each would keep all that was read with
/// it in memory.
fn body(request: &Incoming<'_>) -> Bytes {
    match request.body() {
        small if small.len() <= COPIED_BYTES_MAX => Bytes::copy_from_slice(small),
        _ => request.body_bytes(),
    }
}

/// The reply of a call that a task answers.
struct LinkReply(Replier);

impl Reply for LinkReply {
    fn send(self: Box<Self>, answer: Result<Bytes, ApiError>) {
        match answer {
            Ok(body) => self.0.message(&body),
            Err(error) => self.0.error(error),
        }
    }

    fn is_abandoned(&self) -> bool {
        self.0.is_abandoned()
    }

    fn poll_abandoned(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        // Whoever waits for storage ends by its deadline anyway.
        if self.0.is_abandoned() { Poll::Ready(()) } else { Poll::Pending }
    }
}
