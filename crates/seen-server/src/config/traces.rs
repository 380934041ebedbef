//! `[traces]`: spans of calls, sent to an OpenTelemetry collector.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, OptionInfo, SectionInfo, ms, option, optional, secs};
use super::units::span;

/// What `[traces]` is about.
pub const SECTION: SectionInfo = SectionInfo {
    name: "traces",
    help: "Spans of calls, sent to an OpenTelemetry collector by OTLP. Off unless traces.endpoint is set; callers' trace contexts are passed on all the same.",
    options: OPTIONS,
};

const OPTIONS: &[OptionInfo] = &[
    optional(
        "endpoint",
        Allowed::Text("http://host:port, OTLP by gRPC"),
        "Where spans are sent; unset: no spans are made. Not encrypted: meant for a collector beside the process or in its network. A collector that is down or silent slows nothing; what it does not take is lost and counted.",
        "http://localhost:4317",
    ),
    option(
        "sample_ratio",
        Allowed::Share(0.0, 1.0),
        "Share of the calls without a trace context that begin a trace. With one, the caller's word counts: a sampled call is traced, another one is not.",
    ),
    option(
        "spans_per_s_max",
        Allowed::Count(1, 1_000_000),
        "Most spans of this process in a second, whatever callers ask for; further calls are not traced, and counted.",
    ),
    option(
        "queue_spans_max",
        Allowed::Count(64, 1_000_000),
        "Spans that may wait to be sent; further ones are dropped and counted.",
    ),
    option(
        "send_every",
        Allowed::Span(ms(50), secs(60)),
        "How often spans are sent, many at once.",
    ),
    option(
        "timeout",
        Allowed::Span(ms(50), secs(60)),
        "How long the collector may take for what it is sent at once, and how long the end of the process waits for the last spans.",
    ),
    option(
        "service_name",
        Allowed::Text("the name under which a collector shows this service"),
        "The service.name of all spans.",
    ),
];

/// `[traces]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct TracesConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    pub sample_ratio: f64,
    pub spans_per_s_max: u32,
    pub queue_spans_max: u32,
    #[serde(with = "span")]
    pub send_every: Duration,
    #[serde(with = "span")]
    pub timeout: Duration,
    pub service_name: String,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample_ratio: 0.001,
            spans_per_s_max: 1_000,
            queue_spans_max: 4_096,
            send_every: secs(1),
            timeout: secs(3),
            service_name: "seen".to_owned(),
        }
    }
}

impl TracesConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)?;
        let refuse = |key: &str, value: &str, allowed: &str| OutOfRange {
            key: format!("traces.{key}"),
            value: value.to_owned(),
            allowed: allowed.to_owned(),
        };
        if self.service_name.is_empty() {
            return Err(refuse("service_name", "", "a name"));
        }
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        let is_good = endpoint.parse::<http::Uri>().is_ok_and(|uri| {
            uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty())
        });
        match is_good {
            true => Ok(()),
            false => Err(refuse(
                "endpoint",
                endpoint,
                "http://host:port, as http://localhost:4317; unset to send none",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_one_that_can_be_reached() {
        let of = |endpoint: &str| {
            let endpoint = Some(endpoint.to_owned());
            TracesConfig { endpoint, ..TracesConfig::default() }.validate()
        };
        assert_eq!(of("http://localhost:4317"), Ok(()));
        assert_eq!(of("http://[::1]:4317"), Ok(()));
        assert_eq!(TracesConfig::default().validate(), Ok(()));
        for bad in ["", "localhost:4317", "https://localhost:4317", "http://", "a b"] {
            assert_eq!(of(bad).expect_err(bad).key, "traces.endpoint", "{bad:?}");
        }
        let nameless = TracesConfig { service_name: String::new(), ..TracesConfig::default() };
        assert_eq!(nameless.validate().expect_err("no name").key, "traces.service_name");
        let all = TracesConfig { sample_ratio: 1.5, ..TracesConfig::default() };
        assert_eq!(all.validate().expect_err("too many").key, "traces.sample_ratio");
    }
}
