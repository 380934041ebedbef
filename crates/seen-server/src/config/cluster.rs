//! `[cluster]`: a replica's place in the map of slots, its link, and how it warms up.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, GIB, KIB, MIB, OptionInfo, SectionInfo, ms, option, optional, secs};
use super::units::{size, span};

/// What `[cluster]` is about.
pub const SECTION: SectionInfo = SectionInfo {
    name: "cluster",
    help: "The map of slots, which seen proxy and seen replica follow, and a replica's place in it.",
    options: OPTIONS,
};

const OPTIONS: &[OptionInfo] = &[
    optional(
        "map",
        Allowed::Text("a TOML file; seen cluster init prints one"),
        "The map of slots. It is looked at every second, and followed when it changes.",
        "/etc/seen/cluster.toml",
    ),
    option("pool", Allowed::Text("a tag of the map"), "The pool that a replica belongs to."),
    option("slot", Allowed::Count(0, 1_023), "The slot within the pool that a replica serves."),
    option(
        "link_listen",
        Allowed::Text("address:port; port 0 takes a free one"),
        "Where a replica listens for proxies and for other replicas.",
    ),
    option(
        "link_credit_bytes",
        Allowed::Size(256 * KIB, GIB),
        "Bytes of requests that one connection of a proxy may have unanswered; more are shed by the proxy at once.",
    ),
    option(
        "links_max",
        Allowed::Count(1, 100_000),
        "Open links of proxies and peers; one more is refused.",
    ),
    option(
        "warm_share",
        Allowed::Share(0.0, 1.0),
        "The share of a peer's hot users that a starting replica takes over before it is ready; 0 starts cold.",
    ),
    option(
        "warm_timeout",
        Allowed::Span(ms(0), secs(3_600)),
        "After this long it is ready whatever it has.",
    ),
    option(
        "warm_cpu_share",
        Allowed::Share(0.01, 1.0),
        "The share of one core that a replica gives to handing users over.",
    ),
    option(
        "pause_max",
        Allowed::Span(ms(50), secs(60)),
        "A process that stood still for longer is not ready until its feed has caught up.",
    ),
];

/// `[cluster]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct ClusterConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<PathBuf>,
    pub pool: String,
    pub slot: u16,
    pub link_listen: SocketAddr,
    #[serde(with = "size")]
    pub link_credit_bytes: u64,
    pub links_max: u32,
    pub warm_share: f64,
    #[serde(with = "span")]
    pub warm_timeout: Duration,
    pub warm_cpu_share: f64,
    #[serde(with = "span")]
    pub pause_max: Duration,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            map: None,
            pool: "feed".to_owned(),
            slot: 0,
            link_listen: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7430),
            link_credit_bytes: 16 * MIB,
            links_max: 10_000,
            warm_share: 0.95,
            warm_timeout: secs(60),
            warm_cpu_share: 0.25,
            pause_max: ms(500),
        }
    }
}

impl ClusterConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)?;
        if self.pool.is_empty() || self.pool.len() > seen_cluster::map::TAG_BYTES_MAX {
            return Err(OutOfRange {
                key: "cluster.pool".to_owned(),
                value: self.pool.clone(),
                allowed: format!("a tag of 1 to {} bytes", seen_cluster::map::TAG_BYTES_MAX),
            });
        }
        Ok(())
    }
}
