//! Spans on their way to an OpenTelemetry collector: gathered behind a bounded queue and sent by a thread of their own. A
//! collector that is down or silent costs its spans, and nothing else.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{Counter, counter};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{RetryPolicy, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData,
    SpanExporter, SpanProcessor,
};
use seen_api::Tracer;
use seen_api::trace::{BoxedTracer, Sampling};
use thiserror::Error;
use tonic::transport::Endpoint;

use crate::config::TracesConfig;
use crate::metrics::{TRACE_CALLS_REFUSED, TRACE_SPANS};

/// Most spans that are sent at once.
const BATCH_SPANS_MAX: usize = 512;

/// Why spans cannot be sent.
#[derive(Debug, Error)]
pub enum TracesError {
    /// The address is none.
    #[error("traces.endpoint: {0}; write it as http://localhost:4317")]
    Endpoint(#[from] tonic::transport::Error),
    /// The exporter refuses its settings.
    #[error("traces: {0}")]
    Settings(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// What a process does: it is said with each span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// All roles at once.
    Serve,
    /// A replica of a slot.
    Replica,
    /// A proxy.
    Proxy,
}

impl Role {
    const fn label(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Replica => "replica",
            Self::Proxy => "proxy",
        }
    }
}

/// The process's spans.
#[derive(Debug, Default)]
pub struct Traces {
    tracer: Tracer,
    sending: Option<(SdkTracerProvider, Duration)>,
}

impl Traces {
    /// Gets ready to send spans, if there is an address for them. Nothing is connected yet. Call it on a runtime that
    /// outlives them, and after the metrics recorder is installed.
    ///
    /// # Errors
    /// [`TracesError`].
    pub fn start(config: &TracesConfig, role: Role) -> Result<Self, TracesError> {
        let Some(endpoint) = &config.endpoint else { return Ok(Self::default()) };
        let channel = Endpoint::from_shared(endpoint.clone())?
            .connect_timeout(config.timeout)
            .timeout(config.timeout)
            .connect_lazy();
        // What is not taken is given up: a repetition would keep the next ones waiting, and the end of the process.
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_retry_policy(RetryPolicy::disabled())
            .build()?;
        let queue_max = config.queue_spans_max as usize;
        let counts = Arc::new(Counts::new(endpoint.clone(), queue_max));
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(queue_max)
            .with_max_export_batch_size(BATCH_SPANS_MAX.min(queue_max))
            .with_scheduled_delay(config.send_every)
            .build();
        let exporter = Counted { exporter, counts: Arc::clone(&counts) };
        let processor = BatchSpanProcessor::new(exporter, batches);
        let provider = SdkTracerProvider::builder()
            // Who is sampled was decided before.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource(config, role))
            .with_span_processor(Bounded { processor, counts })
            .build();
        let refused = counter!(TRACE_CALLS_REFUSED.name);
        let sampling = Sampling::new(config.sample_ratio, config.spans_per_s_max, refused);
        let tracer = Tracer::new(BoxedTracer::new(Box::new(provider.tracer("seen"))), sampling);
        tracing::info!(endpoint, sample_ratio = config.sample_ratio, "traces are sent");
        Ok(Self { tracer, sending: Some((provider, config.timeout)) })
    }

    /// What begins spans.
    pub fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Sends the spans that are left, within `traces.timeout`; what is not sent by then is lost.
    pub async fn end(self) {
        let Some((provider, timeout)) = self.sending else { return };
        // It waits for the thread that sends, and this thread is needed by the connection.
        let ending = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(timeout));
        // Somewhat longer than it may take itself: then nothing holds up the end.
        match tokio::time::timeout(timeout * 2, ending).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans are lost"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last spans are lost"),
        }
    }
}

fn resource(config: &TracesConfig, role: Role) -> Resource {
    Resource::builder_empty()
        .with_service_name(config.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("seen.role", role.label()))
        .build()
}

/// What becomes of spans.
struct Counts {
    endpoint: String,
    queue_max: usize,
    /// Ended, and neither sent nor lost yet.
    waiting: AtomicUsize,
    /// The collector did not take the last ones: it was said.
    failing: AtomicBool,
    sent: Counter,
    failed: Counter,
    dropped: Counter,
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Counts {
    fn new(endpoint: String, queue_max: usize) -> Self {
        let outcome = |outcome: &'static str| counter!(TRACE_SPANS.name, "outcome" => outcome);
        Self {
            endpoint,
            queue_max,
            waiting: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
            sent: outcome("sent"),
            failed: outcome("failed"),
            dropped: outcome("dropped"),
        }
    }

    /// A span ended. False if too many wait already.
    fn enters(&self) -> bool {
        let has_room = self.waiting.fetch_add(1, Ordering::Relaxed) < self.queue_max;
        if !has_room {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.increment(1);
        }
        has_room
    }

    /// So many spans were sent, or lost.
    fn left(&self, spans: usize, result: &OTelSdkResult) {
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        match result {
            Ok(()) => {
                self.sent.increment(spans as u64);
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(endpoint = self.endpoint, "the collector takes spans again");
                }
            }
            Err(error) => {
                self.failed.increment(spans as u64);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    let what = "the collector takes no spans; until it does they are lost, which is not said again";
                    tracing::warn!(endpoint = self.endpoint, %error, "{what}");
                }
            }
        }
    }
}

/// Keeps the queue bounded, and counts what finds no room in it.
#[derive(Debug)]
struct Bounded {
    processor: BatchSpanProcessor,
    counts: Arc<Counts>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, within: &Context) {
        self.processor.on_start(span, within);
    }

    fn on_end(&self, span: SpanData) {
        if self.counts.enters() {
            self.processor.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

/// Counts what the collector takes, and says once if it takes nothing.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    counts: Arc<Counts>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.counts.left(spans, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
