//! A replica that its map gives no users any more, and entries that are too old for it: what it may not keep it does not keep, and
//! whoever asks is answered all the same.

#[allow(dead_code, reason = "each test uses its part")]
mod stage;

use std::sync::Arc;

use seen_filter::{UserId, VirtualSet};
use seen_proto::model::RebuildCall;
use seen_proto::status::ErrorKind;
use seen_proto::v1::QualityLevel;
use seen_replica::link::Standing;
use seen_replica::rules::{RING_EVENT_BYTES, Refusal};
use seen_replica::service::filter::ReadMode;
use seen_replica::warm::{
    BytesSink, BytesSource, Donor, DonorLimits, Progress, Receiver, Taken, ask, load,
};
use seen_replica::{ReplicaLimits, ReplicaOptions};
use tokio::time::{Duration, sleep, timeout};

use stage::{Node, READ, options, store, until};

/// What comes after the map changed, and what was under way when it did: answered, by a look into storage, and not
/// left to its deadline (coherence rows 34 and 35, rule R7).
#[tokio::test(start_paused = true)]
async fn who_left_the_map_answers_its_last_requests() {
    let store = store();
    let node = Node::open(&store, 1).await;
    let token = node.mark(7, [3]).await;
    node.build(7).await;
    let standing = Standing::new(Arc::clone(&node.replica));
    // Under way: a user who is not in memory.
    let under_way = node.unread(8, 4);
    standing.set_map(9, &VirtualSet::NONE, None);
    let (unread, at_once) = timeout(Duration::from_secs(1), under_way).await.expect("in time");
    assert_eq!((unread, at_once), (vec![0, 1, 2, 3], false));
    for round in 0..3 {
        let asked = node.filter_in(ReadMode::default(), 7, &token, 4);
        let (answer, _) = timeout(Duration::from_secs(1), asked).await.expect("in time");
        assert_eq!(answer.unseen, [0, 1, 2], "round {round}");
        let quality = answer.quality.expect("always there");
        assert_ne!(quality.level(), QualityLevel::Degraded, "round {round}: {quality:?}");
        let late = timeout(Duration::from_secs(1), node.mark(9, [round])).await;
        assert!(!late.expect("in time").is_empty());
        let seen: Vec<u32> = (round as u32 + 1..4).collect();
        assert_eq!(node.unread(9, 4).await, (seen, false));
        sleep(Duration::from_secs(10)).await;
    }
}

/// Rule R7: nobody makes a replica keep a user who is not its own.
#[tokio::test(start_paused = true)]
async fn users_of_others_are_not_rebuilt() {
    let store = store();
    let node = Node::open(&store, 1).await;
    node.mark(7, [3]).await;
    node.replica.own_slots(&VirtualSet::NONE);
    until(|| node.replica.owned_slots().is_empty()).await;
    let users = node.replica.users();
    let call = RebuildCall { user: UserId::new(7), namespace: READ.to_owned() };
    let refused = node.replica.rebuild(call, Duration::from_secs(1)).await.expect_err("refused");
    assert_eq!(refused.kind, ErrorKind::InvalidArgument, "{refused:?}");
    assert!(node.replica.users() <= users);
}

/// Rule R3 and coherence row 31: what happened between a dump and its return must be here, else it is refused, user by user.
#[tokio::test(start_paused = true)]
async fn a_dump_that_is_older_than_what_the_replica_remembers_is_refused() {
    const USERS: u64 = 40;
    const RING_EVENTS: usize = 64;
    let store = store();
    let old = Node::open(&store, 1).await;
    let limits = |events| ReplicaLimits {
        ring_bytes_max: events * RING_EVENT_BYTES,
        ..options(&store, 0).limits
    };
    let forgetful =
        Node::with(ReplicaOptions { limits: limits(RING_EVENTS), ..options(&store, 2) }).await;
    let mindful =
        Node::with(ReplicaOptions { limits: limits(100_000), ..options(&store, 3) }).await;
    for user in 0..USERS {
        old.mark(user, [0]).await;
        old.build(user).await;
    }
    let mut dump = BytesSink(Vec::new());
    let donor = Donor::new(Arc::clone(&old.replica), DonorLimits::default());
    let asked = ask(&old.replica, VirtualSet::ALL, 1_000);
    donor.give(&asked, &mut dump).await.expect("given");
    // One item more for each of them, and then so much of others that a small ring reaches back no further.
    for user in 0..USERS {
        old.mark(user, [1]).await;
    }
    for user in 1_000..1_000 + 8 * RING_EVENTS as u64 {
        old.mark(user, [0, 1]).await;
    }
    sleep(Duration::from_secs(1)).await;
    for (node, is_refused) in [(&forgetful, true), (&mindful, false)] {
        let mut receiver = Receiver::new(Arc::clone(&node.replica), Arc::new(Progress::new()));
        let end = load(&mut BytesSource(&dump.0[..]), &mut receiver).await.expect("whole");
        let stale = Taken::Refused(Refusal::StaleSnapshot).label();
        let refused = receiver.outcomes().get(stale).copied().unwrap_or_default();
        let expected = if is_refused { (0, USERS) } else { (USERS, 0) };
        assert_eq!((end.users, refused), expected, "{:?}", receiver.outcomes());
        for user in 0..USERS {
            assert_eq!(node.unread(user, 3).await.0, [2], "user {user}");
        }
    }
}
