//! The change feed of MySQL and MariaDB, read from the server's own binary log, as a replica would.
//!
//! Every reader has a connection of its own to its shard's primary, in a task of its own that fills a
//! bounded queue: `source` keeps the connection, `connect` and `facts` decide whether the log goes on
//! where reading stopped, `probe` doubts its heartbeats, `translate` turns the log's events into the feed's, and `reader` is the end
//! of the queue. `table`, `row`, `statement` and `gtid` take the log's bytes apart; nothing in them
//! can fail otherwise than by saying so.
//!
//! A position is the sequence number of a global transaction id, so that it means the same on a
//! promoted replica. Its timeline is made of the store's own one (`seen_store.timeline`, or the
//! database's name where there is no such table) and of whatever else numbers the transactions:
//! MariaDB's GTID domain, MySQL's server uuid or the name of its group. The stamps of what a MariaDB
//! server made are on a timeline of that server's. Where MySQL's numbers have no order, positions are the
//! reader's own count, on a timeline of its own. What is found to have been rewound (a restored copy,
//! `RESET MASTER`) is another timeline for the rest of the process.
//!
//! Not noticed: a copy that was restored and has reached the old position again before the reader
//! reconnects, if no fence had come by since the copy was made. XA transactions are told when they are
//! prepared; if one is then rolled back, or committed, the partition comes into doubt.

mod bytes;
mod connect;
mod event;
mod facts;
mod gtid;
mod lag;
mod meaning;
mod place;
mod probe;
mod reader;
mod row;
mod schemas;
mod source;
mod statement;
mod table;
mod translate;
#[cfg(feature = "trial")]
pub mod trial;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use seen_filter::hash::{HashKey, VIRTUAL_SLOTS};
use seen_filter::history::SeamFuture;
use seen_filter::{
    ChangeFeed, FeedError, FeedId, FeedLag, FeedReader, FeedStart, NamespaceId, Partition, Shard,
    StoreError, UserId, VirtualSlot,
};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::mysql::{Login, Name, ServerAddress, TableMapping};
use crate::request::{invalid, partition_of};

pub(crate) use gtid::SourceId;
use meaning::Subject;
pub(crate) use place::{cursor_after, made_by, mariadb_timeline, mysql_timeline};
use reader::BinlogReader;
use source::{ShardState, Shared};

/// What to follow, and how.
#[derive(Clone, Debug)]
pub struct BinlogOptions {
    /// Who one is at the servers. Needs `REPLICATION SLAVE` and `BINLOG MONITOR` (MySQL:
    /// `REPLICATION CLIENT`), and `SELECT` on the database.
    pub login: Login,
    /// What spreads users over shards.
    pub hash_key: HashKey,
    /// The shards, in their order; as many as users are spread over.
    pub shards: Vec<BinlogShard>,
    /// The tables, one a namespace; the same in every shard.
    pub tables: Vec<TableMapping>,
    /// How often an idle server says so, in milliseconds.
    pub heartbeat_ms: u64,
    /// How long a server may take until it begins to send its log, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Most events that a reader holds ready. All are of one size, [`EVENT_BYTES`].
    pub queue_events_max: usize,
}

/// What an event takes in a reader's queue.
pub const EVENT_BYTES: usize = size_of::<reader::Queued>();

/// One shard.
#[derive(Clone, Debug)]
pub struct BinlogShard {
    /// Its number.
    pub shard: Shard,
    /// Its database.
    pub database: Name,
    /// The server that takes its writes now; `None` while that is not known.
    pub primary: watch::Receiver<Option<ServerAddress>>,
    /// What the numbers of its table `seen_namespaces` mean in the configuration.
    /// Known by the time that the primary is; empty while the shard is not in use.
    pub namespace_ids: watch::Receiver<HashMap<u16, NamespaceId>>,
}

/// The feed of all namespaces and shards: one partition for each pair.
pub struct BinlogFeed {
    shared: Arc<Shared>,
    feeds: Vec<FeedId>,
}

impl BinlogFeed {
    /// A feed; nothing is connected before a reader is opened.
    ///
    /// # Errors
    /// `InvalidRequest` if the options contradict each other.
    pub fn new(options: BinlogOptions) -> Result<Arc<Self>, StoreError> {
        let shards = u16::try_from(options.shards.len()).unwrap_or(u16::MAX);
        if shards == 0 || shards > VIRTUAL_SLOTS {
            return Err(invalid(format!("{shards} shards (allowed: 1 to {VIRTUAL_SLOTS})")));
        }
        if options.heartbeat_ms == 0 || options.connect_timeout_ms == 0 {
            return Err(invalid("heartbeat_ms and connect_timeout_ms must be above 0".to_owned()));
        }
        let mut states = HashMap::new();
        let mut subjects = HashMap::new();
        let mut feeds = Vec::new();
        for (at, shard) in options.shards.iter().enumerate() {
            if usize::from(shard.shard.get()) != at {
                return Err(invalid(format!("shard {} is number {at} of the list", shard.shard)));
            }
            for mapping in &options.tables {
                let feed = FeedId::new(mapping.namespace, shard.shard, Partition::new(0));
                let subject = Subject {
                    database: shard.database.as_str().to_owned(),
                    mapping: mapping.clone(),
                    numbers: numbers_of(shard, mapping.namespace),
                    shard: shard.shard,
                    shards,
                    hash_key: options.hash_key,
                };
                if subjects.insert(feed, subject).is_some() {
                    let namespace = mapping.namespace;
                    return Err(invalid(format!("namespace {namespace} has two tables")));
                }
                feeds.push(feed);
            }
            let salt = watch::Sender::new(0);
            states.insert(shard.shard, ShardState { config: shard.clone(), salt });
        }
        let closed = watch::Sender::new(false);
        let lags = feeds.iter().map(|feed| (*feed, Arc::default())).collect();
        let shared = Arc::new(Shared { options, subjects, shards: states, lags, closed });
        Ok(Arc::new(Self { shared, feeds }))
    }

    /// Ends all readers; their next calls fail.
    pub fn close(&self) {
        self.shared.closed.send_replace(true);
    }

    async fn begin(
        shared: Arc<Shared>,
        feed: FeedId,
        start: FeedStart,
    ) -> Result<Box<dyn FeedReader>, FeedError> {
        if shared.is_closed() {
            return Err(source::closed());
        }
        if !shared.subjects.contains_key(&feed) {
            let message =
                format!("feed {feed} is unknown (one partition for each namespace and shard)");
            return Err(FeedError { message, retry_helps: false });
        }
        let (started, start_known) = oneshot::channel();
        let queue = source::spawn(&shared, feed, start, Some(started));
        // Finding the primary may take as long as connecting to it.
        let within = Duration::from_millis(shared.options.connect_timeout_ms.saturating_mul(2));
        let resume = match timeout(within, start_known).await {
            Ok(Ok(started)) => started?,
            Ok(Err(_)) => return Err(source::closed()),
            Err(_) => {
                let ms = within.as_millis();
                let message = format!("{feed}: no primary answered within {ms} ms");
                return Err(FeedError { message, retry_helps: true });
            }
        };
        Ok(Box::new(BinlogReader { shared, feed, queue, resume, trouble: None }))
    }
}

impl ChangeFeed for BinlogFeed {
    fn feeds(&self) -> Vec<FeedId> {
        self.feeds.clone()
    }

    fn feed_of(&self, namespace: NamespaceId, user: UserId) -> FeedId {
        let shard = partition_of(&self.shared.options.hash_key, user, self.shards());
        FeedId::new(namespace, Shard::new(shard.get()), Partition::new(0))
    }

    fn shards(&self) -> u16 {
        u16::try_from(self.shared.options.shards.len()).unwrap_or(u16::MAX)
    }

    fn lag(&self, feed: FeedId) -> Option<FeedLag> {
        self.shared.lags.get(&feed)?.told()
    }

    fn carries(&self, feed: FeedId, slot: VirtualSlot) -> bool {
        slot.range_of(self.shards()) == feed.shard.get()
    }

    fn open(
        &self,
        feed: FeedId,
        start: FeedStart,
    ) -> SeamFuture<'_, Result<Box<dyn FeedReader>, FeedError>> {
        Box::pin(Self::begin(Arc::clone(&self.shared), feed, start))
    }
}

/// The numbers of a shard's database that mean this namespace of the configuration.
fn numbers_of(shard: &BinlogShard, namespace: NamespaceId) -> Vec<u16> {
    let mut numbers: Vec<_> = shard
        .namespace_ids
        .borrow()
        .iter()
        .filter(|(_, of)| **of == namespace)
        .map(|(number, _)| *number)
        .collect();
    numbers.sort_unstable();
    numbers
}
