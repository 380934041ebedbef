//! How the events of one commit lie in the commit log: one blob for each namespace and partition
//! that the commit touched, smaller than rows of their own would be and written in one go.
//!
//! A blob is the format's version (one byte) and records, each a tag and little-endian numbers:
//! adds and removes `tag user:u64 count:u32 (kind:u8 item:u64)*`, all rows removed `tag user:u64`,
//! forgotten `tag user:u64 epoch:u32`, fence `tag writer:u64 seq:u64`.

use seen_filter::{CommitStamp, FeedEvent, FenceSeq, Incarnation, Item, UserEpoch, UserId};

const VERSION: u8 = 1;
const ADD: u8 = 1;
const REMOVE: u8 = 2;
const REMOVE_ALL: u8 = 3;
const FORGOTTEN: u8 = 4;
const FENCE: u8 = 5;

/// The events of one commit for one namespace and partition, being written.
#[derive(Debug, Default)]
pub(crate) struct EventBlob {
    bytes: Vec<u8>,
    /// Where the count of the run that ends the blob lies, and what it is a run of.
    run: Option<(usize, u8, UserId)>,
}

impl EventBlob {
    /// A row was added.
    pub(crate) fn add(&mut self, user: UserId, item: Item) {
        self.row(ADD, user, item);
    }

    /// A row was removed.
    pub(crate) fn remove(&mut self, user: UserId, item: Item) {
        self.row(REMOVE, user, item);
    }

    /// A user was forgotten: all rows went, and the epoch rose.
    pub(crate) fn forgotten(&mut self, user: UserId, epoch: UserEpoch) {
        self.tag(REMOVE_ALL);
        self.bytes.extend_from_slice(&user.get().to_le_bytes());
        self.tag(FORGOTTEN);
        self.bytes.extend_from_slice(&user.get().to_le_bytes());
        self.bytes.extend_from_slice(&epoch.get().to_le_bytes());
    }

    /// A fence.
    pub(crate) fn fence(&mut self, writer: Incarnation, seq: FenceSeq) {
        self.tag(FENCE);
        self.bytes.extend_from_slice(&writer.get().to_le_bytes());
        self.bytes.extend_from_slice(&seq.get().to_le_bytes());
    }

    /// The finished bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn tag(&mut self, tag: u8) {
        if self.bytes.is_empty() {
            self.bytes.push(VERSION);
        }
        self.bytes.push(tag);
        self.run = None;
    }

    fn row(&mut self, tag: u8, user: UserId, item: Item) {
        let count_at = match self.run {
            Some((at, open_tag, open_user)) if (open_tag, open_user) == (tag, user) => at,
            _ => {
                self.tag(tag);
                self.bytes.extend_from_slice(&user.get().to_le_bytes());
                let at = self.bytes.len();
                self.bytes.extend_from_slice(&0_u32.to_le_bytes());
                self.run = Some((at, tag, user));
                at
            }
        };
        if let Some(count) = self.bytes[count_at..].first_chunk_mut::<4>() {
            *count = (u32::from_le_bytes(*count) + 1).to_le_bytes();
        }
        self.bytes.push(item.kind.get());
        self.bytes.extend_from_slice(&item.id.get().to_le_bytes());
    }
}

/// The events of a blob of the commit log, all with the stamp of its commit, or `None` if it is not well-formed.
pub fn decode(bytes: &[u8], stamp: CommitStamp) -> Option<Vec<FeedEvent>> {
    let mut input = Input(bytes);
    if input.u8()? != VERSION {
        return None;
    }
    let mut events = Vec::with_capacity(bytes.len() / 9);
    while !input.0.is_empty() {
        match input.u8()? {
            tag @ (ADD | REMOVE) => {
                let user = UserId::new(input.u64()?);
                for _ in 0..input.u32()? {
                    let item = Item::new(input.u8()?, input.u64()?);
                    events.push(match tag {
                        ADD => FeedEvent::Add { stamp, user, item },
                        _ => FeedEvent::Remove { stamp, user, item },
                    });
                }
            }
            REMOVE_ALL => {
                events.push(FeedEvent::RemoveAll { stamp, user: UserId::new(input.u64()?) });
            }
            FORGOTTEN => events.push(FeedEvent::Forgotten {
                stamp,
                user: UserId::new(input.u64()?),
                epoch: UserEpoch::new(input.u32()?),
            }),
            FENCE => events.push(FeedEvent::Fence {
                stamp,
                user: UserId::new(0),
                writer: Incarnation::new(input.u64()?),
                seq: FenceSeq::new(input.u64()?),
            }),
            _ => return None,
        }
    }
    Some(events)
}

/// What is left to decode.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[b]| b)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use seen_filter::{Domain, Timeline};

    use super::*;

    fn stamp() -> CommitStamp {
        CommitStamp::new(Domain::new(0), Timeline::new(7), 42)
    }

    #[test]
    fn what_is_written_is_read_back_in_order() {
        let (ann, bob) = (UserId::new(u64::MAX), UserId::new(0));
        let (x, y) = (Item::new(255, u64::MAX), Item::new(0, 0));
        let mut blob = EventBlob::default();
        blob.add(ann, x);
        blob.add(ann, y);
        blob.add(bob, x);
        blob.remove(bob, y);
        blob.forgotten(ann, UserEpoch::new(3));
        blob.add(ann, x);
        blob.fence(Incarnation::new(9), FenceSeq::new(4));
        let stamp = stamp();
        let expected = vec![
            FeedEvent::Add { stamp, user: ann, item: x },
            FeedEvent::Add { stamp, user: ann, item: y },
            FeedEvent::Add { stamp, user: bob, item: x },
            FeedEvent::Remove { stamp, user: bob, item: y },
            FeedEvent::RemoveAll { stamp, user: ann },
            FeedEvent::Forgotten { stamp, user: ann, epoch: UserEpoch::new(3) },
            FeedEvent::Add { stamp, user: ann, item: x },
            FeedEvent::Fence {
                stamp,
                user: UserId::new(0),
                writer: Incarnation::new(9),
                seq: FenceSeq::new(4),
            },
        ];
        assert_eq!(decode(&blob.into_bytes(), stamp), Some(expected));
    }

    #[test]
    fn damaged_blobs_are_refused_and_never_panic() {
        let mut blob = EventBlob::default();
        for id in 0..3 {
            blob.add(UserId::new(1), Item::new(1, id));
        }
        blob.fence(Incarnation::new(1), FenceSeq::new(1));
        let whole = blob.into_bytes();
        for length in 0..whole.len() {
            let cut = decode(&whole[..length], stamp());
            let at_record_end = length == 1 || length == 14 + 27;
            assert_eq!(cut.is_none(), !at_record_end, "length {length}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0xff;
            let _ = decode(&flipped, stamp());
        }
        assert_eq!(decode(&[2, 1], stamp()), None, "a later version");
    }
}
