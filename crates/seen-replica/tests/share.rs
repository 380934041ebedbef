//! Replicas that own a share of the users read that share of the change feed, and miss nothing when it changes.

#[allow(dead_code, reason = "each test uses its part")]
mod stage;

use seen_filter::{ChangeFeed, NamespaceId, UserId, VirtualSet};
use seen_store::MemoryStore;
use tokio::time::{Duration, sleep};

use stage::{Node, store, until};

/// The virtual slots of these users.
fn slots(store: &MemoryStore, users: &[u64]) -> VirtualSet {
    let key = store.hash_key();
    users.iter().map(|user| key.virtual_slot(UserId::new(*user))).collect()
}

/// The partitions that are read.
fn read(node: &Node) -> Vec<u32> {
    let status = node.replica.status("test");
    let read = status.partitions.iter().filter(|partition| partition.following);
    read.filter_map(|partition| partition.feed.as_ref().map(|feed| feed.partition)).collect()
}

fn partition(store: &MemoryStore, user: u64) -> u32 {
    let feed = store.feed_of(NamespaceId::new(0), UserId::new(user));
    u32::from(feed.partition.get())
}

/// A user of another partition than `user`'s.
fn far_from(store: &MemoryStore, user: u64) -> u64 {
    let far = |other: &u64| partition(store, *other) != partition(store, user);
    (0..1_000).find(far).expect("four partitions")
}

#[tokio::test(start_paused = true)]
async fn only_the_partitions_of_the_own_users_are_read() {
    let store = store();
    let node = Node::open(&store, 1).await;
    assert_eq!(read(&node), [0, 1, 2, 3], "without a map all users are its own");
    let far = far_from(&store, 7);

    node.replica.own_slots(&slots(&store, &[7]));
    until(|| read(&node).len() == 1).await;
    assert_eq!(read(&node), [partition(&store, 7)]);
    assert!(node.replica.following_all() && node.replica.tried_all());
    let problems = node.replica.status("test").problems;
    assert!(problems.is_empty(), "a partition that nobody wants is none: {problems:?}");

    // The map gives it another one: its partition is read before its users are kept.
    node.replica.own_slots(&slots(&store, &[7, far]));
    assert!(!node.replica.tried_all(), "its partition is still to be opened");
    let lag = node.replica.feed_lag_us().expect("the new partition has its time");
    assert!(lag < 1_000_000, "readiness does not suffer: {lag}");
    until(|| node.replica.tried_all()).await;
    node.build(far).await;

    node.replica.own_slots(&VirtualSet::NONE);
    until(|| read(&node).is_empty()).await;
    assert!(!node.replica.tried_all(), "who owns nobody waits for a map");
}

/// Rules R7 and R8: what was committed while nobody read the partition never came by here.
#[tokio::test(start_paused = true)]
async fn what_was_marked_while_nobody_read_is_not_missed() {
    let store = store();
    let (node, other) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    node.replica.own_slots(&slots(&store, &[7]));
    for round in 0..20 {
        node.build(7).await;
        node.replica.own_slots(&VirtualSet::NONE);
        until(|| read(&node).is_empty()).await;
        let token = other.mark(7, [round]).await;
        // By then it would have come by.
        sleep(Duration::from_millis(500)).await;
        node.replica.own_slots(&slots(&store, &[7]));
        for _ in 0..50 {
            let left: Vec<u32> = (round as u32 + 1..30).collect();
            assert_eq!(node.unread(7, 30).await.0, left, "round {round}");
            sleep(Duration::from_millis(1)).await;
        }
        let mode = seen_replica::service::filter::ReadMode::default();
        assert_eq!(node.filter_in(mode, 7, &token, 30).await.0.unseen.len(), 29 - round as usize);
    }
}

/// However fast maps follow each other: each reader that is dropped is known to be.
#[tokio::test(start_paused = true)]
async fn maps_that_follow_each_other_at_once_lose_nothing() {
    let store = store();
    let (node, other) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    let far = far_from(&store, 7);
    for round in 0..100_u64 {
        let wanted =
            [vec![], vec![7], vec![far], vec![7, far]][(round * 7 % 13 % 4) as usize].clone();
        node.replica.own_slots(&slots(&store, &wanted));
        if round % 3 == 0 {
            sleep(Duration::from_millis(round % 5)).await;
        }
        other.mark(7, [round]).await;
        other.mark(far, [round]).await;
        node.replica.own_slots(&slots(&store, &[7, far]));
        if round % 4 == 0 {
            sleep(Duration::from_millis(40)).await;
            for user in [7, far] {
                none_is_missed(&node, user, round + 1).await;
            }
        }
    }
    until(|| node.replica.tried_all()).await;
    node.build(7).await;
    sleep(Duration::from_secs(1)).await;
    none_is_missed(&node, 7, 100).await;
    assert!(node.unread(7, 120).await.1, "in memory");
}

/// What is marked, items 0 to `marked`, is not unread; others mostly are (a filter's false positives).
async fn none_is_missed(node: &Node, user: u64, marked: u64) {
    let unread = node.unread(user, marked + 20).await.0;
    let missed = unread.iter().find(|id| u64::from(**id) < marked);
    assert_eq!(missed, None, "user {user} after {marked} marks");
    assert!(unread.len() > 15, "user {user} after {marked} marks: {unread:?}");
}

/// Coherence row 34: users of partitions that are not read are answered by storage, writes included, and no fence is
/// waited for that nobody would see.
#[tokio::test(start_paused = true)]
async fn users_of_partitions_that_are_not_read_are_answered_by_storage() {
    let store = store();
    let node = Node::open(&store, 1).await;
    let far = far_from(&store, 7);
    node.replica.own_slots(&slots(&store, &[7]));
    until(|| read(&node).len() == 1).await;
    let token = node.mark(far, [0, 2]).await;
    for wait_ms in [0, 100, 2_000, 10_000] {
        sleep(Duration::from_millis(wait_ms)).await;
        let mode = seen_replica::service::filter::ReadMode::default();
        let (answer, at_once) = node.filter_in(mode, far, &token, 4).await;
        assert_eq!((answer.unseen, at_once), (vec![1, 3], false));
        let lag = node.replica.feed_lag_us().expect("its own partition is read");
        assert!(lag < 1_000_000, "{lag}");
    }
    assert_eq!(node.replica.users(), 0);
}
