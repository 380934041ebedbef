//! The metrics recorder: bounded histograms, described from the registry, rendered on demand.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use parking_lot::Mutex;
use seen_filter::{MetricInfo, MetricKind, MetricUnit};
use thiserror::Error;
use tracing_appender::non_blocking::ErrorCounter;

use crate::metrics::{LOG_LINES_DROPPED, all};

/// Buckets of latencies, in seconds: three a decade from 0.1 ms, where answers from memory lie, to
/// 1 s, beyond every deadline; 90 ms is the default deadline.
const SECONDS_BUCKETS: [f64; 14] =
    [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.09, 0.2, 0.5, 1.0];
/// Buckets of counts and bytes: powers of four, as sizes differ by magnitude.
const SIZE_BUCKETS: [f64; 13] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];
/// Buckets of shares.
const RATIO_BUCKETS: [f64; 9] = [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0];

/// Why metrics cannot be recorded.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The exporter refuses its settings.
    #[error("the metrics exporter refuses its settings: {0}")]
    Settings(#[from] BuildError),
    /// The process records metrics already.
    #[error("metrics were set up twice in one process: {0}")]
    Twice(String),
}

/// Renders what was recorded. Cheap to clone.
#[derive(Clone)]
pub struct MetricsHandle {
    prometheus: PrometheusHandle,
    log_lines_dropped: Option<ErrorCounter>,
}

impl MetricsHandle {
    /// Starts recording, for the whole process. Histograms gather their samples until they are
    /// rendered or folded, so somebody must call [`MetricsHandle::fold`]; the HTTP server does.
    ///
    /// # Errors
    /// [`MetricsError`].
    pub fn start(log_lines_dropped: Option<ErrorCounter>) -> Result<Self, MetricsError> {
        let recorder = recorder()?;
        let prometheus = recorder.handle();
        metrics::set_global_recorder(recorder)
            .map_err(|error| MetricsError::Twice(error.to_string()))?;
        all().for_each(describe);
        Ok(Self { prometheus, log_lines_dropped })
    }

    /// The recorder of this process, started by whoever asks first: several nodes in one process
    /// (tests, embedded use) share it.
    ///
    /// # Errors
    /// [`MetricsError`].
    pub fn shared() -> Result<Self, MetricsError> {
        static SHARED: Mutex<Option<MetricsHandle>> = Mutex::new(None);
        let mut shared = SHARED.lock();
        if let Some(handle) = shared.as_ref() {
            return Ok(handle.clone());
        }
        let handle = Self::start(None)?;
        *shared = Some(handle.clone());
        Ok(handle)
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        if let Some(dropped) = &self.log_lines_dropped {
            let lines = u64::try_from(dropped.dropped_lines()).unwrap_or(u64::MAX);
            counter!(LOG_LINES_DROPPED.name).absolute(lines);
        }
        self.prometheus.render()
    }

    /// Folds the samples gathered since the last call into buckets, which bounds their memory where
    /// nobody scrapes.
    pub fn fold(&self) {
        self.prometheus.run_upkeep();
    }
}

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let mut builder = PrometheusBuilder::new().set_buckets(&SECONDS_BUCKETS)?;
    for info in all().filter(|info| info.kind == MetricKind::Histogram) {
        let name = Matcher::Full(info.name.to_owned());
        builder = builder.set_buckets_for_metric(name, buckets(info.unit))?;
    }
    Ok(builder.build_recorder())
}

fn buckets(unit: MetricUnit) -> &'static [f64] {
    match unit {
        MetricUnit::Seconds => &SECONDS_BUCKETS,
        MetricUnit::Ratio => &RATIO_BUCKETS,
        MetricUnit::Count | MetricUnit::Bytes => &SIZE_BUCKETS,
    }
}

fn describe(info: &MetricInfo) {
    let unit = match info.unit {
        MetricUnit::Seconds => Unit::Seconds,
        MetricUnit::Bytes => Unit::Bytes,
        MetricUnit::Count | MetricUnit::Ratio => Unit::Count,
    };
    match info.kind {
        MetricKind::Counter => describe_counter!(info.name, unit, info.help),
        MetricKind::Gauge => describe_gauge!(info.name, unit, info.help),
        MetricKind::Histogram => describe_histogram!(info.name, unit, info.help),
    }
}
