//! Filters that did not come the ordinary way: for users of other replicas, and for users who were moved here.

#[allow(dead_code, reason = "each test uses its part")]
mod stage;

use seen_filter::{Incarnation, UserId, VirtualSet};
use seen_proto::v1::QualityLevel;
use seen_replica::service::filter::{Moved, ReadMode};
use seen_store::memory::WriteFault;
use tokio::time::{Duration, sleep};

use stage::{Node, feeds, store, until};

const EMERGENCY: ReadMode = ReadMode { emergency: true, moved: None };

fn moved(seq: u64) -> ReadMode {
    ReadMode { emergency: false, moved: Some(Moved { incarnation: Incarnation::new(99), seq }) }
}

#[tokio::test(start_paused = true)]
async fn an_emergency_keeps_nobody_in_memory_and_uses_who_is() {
    let store = store();
    let node = Node::open(&store, 1).await;
    node.mark(7, [0, 2]).await;
    for _ in 0..3 {
        let (answer, at_once) = node.filter_in(EMERGENCY, 7, &[], 4).await;
        assert_eq!((answer.unseen, at_once), (vec![1, 3], false));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(node.replica.users(), 0);
    node.build(7).await;
    let (answer, at_once) = node.filter_in(EMERGENCY, 7, &[], 4).await;
    assert_eq!((answer.unseen, at_once), (vec![1, 3], true));
}

/// Coherence rows 34 and 35: right for any user, and kept only for the own ones, whatever a proxy's map says.
#[tokio::test(start_paused = true)]
async fn users_of_other_slots_are_answered_by_storage_and_not_kept() {
    let store = store();
    let node = Node::open(&store, 1).await;
    let key = store.hash_key().slot_key();
    let (own, other) = (UserId::new(7), UserId::new(8));
    assert_ne!(key.virtual_slot(own), key.virtual_slot(other));
    node.replica.own_slots(&VirtualSet::from_iter([key.virtual_slot(own)]));
    for user in [7, 8] {
        node.mark(user, [1]).await;
        assert_eq!(node.unread(user, 3).await.0, [0, 2]);
    }
    node.build(7).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.unread(8, 3).await, (vec![0, 2], false));
    assert_eq!(node.replica.users(), 1);
    // The map gives it to this replica as well.
    let both = [own, other].map(|user| key.virtual_slot(user));
    node.replica.own_slots(&both.into_iter().collect());
    node.build(8).await;
    assert_eq!((node.replica.users(), node.replica.owned_slots().len()), (2, 2));
}

/// Rule R9: who was moved here and brings no token is asked in storage, until a fence that was begun after the move was
/// told has come back.
#[tokio::test(start_paused = true)]
async fn a_moved_user_is_asked_in_storage_until_a_later_fence_came_back() {
    let store = store();
    let (before, after) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    before.mark(7, [0]).await;
    after.build(7).await;
    sleep(Duration::from_secs(2)).await;
    // What is marked elsewhere from now on does not come by here, and neither do fences.
    feeds().for_each(|feed| store.hold_feed(feed));
    before.mark(7, [1]).await;
    assert_eq!(after.unread(7, 3).await, (vec![1, 2], true), "without a token nothing is promised");
    let (answer, at_once) = after.filter_in(moved(1), 7, &[], 3).await;
    assert_eq!((answer.unseen, at_once), (vec![2], false));
    sleep(Duration::from_secs(1)).await;
    assert!(!after.filter_in(moved(1), 7, &[], 3).await.1, "the fence is written, and not back");

    feeds().for_each(|feed| store.release_feed(feed));
    sleep(Duration::from_millis(300)).await;
    let (answer, at_once) = after.filter_in(moved(1), 7, &[], 3).await;
    assert_eq!((answer.unseen, at_once), (vec![2], true), "the fence came back");

    // The next move is another one: no fence that was written before it says anything.
    store.fail_writes(WriteFault::Silent, None);
    sleep(Duration::from_secs(2)).await;
    assert!(!after.filter_in(moved(2), 7, &[], 3).await.1);
    sleep(Duration::from_secs(3)).await;
    let (answer, at_once) = after.filter_in(moved(2), 7, &[], 3).await;
    let quality = answer.quality.expect("always present").level();
    assert!(!at_once && quality != QualityLevel::Degraded, "no fence was written: {quality:?}");
    assert!(after.filter_in(moved(1), 7, &[], 3).await.1, "the first move is still covered");
    store.heal();
    let mut at_once = false;
    while !at_once {
        sleep(Duration::from_millis(100)).await;
        at_once = after.filter_in(moved(2), 7, &[], 3).await.1;
    }
}

/// A claim of a move costs nothing where there is none, and a user who is not in memory is built as ever.
#[tokio::test(start_paused = true)]
async fn a_moved_user_who_is_not_in_memory_is_built() {
    let store = store();
    let node = Node::open(&store, 1).await;
    node.mark(7, [0]).await;
    assert_eq!(node.filter_in(moved(1), 7, &[], 2).await.0.unseen, [1]);
    until(|| node.replica.users() == 1).await;
    let mut at_once = false;
    while !at_once {
        sleep(Duration::from_millis(100)).await;
        at_once = node.filter_in(moved(1), 7, &[], 2).await.1;
    }
}
