//! The store on MySQL, MariaDB and TiDB servers, in one database or in many logical shards.
//!
//! - Three classes of work have connections of their own, and a limit at the server as well as at the
//!   client: point checks, writes, and pages with other background work.
//! - Calls that come while commits are under way share the next one.
//! - A shard's primary is found by asking, and every answer proves in its own transaction that it
//!   came from there (coherence row 51).
//! - Positions of snapshots are known on TiDB only: MySQL's own binary log shows a commit before a
//!   fresh SELECT does (row 4). On the others rule R2 goes by time.

mod arguments;
mod cluster;
mod connection;
mod ddl;
mod dialect;
mod doctor;
mod errors;
mod finding;
mod foreign;
mod home;
mod late;
mod lease;
mod look;
mod map;
mod mapping;
mod numbering;
mod open;
mod options;
mod partitions;
mod plan;
mod pool;
mod primary;
mod read;
mod retry;
mod scan;
mod schema;
mod server;
mod shard;
mod sql;
mod standing;
mod tables;
mod tally;
pub(crate) mod tls;
mod trim;
mod upkeep;
mod verify;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;
use seen_filter::history::{
    Answers, Forgotten, HistorySize, Page, PageRequest, Question, RecentRequest, SeamFuture, Write,
};
use seen_filter::{
    CommitStamp, FeedId, FenceSeq, HashKey, History, Incarnation, NamespaceId, Scan, Shard,
    SnapshotId, StoreError, StoreErrorKind, UserId,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::binlog::{BinlogOptions, BinlogShard};
use crate::request::{self, fence_users, invalid, partition_of};
use plan::FenceRow;
use shard::{Job, ShardStore, submit};
use tables::Tables;
use upkeep::Upkeep;

pub(crate) use ddl::PARTITIONS_MARK;
pub use ddl::ROCKSDB_CF_OPTIONS;
pub use dialect::{Dialect, ServerFacts};
pub use doctor::{ACTIVE_USERS, Examination, ExamineOptions, LengthEstimate, WantedFeed};
pub use finding::{Finding, Severity};
pub use mapping::{KindColumn, NAME_CHARACTERS_MAX, Name, TableMapping, TimeUnit};
pub use options::{Engine, MySqlOptions, SHARDS_MAX, ShardServers};
pub use retry::RetryBudget;
pub use schema::{SchemaPlan, SchemaStep};
pub use server::{ClientIdentity, Login, PORT_DEFAULT, PasswordSource, ServerAddress, Tls};
pub use standing::{Primary, Standing};
pub use upkeep::UpkeepReport;
pub use verify::Placement;

/// How often an idle server's binary log says that it is idle, in milliseconds.
const FEED_HEARTBEAT_MS: u64 = 200;
/// Events of one feed that are read ahead.
const FEED_QUEUE_EVENTS_MAX: usize = 16_384;

/// The store on database servers. Works on whatever runtime it is opened on: its tasks live there
/// until [`MySqlStore::close`], or until it is dropped.
pub struct MySqlStore {
    options: Arc<MySqlOptions>,
    shards: Vec<Arc<ShardStore>>,
    tables: Arc<Tables>,
    hash_key: HashKey,
    dialect: Dialect,
    budget: Arc<RetryBudget>,
    jobs: Mutex<Vec<mpsc::Sender<Job>>>,
    upkeep: Vec<Arc<Upkeep>>,
    shutdown: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What one shard looks like from here.
#[derive(Clone, Debug)]
pub struct ShardStatus {
    /// The shard.
    pub shard: Shard,
    /// Whether it has a primary.
    pub standing: Standing,
    /// Why it is not in use, whether it has a primary or not; `None` while it is.
    pub trouble: Option<StoreError>,
    /// True while commits there wait for no replica though semi-synchronous replication is switched on.
    pub waits_for_nobody: bool,
    /// Connections that no work holds: for checks, writes and pages.
    pub free_connections: [usize; 3],
}

impl MySqlStore {
    /// Refuses further calls, commits what was accepted, and ends every task and connection. Closing
    /// twice is no error.
    pub async fn close(&self) {
        drop(std::mem::take(&mut *self.jobs.lock()));
        let tasks = std::mem::take(&mut *self.tasks.lock());
        self.shutdown.send_replace(true);
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the store failed");
            }
        }
        for upkeep in &self.upkeep {
            upkeep.give_up().await;
        }
        for shard in &self.shards {
            shard.close().await;
        }
    }

    /// The secret that users and items are hashed with: the whole cluster's.
    pub fn hash_key(&self) -> HashKey {
        self.hash_key
    }

    /// What kind of servers these are.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The logical shard that holds a user.
    pub fn shard_of(&self, user: UserId) -> Shard {
        let shards = u16::try_from(self.shards.len()).unwrap_or(u16::MAX);
        Shard::new(partition_of(&self.hash_key, user, shards).get())
    }

    /// How every shard stands.
    pub fn status(&self) -> Vec<ShardStatus> {
        let of_shard = |shard: &Arc<ShardStore>| ShardStatus {
            shard: shard.shard,
            standing: shard.primary.standing(),
            trouble: shard.primary.trouble(),
            waits_for_nobody: shard.primary.group().waits_for_nobody(),
            free_connections: [shard.checks.free(), shard.writes.free(), shard.pages.free()],
        };
        self.shards.iter().map(of_shard).collect()
    }

    /// One round of background work now, beside those that come by themselves, on every shard whose
    /// lease this store holds or can have. Returns what it did.
    ///
    /// # Errors
    /// The first that a step failed with; every other step was tried, too.
    pub async fn upkeep_now(&self) -> Result<UpkeepReport, StoreError> {
        let mut report = UpkeepReport::default();
        let mut failed = None;
        for upkeep in &self.upkeep {
            match upkeep.now(true).await {
                Ok(done) => report.add(done),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(report), Err)
    }

    /// Calls at storage, and attempts beyond the first that the retry budget granted.
    pub fn attempts(&self) -> (u64, u64) {
        self.budget.counts()
    }

    /// The shards, as whoever tells of their changes has to know them.
    pub fn change_sources(&self) -> Vec<BinlogShard> {
        let of_shard = |shard: &Arc<ShardStore>| BinlogShard {
            shard: shard.shard,
            database: shard.primary.database.clone(),
            primary: shard.primary.address(),
            namespace_ids: shard.primary.numbers(),
        };
        self.shards.iter().map(of_shard).collect()
    }

    /// The tables, one a namespace.
    pub fn mappings(&self) -> Vec<TableMapping> {
        self.tables.iter().map(|table| table.mapping.clone()).collect()
    }

    /// The stamp of a commit of a TiDB cluster; `None` on other servers, or once numbers have gone back.
    pub fn cluster_stamp(&self, shard: Shard, commit_ts: u64) -> Option<CommitStamp> {
        if self.dialect != Dialect::TiDb {
            return None;
        }
        self.shards.get(usize::from(shard.get()))?.cluster_stamp(commit_ts)
    }

    /// How the servers' binary logs are followed; `None` on servers that keep none (TiDB).
    pub fn binlog_options(&self) -> Option<BinlogOptions> {
        if self.dialect == Dialect::TiDb {
            return None;
        }
        Some(BinlogOptions {
            login: self.options.login.clone(),
            hash_key: self.hash_key,
            shards: self.change_sources(),
            tables: self.mappings(),
            heartbeat_ms: FEED_HEARTBEAT_MS,
            connect_timeout_ms: self.options.connect_timeout_ms,
            queue_events_max: FEED_QUEUE_EVENTS_MAX,
        })
    }

    fn of(&self, user: UserId) -> Result<&Arc<ShardStore>, StoreError> {
        let shard = self.shard_of(user);
        let found = self.shards.get(usize::from(shard.get()));
        found.ok_or_else(|| {
            invalid(format!("user {user} belongs to shard {shard}, which is not there"))
        })
    }

    fn jobs(&self, shard: Shard) -> Result<mpsc::Sender<Job>, StoreError> {
        self.jobs.lock().get(usize::from(shard.get())).cloned().ok_or_else(pool::closed)
    }

    async fn write_all(&self, writes: Vec<Write>) -> Result<Option<CommitStamp>, StoreError> {
        request::writes(&writes, self.tables.len())?;
        for write in &writes {
            plan::check(self.tables.get(write.namespace)?, write)?;
        }
        let mut parts: BTreeMap<Shard, Vec<Write>> = BTreeMap::new();
        for write in writes {
            parts.entry(self.shard_of(write.user)).or_default().push(write);
        }
        let mut waiting = Vec::with_capacity(parts.len());
        for (shard, writes) in parts {
            let rows = writes.iter().map(|write| write.items.len()).sum();
            let jobs = self.jobs(shard)?;
            let pending_writes_max = self.options.pending_writes_max;
            // Not in a task of its own: a caller that goes away takes its writes out of the queue.
            waiting.push(async move {
                submit(&jobs, pending_writes_max, |ack| Job::Write { writes, rows, ack }).await
            });
        }
        let is_one = waiting.len() == 1;
        let mut stamp = None;
        let mut failed = None;
        let mut committed = 0;
        for part in join_all(waiting).await {
            match part {
                Ok(of_part) => {
                    committed += 1;
                    stamp = of_part.filter(|_| is_one);
                }
                // What may have been committed somewhere is the news that counts.
                Err(error) => {
                    let open = |known: &StoreError| known.kind == StoreErrorKind::OutcomeUnknown;
                    failed = Some(failed.filter(open).unwrap_or(error));
                }
            }
        }
        match failed {
            None => Ok(stamp),
            Some(error) if committed == 0 => Err(error),
            // Of several shards some have committed: the caller must take all for written.
            Some(error) => Err(StoreError::new(
                StoreErrorKind::OutcomeUnknown,
                format!("written to some shards only: {}", error.message),
            )),
        }
    }

    async fn check_all(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
        late_until: Option<Instant>,
    ) -> Result<Answers, StoreError> {
        request::questions(&questions)?;
        self.tables.get(namespace)?;
        if let [shard] = self.shards.as_slice() {
            return shard.check(namespace, questions, late_until).await;
        }
        let mut found = vec![Vec::new(); questions.len()];
        let mut parts: BTreeMap<Shard, (Vec<usize>, Vec<Question>)> = BTreeMap::new();
        for (place, question) in questions.into_iter().enumerate() {
            let part = parts.entry(self.shard_of(question.user)).or_default();
            part.0.push(place);
            part.1.push(question);
        }
        let mut snapshot = SnapshotId { primary: Default::default(), lower_bound: None };
        let is_one = parts.len() == 1;
        for (shard, (places, questions)) in parts {
            let shard = self.shards.get(usize::from(shard.get())).ok_or_else(pool::closed)?;
            let answers = shard.check(namespace, questions, late_until).await?;
            // Each shard numbers its own commits.
            snapshot = answers.snapshot;
            snapshot.lower_bound = snapshot.lower_bound.filter(|_| is_one);
            for (place, answer) in places.into_iter().zip(answers.found) {
                found[place] = answer;
            }
        }
        Ok(Answers { found, snapshot })
    }
}

impl History for MySqlStore {
    fn page(&self, request: PageRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move {
            request::page_rows(request.rows_max)?;
            self.tables.get(request.namespace)?;
            self.of(request.user)?.page(request).await
        })
    }

    fn recent(&self, request: RecentRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move {
            request::page_rows(request.rows_max)?;
            let table = self.tables.get(request.namespace)?;
            if !table.settings.time_index {
                return Err(request::not_kept(&table.settings.name));
            }
            self.of(request.user)?.recent(request).await
        })
    }

    fn check(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> SeamFuture<'_, Result<Answers, StoreError>> {
        Box::pin(self.check_all(namespace, questions, None))
    }

    fn check_lag_us_max(&self) -> u64 {
        self.late_lag_ms() * 1_000
    }

    fn check_late(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> SeamFuture<'_, Result<Answers, StoreError>> {
        Box::pin(self.check_all(namespace, questions, self.late_until()))
    }

    fn write(&self, writes: Vec<Write>) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        Box::pin(self.write_all(writes))
    }

    fn forget(
        &self,
        namespace: NamespaceId,
        user: UserId,
    ) -> SeamFuture<'_, Result<Forgotten, StoreError>> {
        Box::pin(async move {
            plan::check_writable(self.tables.get(namespace)?)?;
            self.jobs(Shard::new(0))?;
            self.of(user)?.forget(namespace, user).await
        })
    }

    fn fence(
        &self,
        feed: FeedId,
        users: Vec<UserId>,
        writer: Incarnation,
        seq: FenceSeq,
    ) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        Box::pin(async move {
            self.tables.get(feed.namespace)?;
            if usize::from(feed.shard.get()) >= self.shards.len() {
                return Err(invalid(format!(
                    "feed {feed} is unknown (this store has shards 0 to {})",
                    self.shards.len() - 1
                )));
            }
            fence_users(&users)?;
            let jobs = self.jobs(feed.shard)?;
            let fence = FenceRow { feed, users, writer, seq };
            submit(&jobs, self.options.pending_writes_max, |ack| Job::Fence { fence, ack }).await
        })
    }

    fn head(&self, shard: Shard) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        Box::pin(async move {
            // A binary log's numbers go back with a restored backup; a cluster's timestamps do not.
            if self.dialect != Dialect::TiDb {
                return Ok(None);
            }
            let number = Scan::position(self, shard).await?.and_then(|position| position.number);
            Ok(number.and_then(|number| self.cluster_stamp(shard, number)))
        })
    }

    fn size(&self, namespace: NamespaceId) -> SeamFuture<'_, Result<HistorySize, StoreError>> {
        Box::pin(async move {
            self.tables.get(namespace)?;
            let mut all = HistorySize { exact: true, ..HistorySize::default() };
            for shard in &self.shards {
                let one = shard.size(namespace).await?;
                all.rows += one.rows;
                all.rows_bytes += one.rows_bytes;
                all.exact &= one.exact;
                let sum = |one: u64| one + all.time_index_bytes.unwrap_or(0);
                all.time_index_bytes = one.time_index_bytes.map(sum);
            }
            Ok(all)
        })
    }
}
