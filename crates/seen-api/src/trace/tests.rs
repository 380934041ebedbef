//! Spans as an exporter is given them.

use std::sync::Arc;

use bytes::Bytes;
use metrics::Counter;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SimpleSpanProcessor, SpanData, SpanExporter};
use seen_proto::status::ErrorKind;

use super::*;
use crate::reply;

/// Keeps what it is given.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().extend(batch);
        Ok(())
    }
}

fn tracer(ratio: f64, spans_per_s_max: u32) -> (Tracer, Kept) {
    let kept = Kept::default();
    let processor = SimpleSpanProcessor::new(kept.clone());
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let sampling = Sampling::new(ratio, spans_per_s_max, Counter::noop());
    (Tracer::new(BoxedTracer::new(Box::new(provider.tracer("test"))), sampling), kept)
}

const CALLER: TraceContext = TraceContext { trace_id: [7; 16], span_id: [9; 8], flags: 1 };

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|one| one.key.as_str() == key);
    found.map(|one| one.value.to_string())
}

#[test]
fn what_is_off_is_nothing() {
    assert_eq!(size_of::<Span>(), size_of::<usize>());
    let span = Tracer::off().server(Call::Filter, Some(&CALLER));
    assert!(!span.is_on() && !span.child("part").is_on() && span.context().is_none());
    span.note("never", || -> i64 { unreachable!("nobody asks") });
    let (tracer, kept) = tracer(0.0, 100);
    let untraced = TraceContext { flags: 0, ..CALLER };
    assert!(!tracer.server(Call::Filter, Some(&untraced)).is_on());
    assert!(!tracer.server(Call::Filter, None).is_on());
    assert!(kept.0.lock().is_empty());
}

#[test]
fn spans_are_under_one_another_and_under_the_callers() {
    let (tracer, kept) = tracer(0.0, 100);
    let server = tracer.joined(Call::Mark, Some(&CALLER));
    let attempt = server.outgoing("attempt");
    let context = attempt.context().expect("sampled");
    assert_eq!((context.trace_id, context.flags), (CALLER.trace_id, 1));
    attempt.note("which", || 1_i64);
    drop(attempt);
    server.end();
    let spans = std::mem::take(&mut *kept.0.lock());
    let [attempt, server] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((attempt.name.as_ref(), server.name.as_ref()), ("attempt", "mark"));
    assert_eq!(server.parent_span_id.to_bytes(), CALLER.span_id);
    assert!(server.parent_span_is_remote && !attempt.parent_span_is_remote);
    assert_eq!(attempt.parent_span_id, server.span_context.span_id());
    assert_eq!(attempt.span_context.span_id().to_bytes(), context.span_id);
    assert_eq!((&attempt.span_kind, &server.span_kind), (&SpanKind::Client, &SpanKind::Server));
    assert_eq!(attribute(attempt, "which").as_deref(), Some("1"));
}

#[test]
fn a_call_without_a_caller_s_trace_begins_one() {
    let (tracer, kept) = tracer(1.0, 100);
    assert!(!tracer.joined(Call::Filter, None).is_on(), "that was the proxy's to decide");
    drop(tracer.server(Call::Filter, None));
    let spans = kept.0.lock();
    assert_eq!(spans[0].parent_span_id, SpanId::INVALID);
    assert_ne!(spans[0].span_context.trace_id(), TraceId::INVALID);
}

#[test]
fn callers_cannot_make_it_trace_more_than_it_may() {
    let (tracer, kept) = tracer(0.0, 10);
    let calls: Vec<Span> = (0..1_000).map(|_| tracer.server(Call::Filter, Some(&CALLER))).collect();
    let traced = calls.iter().filter(|span| span.is_on()).count();
    // Those of one second, and of what time the loop takes.
    assert!((10..500).contains(&traced), "{traced}");
    drop(calls);
    assert_eq!(kept.0.lock().len(), traced);
}

#[tokio::test]
async fn a_reply_ends_its_call_s_span_before_the_caller_knows() {
    let (tracer, kept) = tracer(1.0, 100);
    let server = tracer.server(Call::Filter, None);
    let (reply, answer) = reply::awaited();
    let reply = server.with_reply(reply);
    assert!(!reply.is_abandoned());
    reply.send(Ok(Bytes::new()));
    assert_eq!(kept.0.lock().len(), 1, "it is not the last handle that ends it");
    assert_eq!(answer.await, Ok(Bytes::new()));
    for (kind, status) in [(ErrorKind::InvalidArgument, false), (ErrorKind::Internal, true)] {
        let (reply, _answer) = reply::awaited();
        let reply = tracer.server(Call::Filter, None).with_reply(reply);
        reply.send(Err(ApiError::new(kind, "why")));
        let span = kept.0.lock().pop().expect("ended");
        assert_eq!(attribute(&span, OUTCOME).as_deref(), Some(kind.label()));
        assert_eq!(matches!(span.status, Status::Error { .. }), status, "{kind:?}");
    }
    let (reply, answer) = reply::awaited();
    let reply = tracer.server(Call::Filter, None).with_reply(reply);
    drop(answer);
    assert!(reply.is_abandoned());
    drop(reply);
    let span = kept.0.lock().pop().expect("ended");
    assert_eq!(attribute(&span, OUTCOME).as_deref(), Some("unanswered"));
}
