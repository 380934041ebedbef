//! A replica that takes its users from a peer: between two replicas over one store, in one process, on paused time.

#[allow(dead_code, reason = "each test uses its part")]
mod stage;

use std::sync::Arc;

use bytes::Bytes;
use seen_filter::hash::HashKey;
use seen_filter::{
    FeedId, GapScope, Incarnation, NamespaceId, NamespaceSettings, StoreErrorKind, TimeRule,
    UserId, VirtualSet,
};
use seen_replica::Replica;
use seen_replica::rules::Refusal;
use seen_replica::warm::{
    BytesSink, BytesSource, Donor, DonorLimits, EndKind, FrameKind, FrameSink, FrameSource,
    Progress, ProgressView, Receiver, Summary, Taken, TransferFailure, WarmupOptions, ask, load,
    serve, warm_up,
};
use seen_store::MemoryStore;
use seen_store::memory::ReadFault;
use tokio::time::{Duration, sleep};

use stage::pipe::{Peers, pipe};
use stage::{Node, READ, feeds, options, store, until};

/// Items of each user that a test asks about.
const ASKED: u64 = 8;

/// User `n` has read item `n % 8`, and is in memory.
async fn fill(node: &Node, users: impl IntoIterator<Item = u64>) {
    for user in users {
        node.mark(user, [user % ASKED]).await;
        node.build(user).await;
    }
}

fn donor(node: &Node) -> Donor {
    Donor::new(Arc::clone(&node.replica), DonorLimits::default())
}

async fn warm(node: &Node, peers: &Peers) -> (Summary, Arc<Progress>) {
    let progress = Arc::new(Progress::new());
    let options = WarmupOptions::of(VirtualSet::ALL);
    (warm_up(&node.replica, peers, &options, &progress).await, progress)
}

/// From here on storage answers nobody: what is right comes from memory.
fn without_storage(store: &MemoryStore) {
    store.fail_reads(ReadFault::Refuse(StoreErrorKind::Unavailable), None);
}

/// Everything that [`fill`] marked is known, without storage.
async fn knows(node: &Node, users: impl IntoIterator<Item = u64>) {
    for user in users {
        let unread: Vec<u32> = (0..8).filter(|n| u64::from(*n) != user % ASKED).collect();
        assert_eq!(node.unread(user, ASKED).await, (unread, true), "user {user}");
    }
}

fn outcomes(summary: &Summary) -> Vec<(&'static str, u64)> {
    summary.outcomes.iter().map(|(name, count)| (*name, *count)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_starting_replica_has_its_users_from_a_peer_and_reads_no_storage() {
    const USERS: u64 = 3_000;
    let store = store();
    let old = Node::open(&store, 1).await;
    fill(&old, 0..USERS).await;
    without_storage(&store);
    let new = Node::open(&store, 2).await;
    let (summary, progress) = warm(&new, &Peers::default().with("old", donor(&old))).await;
    assert_eq!(outcomes(&summary), [("installed", USERS)]);
    assert_eq!((summary.donors, summary.failures.len(), summary.full), (1, 0, false));
    let view: ProgressView = progress.view();
    assert_eq!((view.installed, view.expected, view.share, view.over), (USERS, USERS, 1.0, true));
    assert!(view.bytes > USERS * 64, "{}", view.bytes);
    knows(&new, 0..USERS).await;

    // What is marked from now on comes by the feed, to donor and receiver alike.
    store.heal();
    old.mark(3, [5]).await;
    sleep(Duration::from_secs(1)).await;
    without_storage(&store);
    assert_eq!(new.unread(3, ASKED).await, (vec![0, 1, 2, 4, 6, 7], true));
}

/// Rules R1 and R3, and coherence rows 29 to 31: marks go on at both ends while the stream runs. Whoever has the mark's token is never told
/// "unread" by the receiver, and in the end everybody is told right, from memory.
#[tokio::test(start_paused = true)]
async fn marks_go_on_while_users_are_taken() {
    const USERS: u64 = 3_000;
    let store = store();
    let (old, new) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    fill(&old, 0..USERS).await;
    // A frame each half second, so that much comes in between.
    let limits = DonorLimits { busy_us_max: 1, period_us: 500_000, ..DonorLimits::default() };
    let slow = Donor::new(Arc::clone(&old.replica), limits);
    let peers = Peers::default().with("old", slow);
    let progress = Arc::new(Progress::new());
    let options = WarmupOptions::of(VirtualSet::ALL);
    let warming = warm_up(&new.replica, &peers, &options, &progress);
    let marking = async {
        let mut during = 0;
        for user in (0..USERS).step_by(7) {
            let by = if user % 2 == 0 { &old } else { &new };
            let token = by.mark(user, [ASKED]).await;
            during += u64::from(!progress.view().over);
            let (answer, _) = new.filter_in(Default::default(), user, &token, ASKED + 1).await;
            assert!(!answer.unseen.contains(&(ASKED as u32)), "user {user}");
            tokio::task::yield_now().await;
        }
        during
    };
    let (summary, during) = tokio::join!(warming, marking);
    assert!(during > 20, "{during} marks came while users were taken");
    assert!(summary.progress.installed + summary.progress.held > USERS / 2, "{summary:?}");
    sleep(Duration::from_secs(5)).await;
    for user in 0..USERS {
        new.build(user).await;
    }
    without_storage(&store);
    for user in 0..USERS {
        let (unread, at_once) = new.unread(user, ASKED + 1).await;
        let read = |n: u32| u64::from(n) == user % ASKED || (n == 8 && user % 7 == 0);
        assert_eq!((unread, at_once), ((0..9).filter(|n| !read(*n)).collect(), true), "{user}");
    }
}

/// The users that are asked for most come first; the receiver passes them on in the same order.
#[tokio::test(start_paused = true)]
async fn the_hottest_users_come_first() {
    let store = store();
    let old = Node::open(&store, 1).await;
    fill(&old, 0..400).await;
    for user in (0..400).filter(|user| user % 10 == 7) {
        for _ in 0..3 {
            old.unread(user, 1).await;
        }
    }
    without_storage(&store);
    let second = Node::open(&store, 2).await;
    let peers = Peers::default().with("old", donor(&old));
    assert_eq!(warm(&second, &peers).await.0.progress.installed, 400);

    let third = Node::open(&store, 3).await;
    let peers = Peers::default().with("second", donor(&second));
    let progress = Arc::new(Progress::new());
    let tenth = WarmupOptions { share_permille: 100, ..WarmupOptions::of(VirtualSet::ALL) };
    warm_up(&third.replica, &peers, &tenth, &progress).await;
    assert_eq!(progress.view().installed, 40);
    knows(&third, (0..400).filter(|user| user % 10 == 7)).await;
}

#[tokio::test(start_paused = true)]
async fn only_users_of_the_asked_and_owned_slots_come() {
    let store = store();
    let old = Node::open(&store, 1).await;
    fill(&old, 0..200).await;
    without_storage(&store);
    let key = store.hash_key().slot_key();
    let even = |user: &u64| key.virtual_slot(UserId::new(*user)).get().is_multiple_of(2);
    let wanted: VirtualSet =
        (0..200).filter(even).map(|n| key.virtual_slot(UserId::new(n))).collect();

    let new = Node::open(&store, 2).await;
    let peers = Peers::default().with("old", donor(&old));
    let progress = Arc::new(Progress::new());
    warm_up(&new.replica, &peers, &WarmupOptions::of(wanted), &progress).await;
    let count = (0..200).filter(even).count() as u64;
    assert_eq!((progress.view().installed, progress.view().not_owned), (count, 0));
    knows(&new, (0..200).filter(even)).await;

    // The donor gives more than this one may keep.
    let third = Node::open(&store, 3).await;
    third.replica.own_slots(&wanted);
    let (summary, _) = warm(&third, &peers).await;
    assert_eq!(outcomes(&summary), [("installed", count), ("not_owned", 200 - count)]);
}

/// Rule R3 and coherence row 33: a stream may end anywhere. What it brought stays, and another donor goes on.
#[tokio::test(start_paused = true)]
async fn a_donor_that_dies_is_followed_by_another() {
    const USERS: u64 = 3_000;
    let store = store();
    let (first, second) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    fill(&first, 0..USERS).await;
    let peers = Peers::default().with("first", donor(&first));
    assert_eq!(warm(&second, &peers).await.0.progress.installed, USERS);
    without_storage(&store);

    let peers = Peers::default().with("first", donor(&first)).with("second", donor(&second));
    // The head and one frame of entries arrive.
    let peers = peers.but("first", |number, frame| (number < 2).then_some(frame));
    let new = Node::open(&store, 3).await;
    let (summary, progress) = warm(&new, &peers).await;
    let view = progress.view();
    assert_eq!((view.installed, view.refused), (USERS, 0));
    assert!(view.held > 100 && view.held < USERS, "what the first one brought stays: {view:?}");
    assert_eq!(summary.failures.into_iter().collect::<Vec<_>>(), [("broken", 3)]);
    assert_eq!(*peers.opened.lock(), ["first", "second", "first", "first"]);
    knows(&new, 0..USERS).await;
}

/// Coherence row 32: a frame that is lost or changed on the way is noticed, and no entry of it is believed.
#[tokio::test(start_paused = true)]
async fn a_torn_stream_is_refused_and_leaves_whole_entries_only() {
    let store = store();
    let old = Node::open(&store, 1).await;
    fill(&old, 0..3_000).await;
    without_storage(&store);
    for (incarnation, lost) in [(2, true), (3, false)] {
        let peers = Peers::default().with("old", donor(&old)).but("old", move |number, frame| {
            let (kind, payload) = frame;
            if number != 1 {
                return Some((kind, payload));
            }
            let mut bent = payload.to_vec();
            if lost {
                // As if an entry frame of nobody had come instead.
                bent.truncate(1);
            } else {
                let middle = bent.len() / 2;
                bent[middle] ^= 1;
            }
            Some((kind, Bytes::from(bent)))
        });
        let new = Node::open(&store, incarnation).await;
        let (summary, progress) = warm(&new, &peers).await;
        assert_eq!(summary.failures.into_iter().collect::<Vec<_>>(), [("torn", 3)]);
        assert_eq!(summary.donors, 0);
        let view = progress.view();
        assert!(view.over && view.installed > 1_000, "{view:?}");
        assert_eq!(new.replica.users(), view.installed);
        for user in 0..3_000 {
            let (answer, at_once) = new.filter_in(Default::default(), user, &[], ASKED).await;
            if at_once {
                assert!(!answer.unseen.contains(&((user % ASKED) as u32)), "user {user}");
            }
        }
    }
}

/// Coherence row 32: another key, cluster or setting makes other bits.
#[tokio::test(start_paused = true)]
async fn incompatible_replicas_give_each_other_nothing() {
    let store = store();
    let old = Node::open(&store, 1).await;
    fill(&old, 0..10).await;
    let base = || options(&store, 2);
    let renamed = NamespaceSettings::new(NamespaceId::new(0), READ);
    let renamed = NamespaceSettings { time_rule: TimeRule::Last, ..renamed };
    let others = [
        seen_replica::ReplicaOptions { key: HashKey::new(2, [1; 16]), ..base() },
        seen_replica::ReplicaOptions { cluster: 78, ..base() },
        seen_replica::ReplicaOptions { namespaces: vec![renamed], ..base() },
    ];
    for other in others {
        let new = Node::with(other).await;
        let peers = Peers::default().with("old", donor(&old));
        let (summary, progress) = warm(&new, &peers).await;
        assert_eq!((new.replica.users(), progress.view().over), (0, true));
        assert_eq!(summary.failures.into_iter().collect::<Vec<_>>(), [("declined", 1)]);
    }
}

/// What a donor in good faith would say is checked by the receiver as well.
#[tokio::test(start_paused = true)]
async fn a_stream_of_another_cluster_is_refused_by_its_head() {
    let store = store();
    let old = Node::open(&store, 1).await;
    fill(&old, 0..10).await;
    let frames = dump(&old).await;
    let strange =
        Node::with(seen_replica::ReplicaOptions { cluster: 78, ..options(&store, 2) }).await;
    let mut receiver = Receiver::new(Arc::clone(&strange.replica), Arc::new(Progress::new()));
    let refused = load(&mut BytesSource(&frames[..]), &mut receiver).await;
    assert_eq!(refused, Err(TransferFailure::Dialect { what: "cluster name" }));
    assert_eq!(strange.replica.users(), 0);
}

/// Rule R3 and coherence row 60: only clean entries are given.
#[tokio::test(start_paused = true)]
async fn a_donor_in_doubt_gives_nothing() {
    let store = store();
    let (old, new) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    fill(&old, 0..50).await;
    without_storage(&store);
    feeds().for_each(|feed| store.report_gap(feed, GapScope::Partition, "test"));
    sleep(Duration::from_secs(1)).await;
    let donor = donor(&old);
    let (mut sink, mut source) = pipe();
    let asked = ask(&new.replica, VirtualSet::ALL, 1_000);
    let given = tokio::spawn(async move { donor.give(&asked, &mut sink).await });
    let mut kinds = Vec::new();
    while let Some((kind, _)) = source.next().await.expect("a pipe") {
        kinds.push(kind);
    }
    assert_eq!(kinds, [FrameKind::Entry, FrameKind::End]);
    let end = given.await.expect("no panic").expect("given");
    assert_eq!((end.kind, end.users, end.left_out), (EndKind::Complete, 0, 50));
}

#[tokio::test(start_paused = true)]
async fn without_a_live_peer_it_starts_cold() {
    let store = store();
    let new = Node::open(&store, 1).await;
    let (summary, progress) = warm(&new, &Peers::default()).await;
    assert_eq!((summary.donors, progress.view().over, progress.view().share), (0, true, 1.0));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_has_one_stream_and_a_donor_only_so_many() {
    let store = store();
    let old = Node::open(&store, 1).await;
    fill(&old, 0..10).await;
    let receivers = [Node::open(&store, 2).await, Node::open(&store, 3).await];
    let limits = DonorLimits { streams_max: 1, ..DonorLimits::default() };
    let donor = Arc::new(Donor::new(Arc::clone(&old.replica), limits));
    // It is not read, and so never ends.
    let (mut unread, _kept) = pipe();
    let held = Arc::clone(&donor);
    let asked = ask(&receivers[0].replica, VirtualSet::ALL, 1_000);
    let stream = tokio::spawn(async move { held.give(&asked, &mut unread).await });
    sleep(Duration::from_millis(100)).await;
    for receiver in &receivers {
        let (mut sink, mut source) = pipe();
        let asked = ask(&receiver.replica, VirtualSet::ALL, 1_000);
        let busy = Err(TransferFailure::Declined(EndKind::Busy));
        assert_eq!(donor.give(&asked, &mut sink).await, busy);
        assert_eq!(
            source.next().await.expect("a pipe").map(|(kind, _)| kind),
            Some(FrameKind::End)
        );
    }
    stream.abort();
    assert!(stream.await.is_err());
    let (mut sink, mut source) = pipe();
    let asked = ask(&receivers[1].replica, VirtualSet::ALL, 1_000);
    let given = tokio::spawn(async move { donor.give(&asked, &mut sink).await });
    while source.next().await.expect("a pipe").is_some() {}
    assert_eq!(given.await.expect("no panic").map(|end| end.users), Ok(10));
}

/// An entry that is larger than a frame goes in pieces.
#[tokio::test(start_paused = true)]
async fn a_large_entry_comes_whole() {
    const ITEMS: u64 = 200_000;
    let store = store();
    let old = Node::open(&store, 1).await;
    let mut builder = old.replica.builder(READ).expect("known");
    for id in 0..ITEMS {
        builder.push(seen_filter::Item::new(1, id), seen_filter::UnixMillis::new(1), 0);
    }
    old.replica.preload(READ, UserId::new(5), builder.finish()).expect("installed");
    fill(&old, [6, 7]).await;
    without_storage(&store);
    let new = Node::open(&store, 2).await;
    let (summary, progress) = warm(&new, &Peers::default().with("old", donor(&old))).await;
    assert_eq!(outcomes(&summary), [("installed", 3)]);
    assert!(progress.view().bytes > 100_000, "{:?}", progress.view());
    assert_eq!(new.unread(5, 900).await, (vec![], true));
    knows(&new, [6, 7]).await;
}

/// A stream as a file.
async fn dump(node: &Node) -> Vec<u8> {
    let mut file = BytesSink(Vec::new());
    let asked = ask(&node.replica, VirtualSet::ALL, 1_000);
    donor(node).give(&asked, &mut file).await.expect("given");
    file.0
}

#[tokio::test(start_paused = true)]
async fn a_dump_warms_as_long_as_nothing_was_missed() {
    let store = store();
    let old = Node::open(&store, 1).await;
    fill(&old, 0..500).await;
    let frames = dump(&old).await;
    without_storage(&store);
    let new = Node::open(&store, 2).await;
    let mut receiver = Receiver::new(Arc::clone(&new.replica), Arc::new(Progress::new()));
    let end = load(&mut BytesSource(&frames[..]), &mut receiver).await.expect("loaded");
    assert_eq!((end.kind, end.users, end.left_out), (EndKind::Complete, 500, 0));
    knows(&new, 0..500).await;

    // Torn anywhere, what came is right.
    for cut in [3, 700, frames.len() / 2, frames.len() - 1] {
        let torn = Node::open(&store, 3).await;
        let mut receiver = Receiver::new(Arc::clone(&torn.replica), Arc::new(Progress::new()));
        assert!(load(&mut BytesSource(&frames[..cut]), &mut receiver).await.is_err(), "{cut}");
    }

    // Coherence row 31: events came between the dump and the start of whoever loads it.
    store.heal();
    feeds().for_each(|feed| assert_eq!(feed.namespace, FeedId::default().namespace));
    for user in 0..50 {
        old.mark(user, [ASKED]).await;
    }
    let late = Node::open(&store, 4).await;
    until(|| late.replica.feed_lag_us().is_some()).await;
    let mut receiver = Receiver::new(Arc::clone(&late.replica), Arc::new(Progress::new()));
    let end = load(&mut BytesSource(&frames[..]), &mut receiver).await.expect("loaded");
    assert_eq!(end.users, 0, "{:?}", receiver.outcomes());
    let stale = Taken::Refused(Refusal::StaleSnapshot).label();
    assert_eq!(receiver.outcomes().get(stale), Some(&500));
    assert_eq!(late.unread(3, ASKED + 1).await.0, [0, 1, 2, 4, 5, 6, 7]);
}

/// A tool gives a replica what it has, over the connection on which replicas ask each other.
#[tokio::test(start_paused = true)]
async fn a_tool_may_bring_a_stream() {
    let store = store();
    let (old, new) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    fill(&old, 0..100).await;
    let frames = dump(&old).await;
    without_storage(&store);
    let (mut to_replica, mut at_replica) = pipe();
    let (mut from_replica, mut at_tool) = pipe();
    let target = donor(&new);
    let served =
        tokio::spawn(async move { serve(&target, &mut at_replica, &mut from_replica).await });
    let mut file = BytesSource(&frames[..]);
    while let Some((kind, payload)) = file.next().await.expect("a dump") {
        to_replica.send(kind, payload).await.expect("taken");
    }
    let (kind, payload) = at_tool.next().await.expect("a pipe").expect("an answer");
    assert_eq!(kind, FrameKind::End);
    let end = seen_replica::warm::End::decode(&payload).expect("an end");
    assert_eq!((end.kind, end.users), (EndKind::Complete, 100));
    assert_eq!(served.await.expect("no panic"), Ok(end));
    knows(&new, 0..100).await;
}

#[tokio::test(start_paused = true)]
async fn named_users_and_a_look_at_what_there_is() {
    let store = store();
    let (old, new) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    fill(&old, 0..100).await;
    without_storage(&store);
    let mut receiver = Receiver::new(Arc::clone(&new.replica), Arc::new(Progress::new()));
    let mut asked = ask(&new.replica, VirtualSet::ALL, 0);
    assert_eq!(taken(&donor(&old), &asked, &mut receiver).await, 0);
    let header = receiver.header().expect("a head");
    assert_eq!((header.donor, header.namespaces.len()), (Incarnation::new(1), 1));
    assert_eq!(header.users, 100);

    asked.users = [7, 9, 1_000].map(UserId::new).to_vec();
    let mut receiver = Receiver::new(Arc::clone(&new.replica), Arc::new(Progress::new()));
    assert_eq!(taken(&donor(&old), &asked, &mut receiver).await, 2);
    knows(&new, [7, 9]).await;
    assert_eq!(new.replica.users(), 2);
}

/// Users that a stream brought.
async fn taken(donor: &Donor, asked: &seen_replica::warm::Ask, receiver: &mut Receiver) -> u64 {
    let mut file = BytesSink(Vec::new());
    donor.give(asked, &mut file).await.expect("given");
    load(&mut BytesSource(&file.0[..]), receiver).await.expect("loaded").users
}

/// From storage, for given users, at a limited rate.
#[tokio::test(start_paused = true)]
async fn listed_users_are_built_from_storage_slowly() {
    let store = store();
    let (old, new) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    fill(&old, 0..30).await;
    new.build(3).await;
    let began = tokio::time::Instant::now();
    let replica: &Arc<Replica> = &new.replica;
    let users = (0..30).map(UserId::new);
    let listed = seen_replica::warm::build_listed(replica, READ, users, 10).await.expect("known");
    assert_eq!((listed.begun, listed.held, listed.not_owned), (29, 1, 0));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(2_800), "29 at 10 a second: {took:?}");
    until(|| new.replica.users() == 30).await;
    without_storage(&store);
    knows(&new, 0..30).await;
    assert!(seen_replica::warm::build_listed(replica, "none", [], 1).await.is_none());
}
