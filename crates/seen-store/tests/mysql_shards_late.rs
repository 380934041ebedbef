//! Shards that are not in reach when the store is opened: their own users wait, nobody else does, and
//! what they turn out to be is looked at before the first use.

#[allow(dead_code, reason = "shared by test programs, which use different parts")]
mod servers;
mod shard_world;

use std::time::Duration;

use seen_filter::history::PageRequest;
use seen_filter::{
    ChangeFeed, FeedEvent, FeedId, FeedStart, FenceSeq, History, Incarnation, Partition, Shard,
    StoreErrorKind, UserId,
};
use seen_store::{BinlogFeed, MySqlOptions, MySqlStore};
use seen_testbed::MariaDb;
use servers::{OnServer, sharded_options};
use shard_world::{NS, has, mark, opened, server, settings};

const USERS: u64 = 100;
/// How long anything awaited may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A store of four shards with marks in it, closed again; shards 1 and 3 are on the second server.
async fn closed_store(alive: &OnServer, other: &MariaDb) -> MySqlOptions {
    let options = MySqlOptions {
        connect_timeout_ms: 1_000,
        probe_interval_ms: 100,
        ..sharded_options(&[alive, other], 4)
    };
    let store = opened(&MySqlOptions { connect_timeout_ms: 20_000, ..options.clone() }).await;
    store.write((0..USERS).map(|user| mark(user, 1)).collect()).await.expect("marks");
    store.close().await;
    options
}

/// Users on the shards of the first server and of the second one.
fn by_server(store: &MySqlStore) -> (Vec<u64>, Vec<u64>) {
    (0..USERS).partition(|user| store.shard_of(UserId::new(*user)).get().is_multiple_of(2))
}

/// Waits until a user's mark is found.
async fn comes_back(store: &MySqlStore, user: u64) {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let found = async {
        while has(store, user, 1).await != Ok(true) {
            looks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("{:?}", store.status()));
}

/// What a call about a user of a shard that is not in use is told.
async fn told(store: &MySqlStore, user: u64) -> String {
    assert_eq!(has(store, user, 1).await, Err(StoreErrorKind::Unavailable), "user {user}");
    let refused = store.write(vec![mark(user, 2)]).await.expect_err("it is not in use");
    assert_eq!(refused.kind, StoreErrorKind::Unavailable, "{refused}");
    refused.message
}

/// A shard that is not in reach at the start, in whatever way, costs its own users their answers, and
/// nobody else; when it comes into reach, theirs are right, and its log is followed.
async fn absent_at_the_start(leave: impl Fn(&MariaDb), come: impl Fn(&MariaDb)) {
    let other = MariaDb::start().expect("a second server");
    let options = closed_store(&server(), &other).await;
    leave(&other);
    let store = MySqlStore::open(options, settings()).await.expect("opened without two shards");
    let feed = BinlogFeed::new(store.binlog_options().expect("a log")).expect("a feed");
    let (kept, lost) = by_server(&store);
    for user in &kept {
        assert_eq!(has(&store, *user, 1).await, Ok(true), "user {user}");
        store.write(vec![mark(*user, 2)]).await.expect("the others write");
    }
    for user in &lost[..5] {
        let said = told(&store, *user).await;
        assert!(said.contains("shard"), "{said}");
    }
    let troubled: Vec<bool> = store.status().iter().map(|one| one.trouble.is_some()).collect();
    assert_eq!(troubled, [false, true, false, true]);
    come(&other);
    comes_back(&store, lost[0]).await;
    let found = |user: u64| store.shard_of(UserId::new(user)) == Shard::new(1);
    let of_one = lost.iter().copied().find(|user| found(*user)).expect("a user of shard 1");
    comes_back(&store, of_one).await;
    let fed = FeedId::new(NS, Shard::new(1), Partition::new(0));
    let mut reader = feed.open(fed, FeedStart::Head).await.expect("followed");
    store.write(vec![mark(of_one, 3)]).await.expect("a mark");
    // Fences come by only if the numbers of the shard's namespaces are known.
    let (writer, seq) = (Incarnation::new(7), FenceSeq::new(9));
    store.fence(fed, vec![UserId::new(0)], writer, seq).await.expect("a fence");
    let mut told = (false, false);
    while told != (true, true) {
        let next = tokio::time::timeout(LIMIT, reader.next(100)).await.expect("in time");
        for event in next.expect("the feed goes on").events {
            match event {
                FeedEvent::Add { user, .. } => told.0 |= user == UserId::new(of_one),
                FeedEvent::Fence { writer: by, seq: number, .. } => {
                    told.1 |= (by, number) == (writer, seq);
                }
                _ => {}
            }
        }
    }
    for user in &lost {
        comes_back(&store, *user).await;
        assert_eq!(has(&store, *user, 2).await, Ok(false), "user {user}: a refused mark");
    }
    feed.close();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_dead_at_the_start_comes_later() {
    absent_at_the_start(|s| s.kill_9().expect("killed"), |s| s.restart().expect("restarted")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_silent_at_the_start_comes_later() {
    absent_at_the_start(|s| s.freeze().expect("frozen"), |s| s.thaw().expect("thawed")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_comes_later_and_is_wrong_stays_refused() {
    let other = MariaDb::start().expect("a second server");
    let options = closed_store(&server(), &other).await;
    let (first, second) = (&options.shards[1].database, &options.shards[3].database);
    let secret = other.sql(&format!("SELECT HEX(hash_secret) FROM {first}.seen_store"));
    let secret = secret.expect("a secret").trim().to_owned();
    other
        .sql(&format!("UPDATE {first}.seen_store SET hash_secret = REPEAT('x', 16)"))
        .expect("set");
    let newer = "INSERT INTO {}.seen_migrations SELECT 9999, description, installed_on, success, \
                 checksum, execution_time FROM {}.seen_migrations LIMIT 1"
        .replace("{}", second.as_str());
    other.sql(&newer).expect("set");
    other.kill_9().expect("killed");
    let store = MySqlStore::open(options.clone(), settings()).await.expect("opened");
    let (kept, lost) = by_server(&store);
    other.restart().expect("restarted");
    let of = |shard: u16| {
        let lives = |user: &u64| store.shard_of(UserId::new(*user)) == Shard::new(shard);
        lost.iter().copied().find(lives).expect("a user")
    };
    for (user, named) in [(of(1), "another store"), (of(3), "schema version 9999 is newer")] {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while !told(&store, user).await.contains(named) {
            looks.tick().await;
        }
        let page =
            PageRequest { namespace: NS, user: UserId::new(user), after: None, rows_max: 10 };
        let refused = store.page(page).await.expect_err(named);
        assert!(refused.message.contains("is refused"), "{refused}");
    }
    assert_eq!(has(&store, kept[0], 1).await, Ok(true));
    let mend = format!("UPDATE {first}.seen_store SET hash_secret = UNHEX('{secret}')");
    other.sql(&mend).expect("mended");
    comes_back(&store, of(1)).await;
    assert!(told(&store, of(3)).await.contains("is newer"));
    store.close().await;
    // Whoever starts while they are in reach is told at once.
    let refused = MySqlStore::open(options, settings()).await.err().expect("it is newer");
    assert!(refused.message.contains("9999"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_shard_nothing_starts() {
    let other = MariaDb::start().expect("a server");
    let mut options = sharded_options(&[&*other], 4);
    options.connect_timeout_ms = 1_000;
    other.kill_9().expect("killed");
    let refused = MySqlStore::open(options.clone(), settings()).await.err().expect("none is there");
    assert_eq!(refused.kind, StoreErrorKind::Unavailable);
    assert!(refused.message.contains("none of the 4 shards can be used"), "{refused}");
    assert!(refused.message.contains(&other.port().to_string()), "{refused}");
    let refused = MySqlStore::apply_schema(options, settings()).await.expect_err("none is there");
    assert_eq!(refused.kind, StoreErrorKind::Unavailable, "{refused}");
}

/// Nothing is made anywhere while one shard is away: half a store would be found by others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_store_needs_all_shards() {
    let other = MariaDb::start().expect("a second server");
    let mut options = sharded_options(&[&server(), &other], 2);
    options.connect_timeout_ms = 1_000;
    other.kill_9().expect("killed");
    let refused = MySqlStore::apply_schema(options.clone(), settings()).await;
    assert_eq!(refused.expect_err("one is away").kind, StoreErrorKind::Unavailable);
    let made = server().sql(&format!("SHOW TABLES IN {}", options.shards[0].database));
    assert_eq!(made.expect("a look"), "", "half a store was made");
}
