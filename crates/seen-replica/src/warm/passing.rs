//! A stream on its way through a tool: whether it is whole, and which of its entries are meant.

use seen_filter::{NamespaceId, UserId};

use super::error::TransferFailure;
use super::frame::FrameKind;
use super::reader::Reader;
use super::receiver::declined;
use super::wire::{End, Header};
use super::writer::{ENTRY_HEAD_BYTES, tag};

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// The stream's head: see [`Passing::header`].
    Head,
    /// Entries of so many users.
    Entries(u64),
    /// A part of a large entry; true if it is the last one.
    Piece(bool),
    /// Nothing but that the donor is still at work.
    Alive,
    /// The end of a stream that came whole.
    End(End),
}

/// Checks a stream frame by frame, as its receiver would, and keeps none of it.
#[derive(Debug, Default)]
pub struct Passing {
    header: Option<Header>,
    piece_bytes: usize,
    checksum: crc32fast::Hasher,
    users: u64,
    bytes: u64,
}

impl Passing {
    /// A stream that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// The stream's head, once it came.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Users whose entries came by.
    pub fn users(&self) -> u64 {
        self.users
    }

    /// Bytes of them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Looks at a frame.
    ///
    /// # Errors
    /// [`TransferFailure`]: the stream is not whole, or the donor gives nothing.
    pub fn take(&mut self, kind: FrameKind, payload: &[u8]) -> Result<Passed, TransferFailure> {
        match kind {
            FrameKind::Ask => return Err(TransferFailure::Torn),
            FrameKind::End => return self.take_end(payload),
            FrameKind::Entry => {}
        }
        let (&first, rest) = payload.split_first().ok_or(TransferFailure::Torn)?;
        if first == tag::ALIVE && rest.is_empty() {
            return Ok(Passed::Alive);
        }
        if self.header.is_none() {
            if first != tag::HEADER {
                return Err(TransferFailure::Torn);
            }
            self.header = Some(Header::decode(rest)?);
            return Ok(Passed::Head);
        }
        self.checksum.update(payload);
        match first {
            tag::ENTRIES if self.piece_bytes == 0 => {
                let before = self.users;
                for_each(rest, |_, entry| {
                    self.users += 1;
                    self.bytes += (entry.len() - ENTRY_HEAD_BYTES) as u64;
                })?;
                Ok(Passed::Entries(self.users - before))
            }
            tag::PIECE => {
                self.piece_bytes += rest.len();
                Ok(Passed::Piece(false))
            }
            tag::LAST_PIECE => {
                let whole = std::mem::take(&mut self.piece_bytes) + rest.len();
                let entry = whole.checked_sub(ENTRY_HEAD_BYTES).ok_or(TransferFailure::Torn)?;
                self.users += 1;
                self.bytes += entry as u64;
                Ok(Passed::Piece(true))
            }
            _ => Err(TransferFailure::Torn),
        }
    }

    fn take_end(&self, payload: &[u8]) -> Result<Passed, TransferFailure> {
        let end = End::decode(payload)?;
        if self.header.is_none() {
            return Err(declined(&end));
        }
        let whole = self.piece_bytes == 0
            && end.checksum == self.checksum.clone().finalize()
            && (end.users, end.bytes) == (self.users, self.bytes);
        if whole { Ok(Passed::End(end)) } else { Err(TransferFailure::Torn) }
    }
}

/// A frame of the entries that are meant, and how many they are.
///
/// # Errors
/// [`TransferFailure::Torn`], if it is no frame of whole entries.
pub fn pick(
    payload: &[u8],
    mut keep: impl FnMut(NamespaceId, UserId) -> bool,
) -> Result<(Vec<u8>, u64), TransferFailure> {
    let rest = payload.strip_prefix(&[tag::ENTRIES]).ok_or(TransferFailure::Torn)?;
    let (mut kept, mut users) = (vec![tag::ENTRIES], 0);
    for_each(rest, |(namespace, user), entry| {
        if keep(namespace, user) {
            kept.extend(entry);
            users += 1;
        }
    })?;
    Ok((kept, users))
}

/// Each entry of a frame, its head included.
fn for_each(
    mut rest: &[u8],
    mut each: impl FnMut((NamespaceId, UserId), &[u8]),
) -> Result<(), TransferFailure> {
    while !rest.is_empty() {
        let mut head = Reader::new(rest);
        let (namespace, user) = (NamespaceId::new(head.u16()?), UserId::new(head.u64()?));
        let _heat = head.u8()?;
        let len = head.u32()? as usize;
        let (entry, after) =
            rest.split_at_checked(ENTRY_HEAD_BYTES + len).ok_or(TransferFailure::Torn)?;
        each((namespace, user), entry);
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use seen_filter::Incarnation;

    use super::super::wire::{Dialect, EndKind, STREAM_VERSIONS};
    use super::super::writer::{EntryWriter, header_frame};
    use super::*;

    /// A head, a frame of two users, one user in pieces, and the end.
    fn stream() -> Vec<(FrameKind, Vec<u8>)> {
        let dialect = Dialect::own(1, 2);
        let donor = Incarnation::new(3);
        let (version, namespaces) = (STREAM_VERSIONS.newest, Vec::new());
        let header =
            Header { version, dialect, donor, users: 3, hot_users: 0, bytes: 9, namespaces };
        let mut writer = EntryWriter::new();
        writer.push((NamespaceId::new(0), UserId::new(1)), 1, b"one");
        writer.push((NamespaceId::new(1), UserId::new(2)), 1, b"second");
        writer.push((NamespaceId::new(0), UserId::new(3)), 0, &[7; 100_000]);
        writer.flush();
        let mut frames = vec![(FrameKind::Entry, header_frame(&header).to_vec())];
        while let Some(frame) = writer.pop() {
            frames.push((FrameKind::Entry, frame.to_vec()));
        }
        frames.push((FrameKind::End, writer.end(EndKind::Complete, 0).encode()));
        frames
    }

    fn pass(frames: &[(FrameKind, Vec<u8>)]) -> Result<Vec<Passed>, TransferFailure> {
        let mut passing = Passing::new();
        frames.iter().map(|(kind, payload)| passing.take(*kind, payload)).collect()
    }

    #[test]
    fn a_whole_stream_passes_and_its_users_are_counted() {
        let passed = pass(&stream()).expect("whole");
        let [Passed::Head, Passed::Entries(2), middle @ .., Passed::End(end)] = &passed[..] else {
            panic!("{passed:?}");
        };
        assert_eq!(middle.last(), Some(&Passed::Piece(true)));
        assert_eq!((end.users, end.bytes), (3, 100_009));
    }

    #[test]
    fn a_missing_frame_or_a_changed_byte_is_noticed() {
        for at in 0..stream().len() - 1 {
            let mut lacking = stream();
            lacking.remove(at);
            assert!(pass(&lacking).is_err(), "without frame {at}");
            let mut bent = stream();
            *bent[at].1.last_mut().expect("a byte") ^= 1;
            assert!(pass(&bent).is_err(), "frame {at}");
        }
    }

    #[test]
    fn the_entries_that_are_meant_are_picked_whole() {
        let frames = stream();
        let (all, users) = pick(&frames[1].1, |_, _| true).expect("entries");
        assert_eq!((all, users), (frames[1].1.clone(), 2));
        let (none, users) = pick(&frames[1].1, |_, _| false).expect("entries");
        assert_eq!((none, users), (vec![tag::ENTRIES], 0));
        let mut seen = Vec::new();
        let (one, users) = pick(&frames[1].1, |namespace, user| {
            seen.push((namespace.get(), user.get()));
            namespace.get() == 1
        })
        .expect("entries");
        assert_eq!((seen, users), (vec![(0, 1), (1, 2)], 1));
        assert!(one.ends_with(b"second") && one.len() == 1 + ENTRY_HEAD_BYTES + 6);
        assert_eq!(pick(&frames[2].1, |_, _| true), Err(TransferFailure::Torn));
    }
}
