//! The taking side: each entry is a build whose snapshot is the donor (rule R3), installed as it comes, so that a stream that is
//! torn leaves whole entries only. Storage is not asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use seen_filter::transfer::TRANSFER_BYTES_MAX;
use seen_filter::{NamespaceId, UserId};

use super::error::TransferFailure;
use super::frame::FrameKind;
use super::progress::{Progress, Taken};
use super::reader::Reader;
use super::wire::{End, EndKind, Header, STREAM_VERSIONS};
use super::writer::{ENTRY_HEAD_BYTES, tag};
use super::{lines, same_dialect};
use crate::replica::Replica;
use crate::rules::{Input, Outcome};

/// What a frame came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// More may follow.
    More,
    /// Memory is full: nothing more is wanted.
    Full,
    /// It was the last one.
    End(End),
}

/// Takes one stream in.
pub struct Receiver {
    replica: Arc<Replica>,
    progress: Arc<Progress>,
    header: Option<Header>,
    /// The donor's numbers of the namespaces that are the same here, with ours.
    namespaces: BTreeMap<u16, usize>,
    pieces: Vec<u8>,
    checksum: crc32fast::Hasher,
    users: u64,
    bytes: u64,
    installed: u64,
    installed_bytes: u64,
    /// By a stable name, what became of the entries.
    outcomes: BTreeMap<&'static str, u64>,
}

impl Receiver {
    /// Takes a stream into this replica's memory.
    pub fn new(replica: Arc<Replica>, progress: Arc<Progress>) -> Self {
        Self {
            replica,
            progress,
            header: None,
            namespaces: BTreeMap::new(),
            pieces: Vec::new(),
            checksum: crc32fast::Hasher::new(),
            users: 0,
            bytes: 0,
            installed: 0,
            installed_bytes: 0,
            outcomes: BTreeMap::new(),
        }
    }

    /// Whose memory it goes into.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// The stream's head, once it came.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// How many entries came to what, by [`Taken::label`].
    pub fn outcomes(&self) -> &BTreeMap<&'static str, u64> {
        &self.outcomes
    }

    /// What to tell whoever sent the stream.
    pub fn answer(&self, kind: EndKind) -> End {
        let (users, bytes) = (self.installed, self.installed_bytes);
        End { users, bytes, left_out: self.users - self.installed, ..End::empty(kind) }
    }

    /// Takes a frame. Takes as long as it takes to install what is in it: some hundred microseconds.
    ///
    /// # Errors
    /// [`TransferFailure`]: give the stream up.
    pub fn take(&mut self, kind: FrameKind, payload: &[u8]) -> Result<Took, TransferFailure> {
        match kind {
            FrameKind::Ask => return Err(TransferFailure::Torn),
            FrameKind::End => return self.take_end(payload),
            FrameKind::Entry => {}
        }
        let (&first, rest) = payload.split_first().ok_or(TransferFailure::Torn)?;
        match (first, self.header.is_some()) {
            (tag::ALIVE, _) if rest.is_empty() => return Ok(Took::More),
            (tag::HEADER, false) => {
                self.take_header(rest)?;
                return Ok(Took::More);
            }
            (tag::HEADER, true) | (_, false) => return Err(TransferFailure::Torn),
            _ => self.checksum.update(payload),
        }
        match first {
            tag::ENTRIES if self.pieces.is_empty() => self.take_entries(rest)?,
            tag::PIECE => self.take_piece(rest)?,
            tag::LAST_PIECE => {
                self.take_piece(rest)?;
                let whole = std::mem::take(&mut self.pieces);
                self.take_entries(&whole)?;
            }
            _ => return Err(TransferFailure::Torn),
        }
        Ok(if self.is_full() { Took::Full } else { Took::More })
    }

    fn take_header(&mut self, bytes: &[u8]) -> Result<(), TransferFailure> {
        let header = Header::decode(bytes)?;
        same_dialect(&self.replica, header.dialect)?;
        let own = lines(&self.replica);
        for line in header.namespaces.iter().filter(|line| own.contains(line)) {
            self.namespaces.insert(line.number.get(), usize::from(line.number.get()));
        }
        if self.namespaces.is_empty() {
            return Err(TransferFailure::Namespaces);
        }
        self.progress.expect(header.users, header.hot_users);
        self.header = Some(header);
        Ok(())
    }

    fn take_end(&mut self, payload: &[u8]) -> Result<Took, TransferFailure> {
        let end = End::decode(payload)?;
        if self.header.is_none() {
            return Err(declined(&end));
        }
        let whole = self.pieces.is_empty()
            && end.checksum == self.checksum.clone().finalize()
            && (end.users, end.bytes) == (self.users, self.bytes);
        if !whole {
            return Err(TransferFailure::Torn);
        }
        Ok(Took::End(end))
    }

    fn take_piece(&mut self, bytes: &[u8]) -> Result<(), TransferFailure> {
        if self.pieces.len() + bytes.len() > ENTRY_HEAD_BYTES + TRANSFER_BYTES_MAX {
            return Err(TransferFailure::Torn);
        }
        self.pieces.extend(bytes);
        Ok(())
    }

    fn take_entries(&mut self, bytes: &[u8]) -> Result<(), TransferFailure> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let namespace = NamespaceId::new(reader.u16()?);
            let user = UserId::new(reader.u64()?);
            let heat = reader.u8()?;
            let len = reader.u32()? as usize;
            let entry = reader.take(len)?;
            let taken = self.install(namespace, user, heat, entry);
            self.users += 1;
            self.bytes += len as u64;
            if taken == Taken::Installed {
                self.installed += 1;
                self.installed_bytes += len as u64;
            }
            *self.outcomes.entry(taken.label()).or_default() += 1;
            self.progress.count(taken, heat, len);
            self.replica.metrics.taken(taken, len);
        }
        Ok(())
    }

    fn install(&self, namespace: NamespaceId, user: UserId, heat: u8, entry: &[u8]) -> Taken {
        let Some(&at) = self.namespaces.get(&namespace.get()) else { return Taken::NotOwned };
        if !self.replica.owns(user) {
            return Taken::NotOwned;
        }
        let rules = &self.replica.namespaces[at].rules;
        if rules.holds(user) {
            return Taken::Held;
        }
        let now = self.replica.ticker.now();
        let generation = match self.replica.step(at, now, Input::BeginTransfer { user }) {
            Outcome::Building(generation) => generation,
            Outcome::Refused(refusal) => return Taken::Refused(refusal),
            _ => return Taken::Held,
        };
        let transferred = Input::Transferred { generation, bytes: entry, user };
        match self.replica.step(at, now, transferred) {
            Outcome::Refused(refusal) => Taken::Refused(refusal),
            _ => {
                rules.warm(user, heat);
                Taken::Installed
            }
        }
    }

    /// True if nothing more is wanted.
    pub(super) fn is_full(&self) -> bool {
        // The namespaces share one bound.
        self.replica.namespaces.first().is_some_and(|n| n.rules.settings().cache.exceeded())
    }
}

/// Why a donor gives nothing.
pub(super) fn declined(end: &End) -> TransferFailure {
    match STREAM_VERSIONS.common(end.versions) {
        Some(_) => TransferFailure::Declined(end.kind),
        None => TransferFailure::Version { found: end.versions },
    }
}
