//! The metrics of this crate.

use seen_filter::{MetricInfo, MetricUnit};

/// Group commits made.
pub(crate) const COMMITS: &str = "seen_store_commits_total";
/// Calls that shared a commit.
pub(crate) const COMMIT_CALLS: &str = "seen_store_commit_calls";
/// Rows of a commit.
pub(crate) const COMMIT_ROWS: &str = "seen_store_commit_rows";
/// Duration of a commit.
pub(crate) const COMMIT_SECONDS: &str = "seen_store_commit_seconds";
/// Failed commits.
pub(crate) const COMMIT_ERRORS: &str = "seen_store_commit_errors_total";
/// Rows removed in the background.
pub(crate) const SWEPT_ROWS: &str = "seen_store_swept_rows_total";
/// New timelines.
pub(crate) const TIMELINES: &str = "seen_store_timelines_total";
/// Calls at database servers.
pub(crate) const CALLS: &str = "seen_store_calls_total";
/// Attempts at database servers beyond each call's first.
pub(crate) const RETRIES: &str = "seen_store_retries_total";
/// Feed gaps.
pub(crate) const FEED_GAPS: &str = "seen_store_feed_gaps_total";
/// Shards by state.
pub(crate) const SHARDS: &str = "seen_store_shards";
/// Groups of servers whose semi-synchronous replication is switched on and does not work.
pub(crate) const SEMI_SYNC_OFF: &str = "seen_store_semi_sync_off";

/// Every metric of this crate.
pub const METRICS: &[MetricInfo] = &[
    MetricInfo::counter(COMMITS, MetricUnit::Count, "Group commits made by the store."),
    MetricInfo::histogram(
        COMMIT_CALLS,
        MetricUnit::Count,
        "Calls (writes, forgets, fences) that shared one commit of the embedded store.",
    ),
    MetricInfo::histogram(
        COMMIT_ROWS,
        MetricUnit::Count,
        "Rows added and removed by one commit of the embedded store.",
    ),
    MetricInfo::histogram(
        COMMIT_SECONDS,
        MetricUnit::Seconds,
        "Duration of a commit of the embedded store, its sync included.",
    ),
    MetricInfo::counter(
        COMMIT_ERRORS,
        MetricUnit::Count,
        "Failed commits of the embedded store; label kind: the store error's kind.",
    ),
    MetricInfo::counter(
        SWEPT_ROWS,
        MetricUnit::Count,
        "Rows removed in the background; label reason: expired or surplus (beyond the newest kept).",
    ),
    MetricInfo::counter(
        TIMELINES,
        MetricUnit::Count,
        "New timelines begun because the store's file was found to be a restored copy.",
    ),
    MetricInfo::counter(
        CALLS,
        MetricUnit::Count,
        "Calls at database servers: transactions, checks and pages, each with its first attempt.",
    ),
    MetricInfo::counter(
        RETRIES,
        MetricUnit::Count,
        "Further attempts at database servers, of calls of which nothing had been done.",
    ),
    MetricInfo::counter(
        FEED_GAPS,
        MetricUnit::Count,
        "Gaps that readers of the store's feed met, by reason: of the embedded store's log trimmed, \
         timeline, ahead or damaged; of a binary log also what could not be read, and DDL.",
    ),
    MetricInfo::gauge(
        SHARDS,
        MetricUnit::Count,
        "Shards on database servers; label state: in_use, no_primary (none of its servers certainly \
         takes writes), unseen (not in reach since the start), refused (not what it should be).",
    ),
    MetricInfo::gauge(
        SEMI_SYNC_OFF,
        MetricUnit::Count,
        "Groups of database servers whose semi-synchronous replication is switched on while no \
         replica answers: a failover may lose acknowledged marks.",
    ),
];
