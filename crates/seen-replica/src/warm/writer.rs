//! Entries into frames.

use std::collections::VecDeque;

use bytes::Bytes;
use seen_filter::{NamespaceId, UserId};

use super::frame::PAYLOAD_BYTES_MAX;
use super::wire::{End, EndKind};

/// The first byte of an entry frame.
pub(super) mod tag {
    pub const HEADER: u8 = 1;
    pub const ENTRIES: u8 = 2;
    pub const PIECE: u8 = 3;
    pub const LAST_PIECE: u8 = 4;
    /// The donor is still at work; nothing follows the tag. Also before the head, and in between the parts of an entry.
    pub const ALIVE: u8 = 5;
}

/// Longest frame of several entries: with a stream's head before it, it still fits into one frame, which is how a tool brings
/// entries.
const ENTRIES_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 4_096;

/// Bytes of an entry before its own.
pub(super) const ENTRY_HEAD_BYTES: usize = 15;

/// Puts entries into frames, several into one, or one into several.
#[derive(Debug)]
pub(super) struct EntryWriter {
    filling: Vec<u8>,
    ready: VecDeque<Bytes>,
    checksum: crc32fast::Hasher,
    users: u64,
    bytes: u64,
}

impl EntryWriter {
    pub fn new() -> Self {
        let checksum = crc32fast::Hasher::new();
        Self { filling: Vec::new(), ready: VecDeque::new(), checksum, users: 0, bytes: 0 }
    }

    pub fn push(&mut self, (namespace, user): (NamespaceId, UserId), heat: u8, entry: &[u8]) {
        self.users += 1;
        self.bytes += entry.len() as u64;
        let whole = ENTRY_HEAD_BYTES + entry.len();
        if self.filling.len() + whole > ENTRIES_BYTES_MAX {
            self.flush();
        }
        if self.filling.is_empty() {
            self.filling.reserve_exact(ENTRIES_BYTES_MAX);
            self.filling.push(tag::ENTRIES);
        }
        // An entry has at most 64 MiB.
        let head = entry_head(namespace, user, heat, entry.len() as u32);
        let large = 1 + whole > ENTRIES_BYTES_MAX;
        if !large {
            self.filling.extend_from_slice(&head);
            self.filling.extend_from_slice(entry);
            return;
        }
        self.filling.clear();
        let all = [&head[..], entry].concat();
        let mut pieces = all.chunks(PAYLOAD_BYTES_MAX - 1).peekable();
        while let Some(piece) = pieces.next() {
            self.filling.push(if pieces.peek().is_some() { tag::PIECE } else { tag::LAST_PIECE });
            self.filling.extend(piece);
            self.flush();
        }
    }

    /// Ends the frame that is being filled.
    pub fn flush(&mut self) {
        if !self.filling.is_empty() {
            self.checksum.update(&self.filling);
            self.ready.push_back(Bytes::from(std::mem::take(&mut self.filling)));
        }
    }

    /// A frame that is full.
    pub fn pop(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The stream's end, once all frames are flushed.
    pub fn end(&self, kind: EndKind, left_out: u64) -> End {
        let checksum = self.checksum.clone().finalize();
        End { users: self.users, bytes: self.bytes, left_out, checksum, ..End::empty(kind) }
    }
}

/// What goes before an entry's bytes.
fn entry_head(
    namespace: NamespaceId,
    user: UserId,
    heat: u8,
    entry_bytes: u32,
) -> [u8; ENTRY_HEAD_BYTES] {
    let mut head = [0; ENTRY_HEAD_BYTES];
    head[..2].copy_from_slice(&namespace.get().to_le_bytes());
    head[2..10].copy_from_slice(&user.get().to_le_bytes());
    head[10] = heat;
    head[11..].copy_from_slice(&entry_bytes.to_le_bytes());
    head
}

/// Says that the donor is at work. Not part of what the checksum is of.
pub(super) const fn alive_frame() -> Bytes {
    Bytes::from_static(&[tag::ALIVE])
}

/// The first frame of a stream.
pub(super) fn header_frame(header: &super::wire::Header) -> Bytes {
    let mut payload = vec![tag::HEADER];
    payload.extend(header.encode());
    Bytes::from(payload)
}
