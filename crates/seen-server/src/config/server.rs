//! `[server]`: addresses, threads, and the bounds of one connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, KIB, MIB, OptionInfo, SectionInfo, ms, option, secs};
use super::units::{size, span};

/// What `[server]` is about.
pub const SECTION: SectionInfo = SectionInfo {
    name: "server",
    help: "Addresses, threads, and the bounds of one connection.",
    options: OPTIONS,
};

const ADDRESS: Allowed = Allowed::Text("address:port; port 0 takes a free one");

const OPTIONS: &[OptionInfo] = &[
    option("listen", ADDRESS, "Where the gRPC API listens."),
    option("admin_listen", ADDRESS, "Where the admin API listens; it asks for no credentials."),
    option("http_listen", ADDRESS, "Where /metrics, /livez and /readyz are served."),
    option("threads", Allowed::Count(0, 256), "Serving threads; 0 means one for each core."),
    option(
        "connections_max",
        Allowed::Count(1, 1_000_000),
        "Open API connections; one more is closed as soon as it is accepted.",
    ),
    option(
        "streams_per_connection_max",
        Allowed::Count(1, 65_535),
        "Requests in flight on one connection; further ones wait in the client.",
    ),
    option("header_bytes_max", Allowed::Size(4 * KIB, MIB), "Longest header list of a request."),
    option(
        "stream_window_bytes",
        Allowed::Size(64 * KIB, 16 * MIB),
        "Flow-control window of one request: bytes that a client may send ahead of being read.",
    ),
    option(
        "connection_window_bytes",
        Allowed::Size(64 * KIB, 256 * MIB),
        "Flow-control window of one connection, all its requests together.",
    ),
    option(
        "read_buffer_bytes",
        Allowed::Size(8 * KIB, MIB),
        "Read buffer of one connection: larger saves system calls, and costs memory for each.",
    ),
    option(
        "connection_age",
        Allowed::Span(secs(1), secs(7 * 86_400)),
        "A connection is asked to close (GOAWAY) at this age, a tenth earlier or later at random, so that clients spread anew.",
    ),
    option(
        "connection_grace",
        Allowed::Span(ms(100), secs(3_600)),
        "How long requests may run on after their connection was asked to close.",
    ),
    option(
        "drain",
        Allowed::Span(ms(0), secs(600)),
        "How long running requests may take after SIGTERM before they are cut off.",
    ),
    option(
        "handshake",
        Allowed::Span(ms(100), secs(60)),
        "A connection that has sent nothing for this long after it was accepted is closed.",
    ),
    option(
        "keepalive_interval",
        Allowed::Span(secs(1), secs(3_600)),
        "A connection is pinged this often.",
    ),
    option(
        "keepalive_timeout",
        Allowed::Span(ms(100), secs(600)),
        "A ping unanswered for this long closes the connection.",
    ),
    option(
        "cancelled_max",
        Allowed::Count(100, 10_000_000),
        "Cancelled requests, less answered ones, that a connection may pile up before it is cut off; forgotten over ten seconds.",
    ),
    option(
        "resets_pending_max",
        Allowed::Count(16, 65_535),
        "Requests that were reset before they were begun; one more cuts the connection off.",
    ),
];

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct ServerConfig {
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub http_listen: SocketAddr,
    pub threads: u16,
    pub connections_max: u32,
    pub streams_per_connection_max: u32,
    #[serde(with = "size")]
    pub header_bytes_max: u64,
    #[serde(with = "size")]
    pub stream_window_bytes: u64,
    #[serde(with = "size")]
    pub connection_window_bytes: u64,
    #[serde(with = "size")]
    pub read_buffer_bytes: u64,
    #[serde(with = "span")]
    pub connection_age: Duration,
    #[serde(with = "span")]
    pub connection_grace: Duration,
    #[serde(with = "span")]
    pub drain: Duration,
    #[serde(with = "span")]
    pub handshake: Duration,
    #[serde(with = "span")]
    pub keepalive_interval: Duration,
    #[serde(with = "span")]
    pub keepalive_timeout: Duration,
    pub cancelled_max: u32,
    pub resets_pending_max: u32,
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            // Below 32768, where the kernel's ephemeral ports begin.
            listen: loopback(7420),
            admin_listen: loopback(7421),
            http_listen: loopback(7422),
            threads: 0,
            connections_max: 10_000,
            streams_per_connection_max: 1_024,
            header_bytes_max: 16 * KIB,
            stream_window_bytes: MIB,
            connection_window_bytes: 16 * MIB,
            read_buffer_bytes: 64 * KIB,
            connection_age: secs(1_800),
            connection_grace: secs(60),
            drain: secs(20),
            handshake: secs(10),
            keepalive_interval: secs(20),
            keepalive_timeout: secs(10),
            cancelled_max: 10_000,
            resets_pending_max: 256,
        }
    }
}

impl ServerConfig {
    /// Checks every value against its range, and that the three addresses differ.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)?;
        let pairs = [
            ("admin_listen", self.admin_listen, "listen", self.listen),
            ("http_listen", self.http_listen, "listen", self.listen),
            ("http_listen", self.http_listen, "admin_listen", self.admin_listen),
        ];
        for (key, address, other_key, other) in pairs {
            if address == other && address.port() != 0 {
                return Err(OutOfRange {
                    key: format!("server.{key}"),
                    value: address.to_string(),
                    allowed: format!("an address other than server.{other_key}'s"),
                });
            }
        }
        Ok(())
    }

    /// The number of serving threads, with 0 read as one for each core.
    pub fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => usize::from(n),
        }
    }
}
