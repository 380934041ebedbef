//! The bounds of the front.

use std::time::Duration;

use crate::config::ServerConfig;

/// The bounds of the front. Units and meaning are those of the `[server]` options of the same name.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented by the options of the same name")]
pub struct ServingOptions {
    pub threads: usize,
    pub connections_max: usize,
    pub streams_per_connection_max: u32,
    pub header_bytes_max: u32,
    pub stream_window_bytes: u32,
    pub connection_window_bytes: u32,
    pub read_buffer_bytes: usize,
    pub connection_age: Duration,
    pub connection_grace: Duration,
    pub drain: Duration,
    pub handshake: Duration,
    pub keepalive_interval: Duration,
    pub keepalive_timeout: Duration,
    pub cancelled_max: u32,
    pub resets_pending_max: usize,
    /// How often the threads' load is sampled and compared; no option, as nobody needs another
    /// value outside of tests.
    pub balance_interval: Duration,
}

impl From<&ServerConfig> for ServingOptions {
    fn from(config: &ServerConfig) -> Self {
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let length = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            threads: config.thread_count(),
            connections_max: length(config.connections_max),
            streams_per_connection_max: config.streams_per_connection_max,
            header_bytes_max: small(config.header_bytes_max),
            stream_window_bytes: small(config.stream_window_bytes),
            connection_window_bytes: small(config.connection_window_bytes),
            read_buffer_bytes: length(small(config.read_buffer_bytes)),
            connection_age: config.connection_age,
            connection_grace: config.connection_grace,
            drain: config.drain,
            handshake: config.handshake,
            keepalive_interval: config.keepalive_interval,
            keepalive_timeout: config.keepalive_timeout,
            cancelled_max: config.cancelled_max,
            resets_pending_max: length(config.resets_pending_max),
            balance_interval: Duration::from_secs(1),
        }
    }
}
