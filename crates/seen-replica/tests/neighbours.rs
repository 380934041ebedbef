//! Two versions of the program at the two ends of a stream of users, as while a slot is upgraded replica by replica: the newer one
//! says what it reads, and adds fields behind those that the older one knows.

#[allow(dead_code, reason = "each test uses its part")]
mod stage;

use std::sync::Arc;

use bytes::Bytes;
use seen_filter::{UserId, VirtualSet};
use seen_replica::warm::{
    Ask, BytesSink, BytesSource, Donor, DonorLimits, End, EndKind, Frame, FrameKind, FrameSink,
    FrameSource, Progress, Receiver, STREAM_VERSIONS, Summary, TransferFailure, Versions,
    WarmupOptions, ask, load, serve, warm_up,
};

use stage::pipe::{Peers, pipe};
use stage::{Node, READ, store};

const CHECKSUM_BYTES: usize = 4;
/// Where the newest version is in an ask, and in an end.
const NEWEST_OF_ASK_AT: usize = 6;
const NEWEST_OF_END_AT: usize = 31;

fn preload(node: &Node, users: impl IntoIterator<Item = u64>) {
    for user in users {
        let state = node.replica.builder(READ).expect("known").finish();
        node.replica.preload(READ, UserId::new(user), state).expect("installed");
    }
}

/// A payload as the next version writes it: `change`, and a field more.
fn newer(sealed: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut out = sealed[..sealed.len() - CHECKSUM_BYTES].to_vec();
    change(&mut out);
    out.extend(b"later");
    let checksum = crc32fast::hash(&out);
    out.extend(checksum.to_le_bytes());
    out
}

fn newer_ask(ask: &Ask) -> Vec<u8> {
    newer(&ask.encode(), |bytes| bytes[NEWEST_OF_ASK_AT] += 1)
}

/// What the next version's donor sends to this version's receiver.
fn newer_frame(number: usize, (kind, payload): Frame) -> Option<Frame> {
    let payload = match (number, kind) {
        (0, FrameKind::Entry) => [&payload[..1], &newer(&payload[1..], |_| ())[..]].concat().into(),
        (_, FrameKind::End) => newer(&payload, |bytes| bytes[NEWEST_OF_END_AT] += 1).into(),
        _ => payload,
    };
    Some((kind, payload))
}

fn donor(node: &Node) -> Donor {
    Donor::new(Arc::clone(&node.replica), DonorLimits::default())
}

async fn warm(node: &Node, peers: &Peers) -> Summary {
    let options = WarmupOptions::of(VirtualSet::ALL);
    warm_up(&node.replica, peers, &options, &Arc::new(Progress::new())).await
}

#[tokio::test(start_paused = true)]
async fn this_donor_gives_to_a_newer_receiver() {
    let store = store();
    let (old, new) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    preload(&old, 0..50);
    let asked =
        Ask::decode(&newer_ask(&ask(&new.replica, VirtualSet::ALL, 1_000))).expect("an ask");
    let newest = STREAM_VERSIONS.newest;
    assert_eq!(asked.versions, Versions { newest: newest + 1, ..STREAM_VERSIONS });
    let mut file = BytesSink(Vec::new());
    donor(&old).give(&asked, &mut file).await.expect("given");
    let mut receiver = Receiver::new(Arc::clone(&new.replica), Arc::new(Progress::new()));
    load(&mut BytesSource(&file.0[..]), &mut receiver).await.expect("whole");
    assert_eq!(receiver.header().map(|header| header.version), Some(newest));
    assert_eq!(new.replica.users(), 50);
}

/// One replica of the slot is of this version, one of the next: a third one takes users from both. Then the same as the
/// restart goes on.
#[tokio::test(start_paused = true)]
async fn a_slot_of_both_versions_warms_whoever_comes() {
    let store = store();
    let (old, newer) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    preload(&old, 0..50);
    preload(&newer, 40..90);
    let peers = Peers::default().with("old", donor(&old)).with("newer", donor(&newer));
    let peers = peers.but("newer", newer_frame);
    let third = Node::open(&store, 3).await;
    let summary = warm(&third, &peers).await;
    assert_eq!((summary.donors, summary.failures.len(), third.replica.users()), (2, 0, 90));

    let peers = Peers::default().with("third", donor(&third)).but("third", newer_frame);
    let fourth = Node::open(&store, 4).await;
    let summary = warm(&fourth, &peers).await;
    assert_eq!((summary.donors, fourth.replica.users()), (1, 90));
}

#[tokio::test(start_paused = true)]
async fn who_is_too_far_away_is_refused_and_both_versions_are_named() {
    let store = store();
    let (old, new) = (Node::open(&store, 1).await, Node::open(&store, 2).await);
    preload(&old, 0..50);
    // A receiver: it is told what this donor speaks.
    let next = STREAM_VERSIONS.newest + 1;
    let found = Versions { oldest: next, newest: next + 1 };
    let asked = Ask { versions: found, ..ask(&new.replica, VirtualSet::ALL, 1_000) };
    let (mut to_donor, mut at_donor) = pipe();
    let (mut from_donor, mut at_receiver) = pipe();
    to_donor.send(FrameKind::Ask, Bytes::from(asked.encode())).await.expect("sent");
    let refused = serve(&donor(&old), &mut at_donor, &mut from_donor).await;
    assert_eq!(refused, Err(TransferFailure::Version { found }));
    let (kind, payload) = at_receiver.next().await.expect("a pipe").expect("an answer");
    let end = End::decode(&payload).expect("an end");
    assert_eq!(
        (kind, end.kind, end.versions),
        (FrameKind::End, EndKind::Incompatible, STREAM_VERSIONS)
    );

    // A donor: it says what it speaks, and nobody asks it again.
    let end = End { versions: found, ..End::empty(EndKind::Incompatible) };
    let peers = Peers::default().with("far", donor(&old));
    let peers = peers.but("far", move |number, _| {
        (number == 0).then(|| (FrameKind::End, Bytes::from(end.encode())))
    });
    let summary = warm(&new, &peers).await;
    assert_eq!(summary.failures.into_iter().collect::<Vec<_>>(), [("version", 1)]);
    assert_eq!(new.replica.users(), 0);
}
