//! Spans of calls, by OpenTelemetry: where a call's time went, for those calls that are sampled.
//!
//! A [`Span`] of a call that is not sampled is nothing: it holds nothing, and whatever is done with it is one
//! branch. So it is passed along wherever a call goes. What exports spans is none of this crate's business: a
//! [`Tracer`] is handed whatever keeps to OpenTelemetry's API.

mod reply;
mod sampling;

use std::fmt;
use std::sync::Arc;

use opentelemetry::global::BoxedSpan;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags,
    TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};
use parking_lot::Mutex;
use seen_proto::status::{ApiError, Blame};

use crate::calls::{Call, TraceContext};

pub use opentelemetry::global::BoxedTracer;
pub use sampling::Sampling;

/// What became of a call or an attempt.
pub const OUTCOME: &str = "seen.outcome";
/// The namespaces that a call names.
pub const NAMESPACE: &str = "seen.namespace";

/// Begins the spans of calls that come in. Clones are the same one; the default one is off.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

struct Inner {
    tracer: BoxedTracer,
    sampling: Sampling,
}

impl Tracer {
    /// Traces nothing.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Traces what `sampling` takes. The tracer is to record all that it is given.
    pub fn new(tracer: BoxedTracer, sampling: Sampling) -> Self {
        Self(Some(Arc::new(Inner { tracer, sampling })))
    }

    /// The span of a call that came in, under its caller's.
    #[inline]
    pub fn server(&self, call: Call, caller: Option<&TraceContext>) -> Span {
        match &self.0 {
            Some(inner) if inner.sampling.takes(caller) => {
                let parent = caller.map(|caller| context_of(*caller, true));
                Span::begin(inner, call.label(), SpanKind::Server, parent)
            }
            _ => Span::OFF,
        }
    }

    /// The same for a call that a proxy sent: what it did not trace begins no trace here, where only half of it is seen.
    #[inline]
    pub fn joined(&self, call: Call, proxy: Option<&TraceContext>) -> Span {
        match proxy {
            Some(proxy) => self.server(call, Some(proxy)),
            None => Span::OFF,
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tracer(on)" } else { "Tracer(off)" })
    }
}

/// A span, or nothing. Clones are the same span, which ends when it is told to, or with the last of them.
#[derive(Clone, Default)]
pub struct Span(Option<Arc<Live>>);

struct Live {
    span: Mutex<BoxedSpan>,
    context: TraceContext,
    inner: Arc<Inner>,
}

impl Span {
    /// Nothing.
    pub const OFF: Self = Self(None);

    fn begin(
        inner: &Arc<Inner>,
        name: &'static str,
        kind: SpanKind,
        parent: Option<SpanContext>,
    ) -> Self {
        // Never the thread's present context: a task's spans are passed along, not found.
        let within = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let builder = SpanBuilder::from_name(name).with_kind(kind);
        let span = inner.tracer.build_with_context(builder, &within);
        let context = trace_of(span.span_context());
        Self(Some(Arc::new(Live { span: Mutex::new(span), context, inner: Arc::clone(inner) })))
    }

    /// True if there is one.
    #[inline]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What is passed on to whoever is asked on this span's behalf.
    pub fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|live| live.context)
    }

    /// A part of this span's work that is done here.
    #[inline]
    pub fn child(&self, name: &'static str) -> Self {
        self.part(name, SpanKind::Internal)
    }

    /// A part of this span's work that somebody else is asked to do.
    #[inline]
    pub fn outgoing(&self, name: &'static str) -> Self {
        self.part(name, SpanKind::Client)
    }

    #[inline]
    fn part(&self, name: &'static str, kind: SpanKind) -> Self {
        let Some(live) = &self.0 else { return Self::OFF };
        live.inner.sampling.took();
        Self::begin(&live.inner, name, kind, Some(context_of(live.context, false)))
    }

    /// Says something about it. Nothing is computed if there is none.
    #[inline]
    pub fn note<V: Into<Value>>(&self, key: &'static str, value: impl FnOnce() -> V) {
        if let Some(live) = &self.0 {
            live.span.lock().set_attribute(KeyValue::new(key, value().into()));
        }
    }

    /// Says that something happened just now.
    #[inline]
    pub fn event(&self, name: &'static str) {
        if let Some(live) = &self.0 {
            live.span.lock().add_event(name, Vec::new());
        }
    }

    /// Says how it ended. What is the caller's own fault is no failure of whoever was called.
    pub fn outcome(&self, error: Option<&ApiError>) {
        let Some(live) = &self.0 else { return };
        let mut span = live.span.lock();
        span.set_attribute(KeyValue::new(OUTCOME, error.map_or("ok", |error| error.kind.label())));
        if let Some(error) = error.filter(|error| error.kind.blame() != Blame::Caller) {
            span.set_status(Status::error(error.message.clone()));
        }
    }

    /// Says that it failed, and why.
    pub fn failed(&self, outcome: &'static str, why: &'static str) {
        if let Some(live) = &self.0 {
            let mut span = live.span.lock();
            span.set_attribute(KeyValue::new(OUTCOME, outcome));
            span.set_status(Status::error(why));
        }
    }

    /// Ends it. What is said about it later is not heard.
    #[inline]
    pub fn end(&self) {
        if let Some(live) = &self.0 {
            live.span.lock().end();
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(live) => f.debug_tuple("Span").field(&live.context).finish(),
            None => f.write_str("Span(off)"),
        }
    }
}

fn context_of(trace: TraceContext, is_remote: bool) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(trace.trace_id),
        SpanId::from_bytes(trace.span_id),
        TraceFlags::new(trace.flags),
        is_remote,
        TraceState::NONE,
    )
}

fn trace_of(context: &SpanContext) -> TraceContext {
    TraceContext {
        trace_id: context.trace_id().to_bytes(),
        span_id: context.span_id().to_bytes(),
        flags: context.trace_flags().to_u8(),
    }
}

#[cfg(test)]
mod tests;
