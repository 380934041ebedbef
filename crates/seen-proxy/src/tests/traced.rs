//! The spans of requests on their way.

use metrics::Counter;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SimpleSpanProcessor, SpanData, SpanExporter};
use parking_lot::Mutex;
use seen_api::trace::{BoxedTracer, OUTCOME, Sampling};
use seen_api::{TraceContext, Tracer};

use super::*;
use crate::fake::Mode;

/// Keeps what it is given, in the order in which it ended.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().extend(batch);
        Ok(())
    }
}

/// A slot of two replicas, and what its proxy's spans are: of all calls without a caller's trace.
async fn traced() -> (Bench, Kept) {
    let kept = Kept::default();
    let processor = SimpleSpanProcessor::new(kept.clone());
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let tracer = BoxedTracer::new(Box::new(provider.tracer("test")));
    let tracer = Tracer::new(tracer, Sampling::new(1.0, 1_000, Counter::noop()));
    let options = ProxyOptions { tracer, ..ProxyOptions::new(1) };
    (Bench::with(&[("feed", 1, 2)], options).await, kept)
}

fn says(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|one| one.key.as_str() == key);
    found.map_or_else(String::new, |one| one.value.to_string())
}

/// Of each attempt: whom was asked, why, and how it ended.
fn attempts(spans: &[SpanData]) -> Vec<[String; 3]> {
    let attempts = spans.iter().filter(|span| span.name == "attempt");
    attempts
        .map(|span| ["seen.replica", "seen.attempt", OUTCOME].map(|key| says(span, key)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_a_span_that_its_replica_joins() {
    let (bench, kept) = traced().await;
    let ranked = bench.ranked(5);
    ranked[0].set(Mode::Silent);
    response(bench.filter(5).answer().await);
    let spans = kept.0.lock().clone();
    let name = |at: usize| ranked[at].target.name.to_string();
    let ended = attempts(&spans);
    let overtaken = [name(0), "first".to_owned(), "overtaken".to_owned()];
    assert_eq!(ended, [[name(1), "hedge".to_owned(), "ok".to_owned()], overtaken]);
    let server = spans.iter().find(|span| span.name == "filter").expect("the call's");
    assert_eq!(says(server, "seen.namespace"), "feed_read");
    assert_eq!((says(server, "seen.pool"), says(server, OUTCOME)), ("feed".into(), "ok".into()));
    for (link, attempt) in [(&ranked[1], &spans[0]), (&ranked[0], &spans[1])] {
        assert_eq!(attempt.parent_span_id, server.span_context.span_id());
        let sent = link.last().trace.expect("a trace");
        assert_eq!(sent[..16], server.span_context.trace_id().to_bytes());
        assert_eq!(sent[16..24], attempt.span_context.span_id().to_bytes());
        assert_eq!(sent[24], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_proxy_s_own_answer_is_told_from_a_replica_s() {
    let (bench, kept) = traced().await;
    bench.ranked(5).iter().for_each(|link| link.set(Mode::Silent));
    assert!(is_degraded(&response(bench.filter(5).answer().await)));
    let spans = kept.0.lock().clone();
    let ended = attempts(&spans);
    assert!(ended.len() >= 2 && ended.iter().all(|one| one[2] == "silent"), "{ended:?}");
    let server = spans.iter().find(|span| span.name == "filter").expect("the call's");
    assert_eq!(says(server, "seen.own_answer"), "deadline");
}

#[tokio::test(start_paused = true)]
async fn a_trace_that_is_not_sampled_is_passed_on_as_it_came() {
    let (bench, kept) = traced().await;
    let trace = Some(TraceContext { trace_id: [3; 16], span_id: [4; 8], flags: 0 });
    let meta = CallMeta { timeout_us: 90_000, trace, ..CallMeta::default() };
    let (reply, answer) = seen_api::reply::awaited();
    bench.proxy.call(Call::Filter, &meta, filter_body(5, &[]), reply);
    answer.await.expect("answered");
    let mut expected = [3; 25];
    expected[16..24].fill(4);
    expected[24] = 0;
    assert_eq!(bench.home(5).last().trace, Some(expected));
    assert!(kept.0.lock().is_empty());
}
