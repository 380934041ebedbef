//! The spans of a request on its way: the call's own, and under it one for each time that a replica is asked. Nothing
//! where the call is not sampled; then the caller's trace is passed on as it came.

use seen_api::{Call, CallMeta, Span, TraceContext, trace};
use seen_cluster::link::message::TRACE_BYTES;
use seen_proto::wire::RouteCall;

use crate::attempt::End;
use crate::metrics::{Own, Why};
use crate::replica::{ReplicaId, Target};
use crate::route;

/// A call, what came with it, and its span.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub call: Call,
    pub meta: &'a CallMeta,
    pub span: &'a Span,
}

impl Asked<'_> {
    /// The spans of a request that is sent for this call to a pool.
    pub fn spans(&self, pool: &str) -> Spans {
        self.span.note("seen.pool", || pool.to_owned());
        Spans { caller: self.meta.trace, call: self.span.clone(), attempts: Vec::new() }
    }

    /// Says which namespace a call is about, which is all that a proxy reads of it besides the user.
    pub fn describe(&self, body: &[u8]) {
        let Some(shape) = route::shape(self.call).filter(|_| self.span.is_on()) else { return };
        if let Ok(routed) = RouteCall::parse(shape, body) {
            self.span.note(trace::NAMESPACE, || routed.namespace.to_owned());
        }
    }
}

/// The spans of a request on its way.
pub(crate) struct Spans {
    caller: Option<TraceContext>,
    call: Span,
    /// Those that have not ended.
    attempts: Vec<(ReplicaId, Span)>,
}

impl Spans {
    /// A replica is asked. Returns the trace that it is to join.
    pub fn begin(&mut self, id: ReplicaId, target: &Target, why: Why) -> Option<[u8; TRACE_BYTES]> {
        if self.call.is_on() {
            let span = self.call.outgoing("attempt");
            span.note("seen.replica", || target.name.to_string());
            span.note("server.address", || target.address.ip().to_string());
            span.note("server.port", || i64::from(target.address.port()));
            span.note("seen.attempt", || why.label());
            self.attempts.push((id, span));
        }
        let asking = self.attempts.last().and_then(|(_, span)| span.context());
        asking.or(self.caller).map(bytes)
    }

    /// A replica is not waited for any more.
    pub fn end(&mut self, id: ReplicaId, end: End) {
        if let Some(at) = self.attempts.iter().position(|(asked, _)| *asked == id) {
            let (_, span) = self.attempts.swap_remove(at);
            match end {
                End::Answered { is_good: true } => span.note(trace::OUTCOME, || "ok"),
                End::Answered { is_good: false } => span.note(trace::OUTCOME, || "weaker"),
                End::Overtaken => span.note(trace::OUTCOME, || "overtaken"),
                End::Faulty => span.failed("faulty", "the replica failed"),
                End::Starved => span.failed("starved", "what the replica depends on failed"),
                End::Lost => span.failed("lost", "the link was lost"),
                End::Silent => span.failed("silent", "no answer in time"),
                End::Refused => span.failed("refused", "not begun: too much to do, or no link"),
            }
        }
    }

    /// No replica's answer is given, but the proxy's own word.
    pub fn own(&self, why: Own) {
        self.call.note("seen.own_answer", || why.label());
    }
}

/// A trace as it travels.
fn bytes(trace: TraceContext) -> [u8; TRACE_BYTES] {
    let mut bytes = [0; TRACE_BYTES];
    let (ids, flags) = bytes.split_at_mut(TRACE_BYTES - 1);
    ids.iter_mut()
        .zip(trace.trace_id.iter().chain(&trace.span_id))
        .for_each(|(to, from)| *to = *from);
    flags.fill(trace.flags);
    bytes
}
