//! `[feed]`: following the store's changes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, GIB, KIB, MIB, OptionInfo, SectionInfo, ms, option, secs};
use super::units::{size, span};

/// What `[feed]` is about.
pub const SECTION: SectionInfo =
    SectionInfo { name: "feed", help: "Following the store's changes.", options: OPTIONS };

const OPTIONS: &[OptionInfo] = &[
    option(
        "ring_bytes",
        Allowed::Size(64 * KIB, 16 * GIB),
        "Memory for the latest events of one feed partition.",
    ),
    option(
        "events_per_batch_max",
        Allowed::Count(1, 65_536),
        "Events taken from the feed and applied in one go.",
    ),
    option(
        "fence_interval",
        Allowed::Span(ms(100), secs(60)),
        "A fence is written for a feed partition at most this often.",
    ),
    option(
        "stale_after",
        Allowed::Span(ms(500), secs(600)),
        "A feed partition without a returned fence for this long proves nothing any more: its users are checked in storage.",
    ),
];

/// `[feed]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct FeedConfig {
    #[serde(with = "size")]
    pub ring_bytes: u64,
    pub events_per_batch_max: u32,
    #[serde(with = "span")]
    pub fence_interval: Duration,
    #[serde(with = "span")]
    pub stale_after: Duration,
}

impl Default for FeedConfig {
    fn default() -> Self {
        Self {
            ring_bytes: 16 * MIB,
            events_per_batch_max: 1_024,
            fence_interval: secs(1),
            stale_after: secs(5),
        }
    }
}

impl FeedConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)
    }
}
