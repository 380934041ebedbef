//! Real MySQL replication groups: which member takes the writes, what a crash of it loses (nothing that
//! was acknowledged), and a feed over numbers that come from several blocks.

mod faults;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use faults::{
    TABLE, all_free, answered, eventually, ids_at, mark, marking, migrate, open, options,
    works_again,
};
use seen_filter::{ChangeFeed, FeedEvent, FeedReader, FeedStart, History, StoreErrorKind};
use seen_store::mysql::Standing;
use seen_store::{BinlogFeed, MySqlStore};
use seen_testbed::{Mysql, MysqlBuilder};

/// The first member of a group, with the database and the user; nothing, loudly, without a MySQL.
fn first(arguments: &[&str]) -> Option<Mysql> {
    faults::mysql_by(Mysql::builder().arguments(arguments).in_group_with(None))
}

fn joined(member: &Mysql, arguments: &[&str]) -> Mysql {
    let builder: MysqlBuilder<'_> = Mysql::builder().arguments(arguments);
    builder.in_group_with(Some(member)).start().expect("a member")
}

async fn primary_at(store: &MySqlStore, ports: &[u16]) -> u16 {
    eventually("the primary is found", async || match &store.status()[0].standing {
        Standing::One(primary) if ports.contains(&primary.address.port) => Ok(primary.address.port),
        other => Err(format!("{other:?}")),
    })
    .await
}

/// What a feed has told.
#[derive(Debug, Default)]
struct Told {
    adds: BTreeSet<(u64, u64)>,
    gaps: Vec<&'static str>,
}

impl Told {
    /// Reads on until an item of a user comes by.
    async fn until(&mut self, reader: &mut Box<dyn FeedReader>, user: u64, id: u64) {
        let reading = async {
            while !self.adds.contains(&(user, id)) {
                // Its troubles are those of the servers.
                let Ok(batch) = reader.next(100).await else { continue };
                for event in batch.events {
                    match event {
                        FeedEvent::Add { user, item, .. } => {
                            self.adds.insert((user.get(), item.id.get()));
                        }
                        FeedEvent::Gap { reason, .. } => self.gaps.push(reason),
                        _ => {}
                    }
                }
            }
        };
        let in_time = tokio::time::timeout(faults::LIMIT, reading).await;
        in_time.unwrap_or_else(|_| panic!("{id} of {user} does not come by: {:?}", self.gaps));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_loses_nothing_acknowledged_with_its_primary() {
    let Some(one) = first(&[]) else { return };
    let others = [joined(&one, &[]), joined(&one, &[])];
    let all = [one.port(), others[0].port(), others[1].port()];
    let options = options(&all);
    migrate(&options).await;
    let store = open(&options).await;
    assert_eq!(primary_at(&store, &all).await, one.port());
    let feed = BinlogFeed::new(store.binlog_options().expect("a log")).expect("a feed");
    let mut reader = feed.open(feed.feeds()[0], FeedStart::Head).await.expect("followed");
    works_again(&store, 1).await;
    let mut told = Told::default();
    told.until(&mut reader, 1, 1).await;
    assert_eq!(told.gaps, [""; 0], "the group's name is the source of its numbers");

    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (10..18).map(|user| (user, marking(&store, user, &stop))).collect();
    eventually("marks are under way", async || {
        let rows = one.sql(&format!("SELECT COUNT(*) FROM {TABLE}")).expect("rows");
        (rows.trim().parse::<u64>().expect("a number") > 100).then_some(()).ok_or(rows)
    })
    .await;
    one.kill_9().expect("killed");
    let ports = [others[0].port(), others[1].port()];
    let now = primary_at(&store, &ports).await;
    let primary = others.iter().find(|server| server.port() == now).expect("a member");
    works_again(&store, 3).await;
    stop.store(true, Ordering::Relaxed);
    for (user, task) in tasks {
        let acknowledged = answered("marks", task).await.expect("no other error");
        let stored = ids_at(primary, user);
        let lost: Vec<_> = acknowledged.iter().filter(|id| !stored.contains(id)).collect();
        assert!(lost.is_empty(), "user {user}: acknowledged and lost: {lost:?}");
        assert!(!acknowledged.is_empty());
    }
    told.until(&mut reader, 3, 1).await;
    let after_failover = told.gaps.len();
    // Whatever doubt there was, it is over: what comes now comes without one.
    for id in 100..150 {
        store.write(mark(4, [id])).await.expect("a mark");
    }
    told.until(&mut reader, 4, 149).await;
    assert!((100..150).all(|id| told.adds.contains(&(4, id))), "{:?}", told.gaps);
    assert_eq!(told.gaps.len(), after_failover, "{:?}", told.gaps);
    eprintln!("doubts of the failover: {:?}", told.gaps);

    // The old primary comes back as one of the others.
    one.restart().expect("restarted");
    one.join_group(primary).expect("a member again");
    works_again(&store, 5).await;
    assert_eq!(primary_at(&store, &all).await, now);
    // Handed over, in order.
    let uuid = one.sql("SELECT @@server_uuid").expect("an id");
    let hand_over = format!("SELECT group_replication_set_as_primary('{}')", uuid.trim());
    primary.sql(&hand_over).expect("handed over");
    assert_eq!(primary_at(&store, &[one.port()]).await, one.port());
    works_again(&store, 6).await;
    told.until(&mut reader, 6, 1).await;
    feed.close();
    all_free(&store, [2; 3]).await;
}

/// Members that all take writes number from blocks of their own. Such a group is one doubt, when the
/// second block comes by, and none for each commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_several_blocks_are_one_doubt() {
    let every = [
        "--loose-group-replication-single-primary-mode=OFF",
        "--loose-group-replication-enforce-update-everywhere-checks=ON",
    ];
    let Some(one) = first(&every) else { return };
    let other = joined(&one, &every);
    migrate(&options(&[one.port()])).await;
    let store = open(&options(&[one.port()])).await;
    let feed = BinlogFeed::new(store.binlog_options().expect("a log")).expect("a feed");
    let mut reader = feed.open(feed.feeds()[0], FeedStart::Head).await.expect("followed");
    let mut told = Told::default();
    for round in 0..20 {
        store.write(mark(1, [round])).await.expect("a mark");
        other.sql(&format!("INSERT INTO {TABLE} VALUES (2, 1, {round}, 5)")).expect("a row");
        told.until(&mut reader, 1, round).await;
        told.until(&mut reader, 2, round).await;
    }
    assert_eq!(told.gaps, ["numbers_skipped"]);
    let set = one.sql("SELECT @@GLOBAL.gtid_executed").expect("numbers");
    assert!(set.trim().split(':').count() > 2, "they have an order after all: {set}");
    // A reader that begins now knows it from the beginning.
    let mut later = feed.open(feed.feeds()[0], FeedStart::Head).await.expect("followed");
    let mut anew = Told::default();
    for round in 100..105 {
        other.sql(&format!("INSERT INTO {TABLE} VALUES (2, 1, {round}, 5)")).expect("a row");
        store.write(mark(1, [round])).await.expect("a mark");
        anew.until(&mut later, 1, round).await;
        anew.until(&mut later, 2, round).await;
    }
    assert_eq!(anew.gaps, [""; 0]);
    // As candidates of one shard both are writable, which is refused: one of them must be named.
    let both = options(&[one.port(), other.port()]);
    let refused = MySqlStore::open(both, faults::plain()).await.err().expect("two primaries");
    assert_eq!(refused.kind, StoreErrorKind::Unavailable, "{refused}");
    assert!(refused.message.contains("several of its servers take writes"), "{refused}");
    feed.close();
    store.close().await;
}
