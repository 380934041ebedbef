//! `[relay]`: what `seen relay` does unless its flags say otherwise.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, KIB, MIB, OptionInfo, SectionInfo, ms, option, optional, secs};
use super::units::{size, span};

/// What `[relay]` is about.
pub const SECTION: SectionInfo = SectionInfo {
    name: "relay",
    help: "What seen relay does unless its flags of the same names say otherwise: it passes changes on (mysql.feed says from where, kafka.brokers to where).",
    options: OPTIONS,
};

const OPTIONS: &[OptionInfo] = &[
    optional(
        "topic",
        Allowed::Text("a name, with {shard} where mysql.shards is above 1"),
        "The topic to write to.",
        "seen-slots",
    ),
    option(
        "create_topic",
        Allowed::Count(0, 4_096),
        "How many partitions the topic is made with where it does not exist; 0: that is an error.",
    ),
    option(
        "commit_interval",
        Allowed::Span(ms(1), secs(60)),
        "How long events may wait for others before they are committed together.",
    ),
    option(
        "commit_bytes",
        Allowed::Size(KIB, 256 * MIB),
        "Bytes of records after which they do not wait.",
    ),
    option(
        "transaction_timeout",
        Allowed::Span(secs(1), secs(900)),
        "How long Kafka keeps the unfinished transaction of a relay that was killed, and readers wait for it; a relay that begins ends it at once.",
    ),
];

/// `[relay]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct RelayConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    pub create_topic: u16,
    #[serde(with = "span")]
    pub commit_interval: Duration,
    #[serde(with = "size")]
    pub commit_bytes: u64,
    #[serde(with = "span")]
    pub transaction_timeout: Duration,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            topic: None,
            create_topic: 0,
            commit_interval: ms(20),
            commit_bytes: 4 * MIB,
            transaction_timeout: secs(10),
        }
    }
}

impl RelayConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)
    }
}
