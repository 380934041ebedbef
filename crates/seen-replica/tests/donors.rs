//! Donors with much to give, or much to do: between replicas over one store, in one process, on paused time.

#[allow(dead_code, reason = "each test uses its part")]
mod stage;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use seen_filter::{UserId, VirtualSet};
use seen_replica::warm::{
    BytesSink, BytesSource, Donor, DonorLimits, Progress, Receiver, Summary, WarmupOptions, ask,
    load, warm_up,
};
use seen_store::memory::FeedFault;
use tokio::time::{Duration, Instant, sleep, timeout};

use stage::pipe::{Peers, pipe};
use stage::{Node, READ, store};

/// Users without any item, straight into memory.
fn preload(node: &Node, users: impl IntoIterator<Item = u64>) {
    for user in users {
        let state = node.replica.builder(READ).expect("known").finish();
        node.replica.preload(READ, UserId::new(user), state).expect("installed");
    }
}

/// A donor of many users looks through its table in slices, and lets others run in between: also to count them, and
/// where hardly anybody is wanted.
#[tokio::test(start_paused = true)]
async fn a_large_table_is_walked_in_slices() {
    const USERS: u64 = 200_000;
    /// More than a slice may look at.
    const SLICE_MAX: u64 = 20_000;
    let store = store();
    let old = Node::open(&store, 1).await;
    preload(&old, 0..USERS);
    let new = Node::open(&store, 2).await;
    let limits = DonorLimits { busy_us_max: 10_000, ..DonorLimits::default() };
    let donor = Donor::new(Arc::clone(&old.replica), limits);
    for share_permille in [0, 1] {
        let mut file = BytesSink(Vec::new());
        let asked = ask(&new.replica, VirtualSet::ALL, share_permille);
        // Time stands still while somebody has something to do: the turns of one instant are those of the walk.
        let (mut at, mut turns, mut most) = (Instant::now(), 0_u64, 0);
        let end = {
            let mut giving = pin!(donor.give(&asked, &mut file));
            let end = poll_fn(|context| {
                turns = if Instant::now() == at { turns + 1 } else { 1 };
                (at, most) = (Instant::now(), most.max(turns));
                giving.as_mut().poll(context)
            });
            end.await.expect("given")
        };
        assert_eq!(end.users, USERS * u64::from(share_permille) / 1_000);
        assert!(most >= USERS / SLICE_MAX, "{most} turns of others, {share_permille} of 1,000");
        let mut receiver = Receiver::new(Arc::clone(&new.replica), Arc::new(Progress::new()));
        load(&mut BytesSource(&file.0[..]), &mut receiver).await.expect("whole");
        let header = receiver.header().expect("a head");
        let wanted = if share_permille == 0 { USERS } else { end.users };
        assert_eq!(header.users, wanted);
    }
}

/// A donor whose share of the processor is so small that neither the count nor a frame is done before whoever waits would give it up.
#[tokio::test(start_paused = true)]
async fn a_donor_that_takes_long_is_not_taken_for_a_silent_one() {
    const USERS: u64 = 20_000;
    let store = store();
    let (old, new) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    preload(&old, 0..USERS);
    let options = WarmupOptions::of(VirtualSet::ALL);
    let limits = DonorLimits { busy_us_max: 1, period_us: 2_000_000, streams_max: 1 };
    let peers = Peers::default().with("old", Donor::new(Arc::clone(&old.replica), limits));
    let began = Instant::now();
    let summary = warm(&new, &peers, &options).await;
    assert!(began.elapsed() > options.silence_max * 10, "{:?}", began.elapsed());
    assert_eq!((summary.donors, summary.progress.installed), (1, USERS), "{summary:?}");
    assert!(summary.failures.is_empty(), "{summary:?}");
}

/// A donor whose own feed has proved nothing since it was asked gives nothing (rule R3, coherence row 20).
#[tokio::test(start_paused = true)]
async fn a_donor_that_does_not_know_how_far_its_feed_is_gives_nothing() {
    let store = store();
    let (old, new) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    preload(&old, 0..10);
    let peers = || {
        let donor = Donor::new(Arc::clone(&old.replica), DonorLimits::default());
        Peers::default().with("old", donor)
    };
    stage::feeds().for_each(|feed| store.fail_feed(feed, FeedFault::Silent, None));
    let options = WarmupOptions {
        busy_wait_max: Duration::from_secs(30),
        ..WarmupOptions::of(VirtualSet::ALL)
    };
    let summary = warm(&new, &peers(), &options).await;
    assert_eq!((summary.donors, new.replica.users()), (0, 0), "{summary:?}");
    assert!(summary.busy >= 2, "it is asked again: {summary:?}");
    store.heal();
    let summary = warm(&new, &peers(), &options).await;
    assert_eq!((summary.donors, new.replica.users()), (1, 10), "{summary:?}");
}

/// A donor that gives to one at a time, and for so long to somebody else.
async fn busy_donor(node: &Node, busy_for: Duration) -> Arc<Donor> {
    let limits = DonorLimits { streams_max: 1, ..DonorLimits::default() };
    let donor = Arc::new(Donor::new(Arc::clone(&node.replica), limits));
    let (held, asked) = (Arc::clone(&donor), ask(&node.replica, VirtualSet::ALL, 1_000));
    tokio::spawn(async move {
        // It is not read, and so never ends by itself.
        let (mut unread, _kept) = pipe();
        let given = timeout(busy_for, held.give(&asked, &mut unread)).await;
        assert!(given.is_err(), "{given:?}");
    });
    sleep(Duration::from_millis(1)).await;
    donor
}

async fn warm(node: &Node, peers: &Peers, options: &WarmupOptions) -> Summary {
    warm_up(&node.replica, peers, options, &Arc::new(Progress::new())).await
}

/// That a donor is busy is no failure: it is waited for, as long as that is bearable.
#[tokio::test(start_paused = true)]
async fn a_busy_donor_is_waited_for() {
    let store = store();
    let (old, new) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    preload(&old, 0..10);
    let peers = Peers::default().with("old", busy_donor(&old, Duration::from_secs(9)).await);
    let summary = warm(&new, &peers, &WarmupOptions::of(VirtualSet::ALL)).await;
    assert_eq!((summary.donors, summary.progress.installed), (1, 10), "{summary:?}");
    assert!(summary.failures.is_empty(), "{summary:?}");
    assert!((4..30).contains(&summary.busy), "it is neither hammered nor forgotten: {summary:?}");
}

#[tokio::test(start_paused = true)]
async fn while_one_donor_is_busy_the_others_give() {
    let store = store();
    let (first, second) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    preload(&first, 0..10);
    preload(&second, 5..20);
    let busy = busy_donor(&first, Duration::from_secs(9)).await;
    let free = Donor::new(Arc::clone(&second.replica), DonorLimits::default());
    let peers = Peers::default().with("first", busy).with("second", free);
    let new = Node::open(&store, 3).await;
    let began = Instant::now();
    let warming = warm_up_in_background(&new, peers);
    stage::until(|| new.replica.users() == 15).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let (summary, peers) = warming.await.expect("no panic");
    assert_eq!((summary.donors, new.replica.users()), (2, 20), "{summary:?}");
    assert_eq!(peers.opened.lock()[..2], ["first", "second"]);
}

fn warm_up_in_background(node: &Node, peers: Peers) -> tokio::task::JoinHandle<(Summary, Peers)> {
    let replica = Arc::clone(&node.replica);
    tokio::spawn(async move {
        let options = WarmupOptions::of(VirtualSet::ALL);
        let summary = warm_up(&replica, &peers, &options, &Arc::new(Progress::new())).await;
        (summary, peers)
    })
}

#[tokio::test(start_paused = true)]
async fn a_donor_that_stays_busy_is_given_up_at_last() {
    let store = store();
    let (old, new) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    preload(&old, 0..10);
    let peers = Peers::default().with("old", busy_donor(&old, Duration::from_secs(3_600)).await);
    let options = WarmupOptions::of(VirtualSet::ALL);
    let began = Instant::now();
    let summary = warm(&new, &peers, &options).await;
    assert_eq!((summary.donors, new.replica.users()), (0, 0), "it starts cold");
    assert_eq!(summary.failures.into_iter().collect::<Vec<_>>(), [("busy", 1)]);
    let took = began.elapsed();
    assert!(took >= options.busy_wait_max, "{took:?}");
    assert!(took < options.busy_wait_max + Duration::from_secs(5), "{took:?}");
}

/// Coherence row 33: all replicas that restart at once do not ask at the same moment.
#[tokio::test(start_paused = true)]
async fn replicas_that_start_together_ask_one_after_the_other() {
    let store = store();
    let old = Node::open(&store, 1).await;
    let mut asked_after = Vec::new();
    for incarnation in 2..10 {
        let new = Node::open(&store, incarnation).await;
        let free = Donor::new(Arc::clone(&old.replica), DonorLimits::default());
        let peers = Peers::default().with("old", free);
        let began = Instant::now();
        let asked = async {
            stage::until(|| !peers.opened.lock().is_empty()).await;
            began.elapsed()
        };
        let options = WarmupOptions::of(VirtualSet::ALL);
        asked_after.push(tokio::join!(warm(&new, &peers, &options), asked).1);
    }
    asked_after.sort();
    asked_after.dedup();
    assert!(asked_after.len() >= 6, "{asked_after:?}");
}
