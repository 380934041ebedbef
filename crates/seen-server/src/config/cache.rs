//! `[cache]`: the per-user state in memory, and how it is built.

use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, GIB, MIB, OptionInfo, SectionInfo, option};
use super::units::size;

/// What `[cache]` is about.
pub const SECTION: SectionInfo = SectionInfo {
    name: "cache",
    help: "The per-user state in memory, and how it is built.",
    options: OPTIONS,
};

const OPTIONS: &[OptionInfo] = &[
    option(
        "memory",
        Allowed::Size(MIB, 1_024 * GIB),
        "Memory for users' state, everything included; the coldest users go first.",
    ),
    option(
        "builds_max",
        Allowed::Count(1, 256),
        "Histories that are read at the same time from one shard of storage.",
    ),
    option(
        "build_share",
        Allowed::Share(0.05, 1.0),
        "Share of storage's time that builds may take while other reads wait.",
    ),
    option(
        "builds_waiting_max",
        Allowed::Count(1, 1_000_000),
        "Users that may wait for a build, shared evenly by the shards; further ones are answered from storage alone.",
    ),
    option(
        "rebuilds_per_s_max",
        Allowed::Count(1, 100_000),
        "Rebuilds of users that have a state already (expiry, removals, doubts), started in a second.",
    ),
    option(
        "pending_items_max",
        Allowed::Count(100, 16_384),
        "Events that one user may gather while a build runs; one more restarts the build.",
    ),
    option(
        "journal_items_max",
        Allowed::Count(1_000, 100_000_000),
        "Own marks of one feed partition that have not come back through it yet; one more puts the partition in doubt.",
    ),
];

/// `[cache]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct CacheConfig {
    #[serde(with = "size")]
    pub memory: u64,
    pub builds_max: u16,
    pub build_share: f64,
    pub builds_waiting_max: u32,
    pub rebuilds_per_s_max: u32,
    pub pending_items_max: u32,
    pub journal_items_max: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            memory: GIB,
            builds_max: 4,
            build_share: 0.5,
            builds_waiting_max: 4_096,
            rebuilds_per_s_max: 200,
            pending_items_max: 4_096,
            journal_items_max: 250_000,
        }
    }
}

impl CacheConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)
    }
}
