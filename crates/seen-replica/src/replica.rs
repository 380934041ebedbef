//! One replica: its namespaces, the parts handed to it, and the effects of the rules carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use seen_api::Span;
use seen_filter::hash::{HashKey, VIRTUAL_SLOTS};
use seen_filter::history::HistorySize;
use seen_filter::{
    ChangeFeed, FeedId, History, Incarnation, NamespaceId, NamespaceSettings, SettingsError, Shard,
    Tick, UserId, VirtualSet, VirtualSlot,
};
use seen_proto::token::WildcardSource;

use crate::changes::Changes;
use crate::clock::Ticker;
use crate::figures::{Figures, SampleLimits};
use crate::metrics::{FeedMemory, Metrics, NamespaceMetrics};
use crate::rules::slots::OwnedSlots;
use crate::rules::{
    CacheBudget, Effect, Effects, Input, JOURNAL_ROW_BYTES, Outcome, RING_EVENT_BYTES, Rules,
    Settings,
};
use crate::settings::settings_digest;
use crate::storage::{self, BuildJob, FenceJob, StorageHandle, StorageLimits, StorageWork};

/// How a replica is made.
pub struct ReplicaOptions {
    /// The namespaces, numbered by their place.
    pub namespaces: Vec<NamespaceSettings>,
    /// The cluster's keyed hash.
    pub key: HashKey,
    /// Names the cluster that tokens belong to.
    pub cluster: u64,
    /// This process's life, drawn at random.
    pub incarnation: Incarnation,
    /// Where histories live.
    pub history: Arc<dyn History>,
    /// Where changes come from.
    pub feed: Arc<dyn ChangeFeed>,
    /// Memory and doubt.
    pub limits: ReplicaLimits,
    /// Queues and work at storage.
    pub storage: StorageLimits,
}

/// Bounds of one replica's memory and patience.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplicaLimits {
    /// Bytes of cached entries of all namespaces together.
    pub cache_bytes_max: u64,
    /// Bytes of each feed partition's ring.
    pub ring_bytes_max: usize,
    /// Bytes of each feed partition's journal.
    pub journal_bytes_max: usize,
    /// Rule R2's S, in microseconds; 0 for the embedded store.
    pub snapshot_lag_us_max: u64,
    /// A feed that has not proven itself fresh for this long is stale, in microseconds.
    pub feed_stale_us_max: u64,
    /// Most events that one build holds back; one more aborts it.
    pub pending_events_max: usize,
    /// Shortest time between two fences of one partition, in microseconds.
    pub fence_interval_us_min: u64,
    /// Most events of one step.
    pub feed_events_max: usize,
    /// True to write fences as heartbeats.
    pub heartbeat_fences: bool,
    /// The live figures.
    pub samples: SampleLimits,
}

impl Default for ReplicaLimits {
    fn default() -> Self {
        Self {
            cache_bytes_max: 1 << 30,
            ring_bytes_max: 8 << 20,
            journal_bytes_max: 16 << 20,
            snapshot_lag_us_max: 0,
            feed_stale_us_max: 5_000_000,
            pending_events_max: 4_096,
            fence_interval_us_min: 1_000_000,
            feed_events_max: 1_024,
            heartbeat_fences: false,
            samples: SampleLimits::default(),
        }
    }
}

/// One namespace at this replica.
pub(crate) struct Namespace {
    pub name: String,
    pub rules: Rules,
    pub metrics: NamespaceMetrics,
    /// What it took in storage when somebody last asked.
    pub size: Mutex<Option<HistorySize>>,
}

/// One replica. Shared by all serving threads; the handlers are in [`crate::service`].
pub struct Replica {
    pub(crate) namespaces: Vec<Namespace>,
    by_name: BTreeMap<String, usize>,
    pub(crate) history: Arc<dyn History>,
    pub(crate) feed: Arc<dyn ChangeFeed>,
    pub(crate) ticker: Ticker,
    pub(crate) started: Tick,
    pub(crate) incarnation: Incarnation,
    pub(crate) cluster: u64,
    pub(crate) key: HashKey,
    pub(crate) limits: ReplicaLimits,
    pub(crate) metrics: Metrics,
    pub(crate) figures: Figures,
    pub(crate) queues: StorageHandle,
    pub(crate) wildcards: WildcardSource,
    /// Whose users may be kept in memory.
    owned: OwnedSlots,
    draining: AtomicBool,
    running: AtomicU64,
    /// Feed partitions that could not be opened when they were first tried.
    unopened: Mutex<BTreeSet<FeedId>>,
    /// The users that each feed partition may carry.
    carried: BTreeMap<FeedId, VirtualSet>,
    /// Counts the changes of what is to be read.
    pub(crate) wants: Changes,
}

impl Replica {
    /// A replica and its storage side, which the caller runs on the storage runtime. Call it after
    /// the metrics recorder is installed, on a tokio runtime.
    ///
    /// # Errors
    /// [`SettingsError`] if a namespace's settings are out of range.
    pub fn new(options: ReplicaOptions) -> Result<(Arc<Self>, StorageWork), SettingsError> {
        let ticker = Ticker::start();
        let now = ticker.now();
        let (queues, work) = storage::queues(options.storage, options.feed.shards());
        let mut namespaces = Vec::new();
        let feeds = options.feed.feeds();
        let cache = Arc::new(CacheBudget::new(options.limits.cache_bytes_max));
        for (at, settings) in options.namespaces.iter().enumerate() {
            settings.validate()?;
            let id = NamespaceId::new(at as u16);
            let own: Vec<FeedId> =
                feeds.iter().filter(|feed| feed.namespace == id).copied().collect();
            let rules = Rules::new(
                rule_settings(&options, settings, Arc::clone(&cache)),
                options.key,
                &own,
                Rules::feed_of_source(Arc::clone(&options.feed), id),
                now,
            )
            .with_late_checks(options.history.check_lag_us_max());
            #[cfg(feature = "sabotage")]
            let rules = match seen_cluster::sabotage::taken().and_then(crate::rules::Rule::named) {
                Some(rule) => rules.sabotaged(rule),
                None => rules,
            };
            let metrics = NamespaceMetrics::new(&settings.name);
            let size = Mutex::default();
            namespaces.push(Namespace { name: settings.name.clone(), rules, metrics, size });
        }
        let carried = feeds.iter().map(|feed| (*feed, carried_by(&*options.feed, *feed))).collect();
        let by_name = namespaces.iter().enumerate().map(|(at, n)| (n.name.clone(), at)).collect();
        let replica = Self {
            namespaces,
            by_name,
            history: options.history,
            feed: options.feed,
            ticker,
            started: now,
            incarnation: options.incarnation,
            cluster: options.cluster,
            key: options.key,
            figures: Figures::new(options.limits.samples, options.incarnation.get()),
            limits: options.limits,
            metrics: Metrics::new(),
            queues,
            wildcards: WildcardSource::new(options.incarnation),
            owned: OwnedSlots::all(),
            draining: AtomicBool::new(false),
            running: AtomicU64::new(0),
            unopened: Mutex::default(),
            carried,
            wants: Changes::default(),
        };
        Ok((Arc::new(replica), work))
    }

    /// The clock that deadlines are counted on.
    pub fn ticker(&self) -> Ticker {
        self.ticker
    }

    /// True once every feed partition has said where it begins, so that users may be cached.
    pub fn following_all(&self) -> bool {
        self.namespaces.iter().all(|namespace| namespace.rules.following_all())
    }

    /// True once every feed partition that is to be read has said where it begins, or could not be opened. Users of the
    /// latter are answered by storage (coherence row 56): one part of storage that is away must not
    /// keep the others' users from being served. False while none is to be read.
    pub fn tried_all(&self) -> bool {
        let unopened = self.unopened.lock();
        let now = self.ticker.now();
        let lanes = self.namespaces.iter().flat_map(|namespace| namespace.rules.lanes(now));
        let (wanted, idle): (Vec<_>, Vec<_>) = lanes.partition(|lane| lane.wanted);
        let tried = wanted.iter().all(|lane| lane.following || unopened.contains(&lane.feed));
        tried && (!wanted.is_empty() || idle.is_empty())
    }

    /// A feed partition could not be opened.
    pub(crate) fn could_not_open(&self, feed: FeedId) {
        self.unopened.lock().insert(feed);
    }

    /// Says whose users may be kept in memory from now on: those that the map of slots gives to this replica, now or
    /// next (coherence rows 34 and 35). All others are answered by storage, right but slower. Until the first
    /// call, everybody's. Of a feed that is partitioned by users, only their share is read from then on: a partition
    /// that becomes wanted is opened at its head, and its users are kept once it has said where it begins (rule R7).
    pub fn own_slots(&self, slots: &VirtualSet) {
        self.owned.set(slots);
        let lanes = || self.carried.keys().filter_map(|feed| Some((feed, self.rules_of(*feed)?)));
        // What is wanted from the start on is waited for; later ones are read before their users are owned.
        let at_first = !lanes().any(|(feed, rules)| rules.wants(*feed));
        let since = if at_first { Tick::new(0) } else { self.ticker.now() };
        for (feed, rules) in lanes() {
            let carried = self.carried.get(feed).unwrap_or(&VirtualSet::NONE);
            rules.want(*feed, carried.meets(slots), since);
        }
        self.wants.tell();
    }

    /// True if a feed partition is to be read: users of it may be kept here.
    pub(crate) fn wants(&self, feed: FeedId) -> bool {
        self.rules_of(feed).is_some_and(|rules| rules.wants(feed))
    }

    fn rules_of(&self, feed: FeedId) -> Option<&Rules> {
        let namespace = self.namespaces.get(usize::from(feed.namespace.get()))?;
        Some(&namespace.rules)
    }

    /// Whose users may be kept in memory.
    pub fn owned_slots(&self) -> VirtualSet {
        self.owned.get()
    }

    /// True if this user may be kept in memory.
    #[inline]
    pub(crate) fn owns(&self, user: UserId) -> bool {
        self.owned.owns(|| self.key.slot_key(), user)
    }

    /// How old the view of the change feed is, of the partition that waits longest, in microseconds: what was committed
    /// before has come by. `None` until every partition has said where it begins.
    pub fn feed_lag_us(&self) -> Option<u64> {
        let now = self.ticker.now();
        let lags = self.namespaces.iter().map(|namespace| namespace.rules.feed_lag_us(now));
        lags.into_iter().try_fold(0, |longest, lag| Some(longest.max(lag?)))
    }

    /// Users in memory, of all namespaces.
    pub fn users(&self) -> u64 {
        self.namespaces.iter().map(|namespace| namespace.rules.totals().users).sum()
    }

    /// A number that two replicas share if, and only if, they hold the same namespaces in the same way; see
    /// [`settings_digest`].
    pub fn settings_digest(&self) -> u64 {
        settings_digest(self.namespaces.iter().map(|n| &n.rules.settings().namespace))
    }

    /// Says in every Status from now on that the process is ending.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Calls that wait for storage or stream at this moment; those answered from memory are over
    /// before anybody could count them.
    pub fn calls_running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// Counts a call as running until the guard is dropped.
    pub(crate) fn running(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Sampled "unread" answers that storage contradicted. Must stay 0.
    pub fn false_negatives(&self) -> u64 {
        self.namespaces.iter().map(|n| n.metrics.false_negatives.total()).sum()
    }

    pub(crate) fn namespace_index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// One step of a namespace's rules, its effects carried out.
    pub(crate) fn step(&self, namespace: usize, now: Tick, input: Input<'_>) -> Outcome {
        self.step_for(&Span::OFF, namespace, now, input)
    }

    /// The same on behalf of a call with this span, under which a build that it causes is shown.
    pub(crate) fn step_for(
        &self,
        cause: &Span,
        namespace: usize,
        now: Tick,
        input: Input<'_>,
    ) -> Outcome {
        let (outcome, effects) = self.namespaces[namespace].rules.step(now, input);
        if !effects.is_empty() {
            self.carry_out(cause, namespace, effects);
        }
        if let Outcome::Shed(entries) = outcome {
            self.metrics.evictions.increment(entries as u64);
        }
        outcome
    }

    fn carry_out(&self, cause: &Span, namespace: usize, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::StartBuild { user, generation, urgent } => {
                    let cause = cause.clone();
                    let job = BuildJob { namespace, user, generation, urgent, cause };
                    let queue = match urgent {
                        true => &self.queues.urgent_builds,
                        false => &self.queues.background_builds,
                    };
                    if let Err(refused) = queue.try_send(self.shard_of(namespace, user), job) {
                        self.metrics.builds_dropped.increment(1);
                        self.build_failed(&refused.into_inner());
                    }
                }
                Effect::WriteFence { feed, seq } => {
                    // A full queue loses the fence; another falls due.
                    let _ = self.queues.fences.try_send(feed.shard, FenceJob { feed, seq });
                }
                Effect::Doubted { feed, reason } => {
                    self.metrics.doubt(reason);
                    tracing::warn!(%feed, reason, "coherence in doubt: asking storage until rebuilt");
                }
            }
        }
    }

    /// The shard that keeps a user's history.
    pub(crate) fn shard_of(&self, namespace: usize, user: UserId) -> Shard {
        self.feed.feed_of(NamespaceId::new(namespace as u16), user).shard
    }

    /// Tells the rules that a build will not come.
    pub(crate) fn build_failed(&self, job: &BuildJob) {
        let input = Input::BuildFailed { user: job.user, generation: job.generation };
        // A failed build starts nothing, so that no effect is lost here.
        self.namespaces[job.namespace].rules.step(self.ticker.now(), input);
    }

    pub(crate) fn publish_gauges(&self, now: Tick) {
        for namespace in &self.namespaces {
            let totals = namespace.rules.totals();
            let lanes = namespace.rules.lanes(now);
            let journal_rows = lanes.iter().map(|lane| lane.journal_rows).sum();
            let ring_events: usize = lanes.iter().map(|lane| lane.ring_events).sum();
            let memory = FeedMemory {
                journal_rows,
                journal_bytes: journal_rows * JOURNAL_ROW_BYTES,
                journal_bytes_max: lanes.len().saturating_mul(self.limits.journal_bytes_max),
                ring_bytes: ring_events * RING_EVENT_BYTES,
                ring_bytes_max: lanes.len().saturating_mul(self.limits.ring_bytes_max),
            };
            let wanted = lanes.iter().filter(|lane| lane.wanted);
            let quiet_us = wanted.map(|lane| lane.quiet_us).max().unwrap_or(0);
            namespace.metrics.publish(totals.users, totals.bytes, &memory, quiet_us);
        }
    }
}

/// A call that is not yet answered.
pub(crate) struct Running(Arc<Replica>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The virtual slots of the users whose events may come by `feed`.
fn carried_by(source: &dyn ChangeFeed, feed: FeedId) -> VirtualSet {
    let slots = (0..VIRTUAL_SLOTS).map(VirtualSlot::new);
    slots.filter(|slot| source.carries(feed, *slot)).collect()
}

fn rule_settings(
    options: &ReplicaOptions,
    settings: &NamespaceSettings,
    cache: Arc<CacheBudget>,
) -> Settings {
    let limits = options.limits;
    Settings {
        namespace: settings.clone(),
        incarnation: options.incarnation,
        cache,
        pending_events_max: limits.pending_events_max,
        fence_interval_us_min: limits.fence_interval_us_min,
        ring_bytes_max: limits.ring_bytes_max,
        journal_bytes_max: limits.journal_bytes_max,
        snapshot_lag_us_max: limits.snapshot_lag_us_max,
        feed_stale_us_max: limits.feed_stale_us_max,
        heartbeat_fences: limits.heartbeat_fences,
        quiet_is_fresh: options.feed.is_source(),
    }
}
