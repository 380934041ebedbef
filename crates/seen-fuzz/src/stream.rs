//! Streams of entries: the frames' payloads, and a whole stream as a replica takes it.

use seen_filter::{Incarnation, NamespaceId, UserId, VirtualSet};
use seen_replica::warm::{
    ASK_USERS_MAX, Ask, Dialect, End, EndKind, Header, NamespaceLine, STREAM_VERSIONS,
    TransferFailure,
};

use crate::{Target, sealed, take};

pub(crate) const TRANSFER_FRAMES: Target = Target {
    name: "transfer_frames",
    run: frames,
    seeds: frame_seeds,
    memory_bytes: 65_536,
    memory_per_byte: 64,
};

fn frames(mut data: &[u8]) {
    let [which] = take(&mut data);
    for payload in [data, &sealed(data)] {
        match which % 3 {
            0 => ask(payload),
            1 => header(payload),
            _ => end(payload),
        }
    }
}

fn told(failure: &TransferFailure) {
    assert!(!failure.to_string().is_empty() && !failure.label().is_empty());
}

fn ask(payload: &[u8]) {
    match Ask::decode(payload) {
        Ok(ask) => {
            assert!(ask.users.len() <= ASK_USERS_MAX);
            assert_eq!(Ask::decode(&ask.encode()), Ok(ask));
        }
        Err(failure) => told(&failure),
    }
}

fn header(payload: &[u8]) {
    match Header::decode(payload) {
        Ok(header) => {
            // One version is written; of those that are read, the newest counts.
            let again = Header::decode(&header.encode());
            let known = (STREAM_VERSIONS.oldest..=STREAM_VERSIONS.newest).contains(&header.version);
            assert!(!known || again == Ok(header.clone()), "{header:?} became {again:?}");
        }
        Err(failure) => told(&failure),
    }
}

fn end(payload: &[u8]) {
    match End::decode(payload) {
        Ok(end) => assert_eq!(End::decode(&end.encode()), Ok(end)),
        Err(failure) => told(&failure),
    }
}

/// The head of a stream that the replica of [`server`] takes.
fn head() -> Header {
    let line = NamespaceLine {
        number: NamespaceId::new(0),
        digest: seen_replica::settings::namespace_digest(&namespace()),
        name: "feed_read".to_owned(),
    };
    Header {
        version: STREAM_VERSIONS.newest,
        dialect: Dialect::own(crate::entry::key().id(), CLUSTER),
        donor: Incarnation::new(2),
        users: 2,
        hot_users: 1,
        bytes: 400,
        namespaces: vec![line],
    }
}

const CLUSTER: u64 = 77;

fn namespace() -> seen_filter::NamespaceSettings {
    seen_filter::NamespaceSettings::new(NamespaceId::new(0), "feed_read")
}

fn frame_seeds() -> Vec<Vec<u8>> {
    let Header { dialect, namespaces, .. } = head();
    let ask = Ask {
        versions: STREAM_VERSIONS,
        dialect,
        receiver: Incarnation::new(9),
        slots: VirtualSet::ALL,
        share_permille: 950,
        namespaces,
        users: vec![UserId::new(1), UserId::new(u64::MAX)],
    };
    let end = End { users: 3, bytes: 5, left_out: 1, ..End::empty(EndKind::Complete) };
    let whole = [(0, ask.encode()), (1, head().encode()), (2, end.encode())];
    let unsealed = |(which, bytes): &(u8, Vec<u8>)| [&[*which], &bytes[..bytes.len() - 4]].concat();
    let sealed = |(which, bytes): &(u8, Vec<u8>)| [&[*which], &bytes[..]].concat();
    whole.iter().map(sealed).chain(whole.iter().map(unsealed)).collect()
}

#[cfg(feature = "server")]
pub(crate) use taken::TRANSFER_STREAM;

#[cfg(feature = "server")]
mod taken {
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use seen_filter::UnixMillis;
    use seen_replica::warm::{
        BytesSource, FrameKind, FrameSource, Progress, Receiver, TransferFailure, push,
    };
    use seen_replica::{Replica, ReplicaLimits, ReplicaOptions, StorageLimits};
    use seen_store::memory::MemoryOptions;
    use seen_store::{MemoryStore, StorageClock};

    use super::{CLUSTER, Incarnation, Target, head, namespace, take, told};

    pub(crate) const TRANSFER_STREAM: Target = Target {
        name: "transfer_stream",
        run: stream,
        seeds,
        // The replica itself.
        memory_bytes: 8 << 20,
        memory_per_byte: 64,
    };

    fn replica() -> Arc<Replica> {
        let clock = StorageClock::new(|| UnixMillis::new(1_000_000));
        let options = MemoryOptions { partitions: 1, ..MemoryOptions::new(clock, 7) };
        let store = MemoryStore::new(options, vec![namespace()]).expect("in range");
        let options = ReplicaOptions {
            namespaces: vec![namespace()],
            key: crate::entry::key(),
            cluster: CLUSTER,
            incarnation: Incarnation::new(1),
            history: Arc::new(store.clone()),
            feed: Arc::new(store),
            limits: ReplicaLimits::default(),
            storage: StorageLimits::default(),
        };
        Replica::new(options).expect("in range").0
    }

    /// A stream as it lies in a file, behind a head that is right if the first byte is even.
    fn stream(mut data: &[u8]) {
        let [how] = take(&mut data);
        let replica = replica();
        let mut receiver = Receiver::new(Arc::clone(&replica), Arc::new(Progress::new()));
        if how.is_multiple_of(2) {
            let head = [&[1], &head().encode()[..]].concat();
            receiver.take(FrameKind::Entry, &head).expect("a head that fits");
        }
        let mut source = BytesSource(data);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let next = std::pin::pin!(source.next()).poll(&mut context);
            let Poll::Ready(next) = next else { panic!("memory is always ready") };
            let Ok(Some((kind, payload))) = next else { break };
            push::is_push(&payload);
            if let Err(failure) = receiver.take(kind, &payload) {
                told(&failure);
                assert_ne!(failure, TransferFailure::Declined(seen_replica::warm::EndKind::Busy));
                break;
            }
        }
        let outcomes: u64 = receiver.outcomes().values().sum();
        let end = receiver.answer(seen_replica::warm::EndKind::Complete);
        assert_eq!(end.users + end.left_out, outcomes, "an entry came to nothing");
    }

    fn frame(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() + 1) as u32;
        [&length.to_le_bytes()[..], &[kind as u8], payload].concat()
    }

    fn seeds() -> Vec<Vec<u8>> {
        let header = frame(FrameKind::Entry, &[&[1], &head().encode()[..]].concat());
        let mut entries = vec![2];
        for entry in crate::entry::seeds().iter().take(3) {
            entries.extend([0, 0]);
            entries.extend(9_u64.to_le_bytes());
            entries.push(3);
            entries.extend((entry.len() as u32).to_le_bytes());
            entries.extend(entry);
        }
        let pieces = entries.split_at(40);
        let pieces = [
            frame(FrameKind::Entry, &[&[3], &pieces.0[1..]].concat()),
            frame(FrameKind::Entry, &[&[4], pieces.1].concat()),
        ];
        let entries = frame(FrameKind::Entry, &entries);
        vec![
            [&[1], &header[..], &entries].concat(),
            [&[0], &entries[..], &entries].concat(),
            [&[0], &pieces[0][..], &pieces[1]].concat(),
        ]
    }
}
