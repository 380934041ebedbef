//! A database on a real server, a feed that follows it, and shorthands for both.

#![allow(dead_code, reason = "every test file uses a part of it")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use seen_filter::feed::FeedBatch;
use seen_filter::hash::HashKey;
use seen_filter::{
    ChangeFeed, CommitStamp, FeedCursor, FeedError, FeedEvent, FeedId, FeedReader, FeedStart,
    FenceSeq, Incarnation, Item, NamespaceId, NamespaceSettings, Partition, Shard, UserId,
};
use seen_store::binlog::{BinlogFeed, BinlogOptions, BinlogShard};
use seen_store::mysql::{Login, Name, PasswordSource, ServerAddress, TableMapping, Tls};
use tokio::sync::watch;

/// How often idle servers say so in tests.
pub const HEARTBEAT_MS: u64 = 100;
/// The number of the namespace in the database; the configuration's is 0.
pub const NUMBER: u16 = 3;

const OWN_TABLE: &str = "CREATE TABLE history_first (user_id BIGINT UNSIGNED NOT NULL, \
    kind TINYINT UNSIGNED NOT NULL, item_id BIGINT UNSIGNED NOT NULL, \
    marked_at_ms BIGINT UNSIGNED NOT NULL, PRIMARY KEY (user_id, kind, item_id)) ENGINE = InnoDB";

/// A number that no other test of this binary has.
pub fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::SeqCst)
}

/// A database and its feed.
pub struct World {
    pub database: String,
    pub primary: watch::Sender<Option<ServerAddress>>,
    pub feed: Arc<BinlogFeed>,
    pub conn: Conn,
}

pub fn address(port: u16) -> ServerAddress {
    ServerAddress { host: "127.0.0.1".to_owned(), port }
}

pub async fn connect(port: u16) -> Conn {
    let how = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some("root"))
        .prefer_socket(false);
    Conn::new(how).await.expect("a connection")
}

pub fn own_mapping() -> TableMapping {
    TableMapping::own(&NamespaceSettings::new(NamespaceId::new(0), "first")).expect("a mapping")
}

impl World {
    /// A new database with the project's own table.
    pub async fn new(port: u16) -> Self {
        Self::with(port, OWN_TABLE, own_mapping()).await
    }

    /// A new database with this table.
    pub async fn with(port: u16, table: &str, mapping: TableMapping) -> Self {
        let database = format!("world_{}", fresh());
        let mut conn = connect(port).await;
        let store = include_str!("../../../../migrations/mysql/0001_store.sql");
        let timeline = 1_000 + fresh();
        for sql in [
            &format!("CREATE DATABASE {database}"),
            &format!("USE {database}"),
            store,
            &format!("INSERT INTO seen_store VALUES (1, 0, 1, REPEAT('x', 16), {timeline}, 0, 1)"),
            table,
        ] {
            conn.query_drop(sql).await.expect(sql);
        }
        Self::over(database, port, conn, mapping)
    }

    /// A feed of a database that is there.
    pub fn over(database: String, port: u16, conn: Conn, mapping: TableMapping) -> Self {
        let primary = watch::Sender::new(Some(address(port)));
        let feed = feed(options(&database, &primary, mapping));
        Self { database, primary, feed, conn }
    }

    pub async fn sql(&mut self, sql: &str) {
        self.conn.query_drop(sql).await.expect(sql);
    }

    /// Adds rows of kind 1 by hand, in one transaction.
    pub async fn add(&mut self, user: u64, items: impl IntoIterator<Item = u64>) {
        let rows: Vec<_> = items.into_iter().map(|id| format!("({user}, 1, {id}, 5)")).collect();
        self.sql(&format!("INSERT INTO history_first VALUES {}", rows.join(", "))).await;
    }

    pub async fn remove(&mut self, user: u64, item: u64) {
        let row = format!("user_id = {user} AND kind = 1 AND item_id = {item}");
        self.sql(&format!("DELETE FROM history_first WHERE {row}")).await;
    }

    pub async fn open(&self, start: FeedStart) -> Box<dyn FeedReader> {
        self.feed.open(feed_id(), start).await.expect("a reader")
    }

    /// A reader that has told the head.
    pub async fn at_head(&self) -> Box<dyn FeedReader> {
        let mut reader = self.open(FeedStart::Head).await;
        let first = next(&mut reader, 10).await;
        assert!(matches!(first.events[..], [FeedEvent::Complete { .. }]), "{first:?}");
        reader
    }

    /// Writes a fence and reads until it comes back; what came before it.
    pub async fn drain(&mut self, reader: &mut Box<dyn FeedReader>) -> Vec<FeedEvent> {
        let writer = fresh();
        let sql = format!("INSERT INTO seen_control VALUES (77, {NUMBER}, {writer}, 1, 0)");
        self.sql(&sql).await;
        let fence = (Incarnation::new(writer), FenceSeq::new(1));
        let mut events = Vec::new();
        loop {
            // One at a time: what follows the fence is left in the reader.
            for event in next_at_last(reader, 1).await.events {
                match event {
                    FeedEvent::Fence { writer, seq, .. } if (writer, seq) == fence => {
                        return events;
                    }
                    event => events.push(event),
                }
            }
        }
    }
}

pub fn feed_id() -> FeedId {
    FeedId::new(NamespaceId::new(0), Shard::new(0), Partition::new(0))
}

/// What follows one shard.
pub fn options(
    database: &str,
    primary: &watch::Sender<Option<ServerAddress>>,
    mapping: TableMapping,
) -> BinlogOptions {
    let namespace = mapping.namespace;
    let shard = BinlogShard {
        shard: Shard::new(0),
        database: Name::new("database", database).expect("a name"),
        primary: primary.subscribe(),
        namespace_ids: watch::channel(HashMap::from([(NUMBER, namespace)])).1,
    };
    let password = PasswordSource::None;
    BinlogOptions {
        login: Login { user: "root".to_owned(), password, tls: Tls::Off },
        hash_key: HashKey::new(1, [1; 16]),
        shards: vec![shard],
        tables: vec![mapping],
        heartbeat_ms: HEARTBEAT_MS,
        connect_timeout_ms: 20_000,
        queue_events_max: 64,
    }
}

pub fn feed(options: BinlogOptions) -> Arc<BinlogFeed> {
    BinlogFeed::new(options).expect("a feed")
}

pub async fn next(reader: &mut Box<dyn FeedReader>, events_max: usize) -> FeedBatch {
    let batch = reader.next(events_max).await.expect("a batch");
    assert!(batch.events.len() <= events_max);
    batch
}

/// The next events, over whatever trouble the connection has meanwhile.
pub async fn next_at_last(reader: &mut Box<dyn FeedReader>, events_max: usize) -> FeedBatch {
    loop {
        match reader.next(events_max).await {
            Ok(batch) => return batch,
            Err(FeedError { retry_helps: true, .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads until an event fits, over all troubles; all events, that one last.
pub async fn until(
    reader: &mut Box<dyn FeedReader>,
    fits: impl Fn(&FeedEvent) -> bool,
) -> Vec<FeedEvent> {
    let mut events = Vec::new();
    loop {
        for event in next_at_last(reader, 1).await.events {
            events.push(event);
            if fits(&event) {
                return events;
            }
        }
    }
}

/// True for the add of a user's item of kind 1.
pub fn adds(user: u64, item: u64) -> impl Fn(&FeedEvent) -> bool {
    let expected = (UserId::new(user), Item::new(1, item));
    move |event| matches!(event, FeedEvent::Add { user, item, .. } if (*user, *item) == expected)
}

/// What was told of rows: `+user/kind:item` and `-user/kind:item`, and gaps by their reasons.
pub fn told(events: &[FeedEvent]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match event {
            FeedEvent::Add { user, item, .. } => Some(format!("+{user}/{item}")),
            FeedEvent::Remove { user, item, .. } => Some(format!("-{user}/{item}")),
            FeedEvent::Gap { scope: seen_filter::GapScope::User(user), reason } => {
                Some(format!("?{user} {reason}"))
            }
            FeedEvent::Gap { reason, .. } => Some(format!("? {reason}")),
            FeedEvent::Forgotten { user, epoch, .. } => Some(format!("forgotten {user} {epoch}")),
            FeedEvent::Fence { writer, seq, .. } => Some(format!("fence {writer} {seq}")),
            _ => None,
        })
        .collect()
}

pub fn stamp(event: &FeedEvent) -> Option<CommitStamp> {
    match *event {
        FeedEvent::Add { stamp, .. }
        | FeedEvent::Remove { stamp, .. }
        | FeedEvent::Forgotten { stamp, .. }
        | FeedEvent::Fence { stamp, .. }
        | FeedEvent::Complete { stamp } => Some(stamp),
        _ => None,
    }
}

/// Where a reader is, by what it said last.
pub async fn cursor(reader: &mut Box<dyn FeedReader>) -> FeedCursor {
    loop {
        let batch = next_at_last(reader, 100).await;
        if batch.caught_up {
            return batch.resume;
        }
    }
}
