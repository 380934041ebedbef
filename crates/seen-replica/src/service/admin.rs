//! What an operator asks: status, evict, rebuild.

use std::sync::Arc;

use seen_proto::model::{EvictCall, RebuildCall};
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1;
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::listing::{entry_view, feed_view, stamp};
use crate::metrics::Call;
use crate::replica::Replica;
use crate::rules::{Input, JOURNAL_ROW_BYTES, Outcome, RING_EVENT_BYTES};

/// How often a rebuild that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How often one that came to nothing is begun again.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// How long Status waits for storage.
const SIZES_WAIT_MAX: Duration = Duration::from_millis(500);

impl Replica {
    /// Has storage looked at again for what the namespaces take, if that was not done lately; waits for
    /// it for a while.
    pub async fn refresh_sizes(&self) {
        let (reply, done) = oneshot::channel();
        if self.queues.sizes.try_send(reply).is_ok() {
            // In vain: then Status tells what was found before, or nothing.
            let _ = timeout(SIZES_WAIT_MAX, done).await;
        }
    }

    /// How the process fares; what the namespaces take as of the last
    /// [`refresh_sizes`](Self::refresh_sizes).
    pub fn status(&self, version: &str) -> v1::StatusResponse {
        let now = self.ticker.now();
        v1::StatusResponse {
            version: version.to_owned(),
            cluster: format!("{:016x}", self.cluster),
            incarnation: format!("{:016x}", self.incarnation.get()),
            uptime_ms: now.since_us(self.started) / 1_000,
            draining: self.draining(),
            problems: self.problems(),
            namespaces: (0..self.namespaces.len()).map(|at| self.namespace_status(at)).collect(),
            partitions: self.partitions(),
            memory: Some(self.memory()),
            traffic: Some(self.traffic()),
            cluster_status: None,
        }
    }

    fn problems(&self) -> Vec<String> {
        let now = self.ticker.now();
        let mut problems = Vec::new();
        for namespace in &self.namespaces {
            for lane in namespace.rules.lanes(now) {
                if !lane.wanted {
                    continue;
                }
                if !lane.following {
                    problems.push(format!("{}: the change feed has not begun", lane.feed));
                } else if lane.quiet_us > self.limits.feed_stale_us_max {
                    let ms = lane.quiet_us / 1_000;
                    problems
                        .push(format!("{}: the change feed was last fresh {ms} ms ago", lane.feed));
                }
            }
            let missed = namespace.metrics.false_negatives.total();
            if missed > 0 {
                problems.push(format!(
                    "{}: {missed} sampled answers were false negatives; look for a writer that \
                     bypasses the change feed",
                    namespace.name
                ));
            }
        }
        problems
    }

    fn namespace_status(&self, at: usize) -> v1::NamespaceStatus {
        let namespace = &self.namespaces[at];
        let settings = &namespace.rules.settings().namespace;
        let metrics = &namespace.metrics;
        let size = *namespace.size.lock();
        v1::NamespaceStatus {
            name: namespace.name.clone(),
            configured_false_positive_rate: settings.false_positive_rate,
            measured_false_positive_rate: self.measured_rate(at),
            seen_samples: metrics.seen_samples.total(),
            unseen_samples: metrics.unseen_samples.total(),
            false_negatives: metrics.false_negatives.total(),
            retention_ms: settings.retention.map(|retention| retention.span_ms),
            newest_max: settings.newest_max,
            time_index: settings.time_index,
            rows: size.map(|size| size.rows),
            rows_bytes: size.map(|size| size.rows_bytes),
            time_index_bytes: size.and_then(|size| size.time_index_bytes),
            size_exact: size.is_some_and(|size| size.exact),
        }
    }

    fn partitions(&self) -> Vec<v1::PartitionStatus> {
        let now = self.ticker.now();
        let mut partitions = Vec::new();
        for namespace in &self.namespaces {
            for lane in namespace.rules.lanes(now) {
                let lag = self.feed.lag(lane.feed);
                partitions.push(v1::PartitionStatus {
                    namespace: namespace.name.clone(),
                    events: lane.events,
                    gaps: u64::from(lane.epoch.get()),
                    journal_entries: lane.journal_rows as u64,
                    ring_bytes: (lane.ring_events * RING_EVENT_BYTES) as u64,
                    ring_bytes_max: self.limits.ring_bytes_max as u64,
                    journal_bytes: (lane.journal_rows * JOURNAL_ROW_BYTES) as u64,
                    journal_bytes_max: self.limits.journal_bytes_max as u64,
                    following: lane.following,
                    applied: lane.applied.map(stamp),
                    source_position: lag.and_then(|lag| lag.position),
                    lag_records: lag.and_then(|lag| lag.records),
                    lag_ms: lag.and_then(|lag| lag.behind_ms),
                    feed: Some(feed_view(lane.feed, Some(&lane))),
                });
            }
        }
        partitions
    }

    fn memory(&self) -> v1::MemoryStatus {
        let mut memory = v1::MemoryStatus {
            bytes_max: self.limits.cache_bytes_max,
            builds: self.metrics.builds.total(),
            evictions: self.metrics.evictions.total(),
            ..Default::default()
        };
        for namespace in &self.namespaces {
            let census = namespace.rules.census();
            memory.entries += census.users;
            memory.bytes += census.bytes;
            memory.builds_running += census.building;
        }
        memory
    }

    fn traffic(&self) -> v1::TrafficStatus {
        let checks = self.namespaces.iter().map(|n| n.metrics.checks.total()).sum();
        v1::TrafficStatus {
            filters: self.metrics.calls(Call::Filter),
            checks,
            marks: self.metrics.marked.total(),
            hits: self.metrics.hits.total(),
            degraded: self.metrics.degraded.total(),
            errors: self.metrics.errors.total(),
        }
    }

    /// Drops a user's entries.
    ///
    /// # Errors
    /// [`ApiError`] for an unknown namespace.
    pub fn evict(&self, call: EvictCall) -> Result<v1::EvictUserResponse, ApiError> {
        let namespaces = match &call.namespace {
            Some(name) => vec![self.named(name)?],
            None => (0..self.namespaces.len()).collect(),
        };
        let mut response = v1::EvictUserResponse::default();
        for namespace in namespaces {
            let now = self.ticker.now();
            let building = self.namespaces[namespace].rules.entry(call.user, None).building;
            if let Outcome::Shed(entries) =
                self.step(namespace, now, Input::Evict { user: call.user })
            {
                response.evicted += entries as u32;
                response.kept += u32::from(building);
            }
        }
        Ok(response)
    }

    /// Builds a user's entry anew and waits until it is installed.
    ///
    /// # Errors
    /// [`ApiError`]; `DeadlineExceeded` if the build goes on behind.
    pub async fn rebuild(
        self: &Arc<Self>,
        call: RebuildCall,
        allowed: Duration,
    ) -> Result<v1::RebuildUserResponse, ApiError> {
        let namespace = self.named(&call.namespace)?;
        if !self.owns(call.user) {
            // Rule R7: what it does not follow it must not keep.
            let what = "the user belongs to another replica of the cluster; ask that one";
            return Err(ApiError::new(ErrorKind::InvalidArgument, what));
        }
        let began = Instant::now();
        let rows_before = self.metrics.rows_reread.total();
        let before = self.namespaces[namespace].rules.entry(call.user, None).generation;
        let mut tried: Option<Instant> = None;
        loop {
            let view = self.namespaces[namespace].rules.entry(call.user, None);
            if view.generation != before && !view.building {
                return Ok(v1::RebuildUserResponse {
                    entry: Some(entry_view(&view)),
                    rows_read: self.metrics.rows_reread.total() - rows_before,
                    duration_ms: began.elapsed().as_millis() as u64,
                });
            }
            if began.elapsed() >= allowed {
                let what = "no build ended in time; one that is under way goes on behind";
                return Err(ApiError::new(ErrorKind::DeadlineExceeded, what));
            }
            // The first time, and where it came to nothing: storage did not answer, or what it showed may
            // be too old (rule R2).
            if !view.building && tried.is_none_or(|at| at.elapsed() >= TRY_EVERY) {
                tried = Some(Instant::now());
                let input = Input::Rebuild { user: call.user };
                if let Outcome::Refused(_) = self.step(namespace, self.ticker.now(), input) {
                    let what = "the user's feed partition is not followed yet; try again";
                    return Err(ApiError::new(ErrorKind::Unavailable, what));
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
