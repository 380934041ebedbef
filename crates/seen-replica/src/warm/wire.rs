//! What the frames of a stream say, byte by byte: little-endian, each of them with a checksum of its own but for the entries,
//! which have one apiece and one over all in the [`End`].
//!
//! Whoever asks says which versions it reads, and the donor gives the newest one that both know. Fields that a newer program
//! adds behind the others are left out by an older one.
//!
//! | frame | payload |
//! |---|---|
//! | ask | [`Ask`] |
//! | entry | 1, then [`Header`]: the first one |
//! | entry | 2, then entries: `u16` namespace, `u64` user, `u8` heat, `u32` length, the bytes of `seen_filter::transfer` |
//! | entry | 3, then a part of an entry that is too large for one frame; 4, then its last part (the head is in the first) |
//! | end | [`End`] |

use seen_filter::hash::HASH_VERSION;
use seen_filter::transfer::ALGORITHM;
use seen_filter::{Incarnation, NamespaceId, UserId, VirtualSet};

use super::error::TransferFailure;
use super::reader::Reader;

/// The oldest and the newest version of these layouts that this program speaks. A new one is needed for what an older program
/// may not leave out.
pub const STREAM_VERSIONS: Versions = Versions { oldest: 1, newest: 1 };
/// Most users that one ask names.
pub const ASK_USERS_MAX: usize = 4_096;
/// Most namespaces that a stream names.
const NAMESPACES_MAX: usize = 256;

const MAGIC: [u8; 4] = *b"SWRM";
const CHECKSUM_BYTES: usize = 4;

/// How users and items are hashed, and by whom: two replicas whose answers differ here have nothing to give to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Of the entries' words.
    pub algorithm: u16,
    /// Of the hash.
    pub hash_version: u16,
    /// Names the hash's secret.
    pub key_id: u32,
    /// Names the cluster.
    pub cluster: u64,
}

impl Dialect {
    /// What this program speaks, with a key and in a cluster.
    pub const fn own(key_id: u32, cluster: u64) -> Self {
        Self { algorithm: ALGORITHM, hash_version: HASH_VERSION, key_id, cluster }
    }
}

/// Versions of the stream's layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The first of them.
    pub oldest: u16,
    /// The last one.
    pub newest: u16,
}

impl Versions {
    /// The newest one that is in both.
    pub const fn common(self, other: Self) -> Option<u16> {
        let newest = if self.newest < other.newest { self.newest } else { other.newest };
        if newest >= self.oldest && newest >= other.oldest { Some(newest) } else { None }
    }

    fn encode(self, out: &mut Vec<u8>) {
        out.extend(self.oldest.to_le_bytes());
        out.extend(self.newest.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, TransferFailure> {
        Ok(Self { oldest: reader.u16()?, newest: reader.u16()? })
    }
}

/// A namespace as one end knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceLine {
    /// Its number there.
    pub number: NamespaceId,
    /// See [`crate::settings::namespace_digest`].
    pub digest: u64,
    /// Its name.
    pub name: String,
}

/// What a receiver wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What the receiver reads.
    pub versions: Versions,
    /// How the receiver hashes.
    pub dialect: Dialect,
    /// This life of the receiver: a donor gives it one stream at a time.
    pub receiver: Incarnation,
    /// Whose users.
    pub slots: VirtualSet,
    /// How many of the donor's users, hottest first, in thousandths; 0 = only the stream's head, to see what there is.
    pub share_permille: u16,
    /// The namespaces that the receiver holds.
    pub namespaces: Vec<NamespaceLine>,
    /// Exactly these users, at most [`ASK_USERS_MAX`]; none = by `slots` and `share_permille`.
    pub users: Vec<UserId>,
}

/// What a donor gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version of what follows.
    pub version: u16,
    /// How the donor hashes.
    pub dialect: Dialect,
    /// This life of the donor.
    pub donor: Incarnation,
    /// Users that will be given, about: some may go, or come, or not be clean. Where only a look was asked for, those there are.
    pub users: u64,
    /// Those of them that were asked for lately.
    pub hot_users: u64,
    /// What their entries take in memory, about, in bytes.
    pub bytes: u64,
    /// The namespaces that are given.
    pub namespaces: Vec<NamespaceLine>,
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndKind {
    /// Everything wanted was given.
    Complete = 0,
    /// Too many streams, or one for this receiver: ask another donor, or later.
    Busy = 1,
    /// The donor or the receiver had enough.
    Stopped = 2,
    /// The two hash in different ways, or share no namespace.
    Incompatible = 3,
}

/// The last frame of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub kind: EndKind,
    /// Entries given; of a receiver's answer, those installed.
    pub users: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Users left out since their entries owe something (rule R3); of a receiver's answer, those refused.
    pub left_out: u64,
    /// Over the payloads of all entry frames but the first one.
    pub checksum: u32,
    /// What the sender of this speaks: why the other end is of no use to it, perhaps.
    pub versions: Versions,
}

impl Ask {
    /// The payload of its frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = begin(self.versions, self.dialect);
        out.extend(self.receiver.get().to_le_bytes());
        out.extend(self.share_permille.to_le_bytes());
        out.extend(self.slots.to_bytes());
        encode_namespaces(&mut out, &self.namespaces);
        let users = &self.users[..self.users.len().min(ASK_USERS_MAX)];
        out.extend((users.len() as u16).to_le_bytes());
        users.iter().for_each(|user| out.extend(user.get().to_le_bytes()));
        seal(out)
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`TransferFailure`].
    pub fn decode(payload: &[u8]) -> Result<Self, TransferFailure> {
        let (mut reader, versions, dialect) = open(payload)?;
        let receiver = Incarnation::new(reader.u64()?);
        let share_permille = reader.u16()?;
        let slots = VirtualSet::from_bytes(reader.take(512)?).ok_or(TransferFailure::Torn)?;
        let namespaces = decode_namespaces(&mut reader)?;
        let count = usize::from(reader.u16()?);
        if count > ASK_USERS_MAX {
            return Err(TransferFailure::Torn);
        }
        let users: Result<Vec<_>, _> = (0..count).map(|_| reader.u64().map(UserId::new)).collect();
        let users = users?;
        Ok(Self { versions, dialect, receiver, slots, share_permille, namespaces, users })
    }
}

impl Header {
    /// What follows the tag in its frame.
    pub fn encode(&self) -> Vec<u8> {
        let version = Versions { oldest: self.version, newest: self.version };
        let mut out = begin(version, self.dialect);
        out.extend(self.donor.get().to_le_bytes());
        for count in [self.users, self.hot_users, self.bytes] {
            out.extend(count.to_le_bytes());
        }
        encode_namespaces(&mut out, &self.namespaces);
        seal(out)
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`TransferFailure`].
    pub fn decode(payload: &[u8]) -> Result<Self, TransferFailure> {
        let (mut reader, versions, dialect) = open(payload)?;
        let donor = Incarnation::new(reader.u64()?);
        let (users, hot_users, bytes) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let namespaces = decode_namespaces(&mut reader)?;
        let version = versions.newest;
        Ok(Self { version, dialect, donor, users, hot_users, bytes, namespaces })
    }
}

impl End {
    /// An end without entries.
    pub const fn empty(kind: EndKind) -> Self {
        let versions = STREAM_VERSIONS;
        Self { kind, users: 0, bytes: 0, left_out: 0, checksum: 0, versions }
    }

    /// The payload of its frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.kind as u8];
        for count in [self.users, self.bytes, self.left_out] {
            out.extend(count.to_le_bytes());
        }
        out.extend(self.checksum.to_le_bytes());
        self.versions.encode(&mut out);
        seal(out)
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`TransferFailure`].
    pub fn decode(payload: &[u8]) -> Result<Self, TransferFailure> {
        let mut reader = unseal(payload)?;
        let kind = match reader.u8()? {
            0 => EndKind::Complete,
            1 => EndKind::Busy,
            3 => EndKind::Incompatible,
            // What a newer program may say: in any case nothing more will come.
            _ => EndKind::Stopped,
        };
        let (users, bytes, left_out) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let checksum = reader.u32()?;
        let versions = Versions::decode(&mut reader)?;
        Ok(Self { kind, users, bytes, left_out, checksum, versions })
    }
}

fn begin(versions: Versions, dialect: Dialect) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    versions.encode(&mut out);
    out.extend(dialect.algorithm.to_le_bytes());
    out.extend(dialect.hash_version.to_le_bytes());
    out.extend(dialect.key_id.to_le_bytes());
    out.extend(dialect.cluster.to_le_bytes());
    out
}

fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&out);
    out.extend(checksum.to_le_bytes());
    out
}

fn unseal(payload: &[u8]) -> Result<Reader<'_>, TransferFailure> {
    let (covered, checksum) =
        payload.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TransferFailure::Torn)?;
    if crc32fast::hash(covered) != u32::from_le_bytes(*checksum) {
        return Err(TransferFailure::Torn);
    }
    Ok(Reader::new(covered))
}

/// Magic and versions come before the checksum: whatever another version has there, it is named as such.
fn open(payload: &[u8]) -> Result<(Reader<'_>, Versions, Dialect), TransferFailure> {
    let mut head = Reader::new(payload);
    if head.take(MAGIC.len())? != MAGIC {
        return Err(TransferFailure::Torn);
    }
    let found = Versions::decode(&mut head)?;
    if STREAM_VERSIONS.common(found).is_none() {
        return Err(TransferFailure::Version { found });
    }
    let mut reader = unseal(payload)?;
    reader.take(MAGIC.len() + 4)?;
    let (algorithm, hash_version) = (reader.u16()?, reader.u16()?);
    let (key_id, cluster) = (reader.u32()?, reader.u64()?);
    Ok((reader, found, Dialect { algorithm, hash_version, key_id, cluster }))
}

fn encode_namespaces(out: &mut Vec<u8>, namespaces: &[NamespaceLine]) {
    let namespaces = &namespaces[..namespaces.len().min(NAMESPACES_MAX)];
    out.extend((namespaces.len() as u16).to_le_bytes());
    for line in namespaces {
        out.extend(line.number.get().to_le_bytes());
        out.extend(line.digest.to_le_bytes());
        // A name has at most 48 bytes.
        out.push(line.name.len() as u8);
        out.extend(line.name.as_bytes());
    }
}

fn decode_namespaces(reader: &mut Reader<'_>) -> Result<Vec<NamespaceLine>, TransferFailure> {
    let count = usize::from(reader.u16()?);
    if count > NAMESPACES_MAX {
        return Err(TransferFailure::Torn);
    }
    let mut namespaces = Vec::with_capacity(count);
    for _ in 0..count {
        let number = NamespaceId::new(reader.u16()?);
        let digest = reader.u64()?;
        let len = usize::from(reader.u8()?);
        let name = std::str::from_utf8(reader.take(len)?).map_err(|_| TransferFailure::Torn)?;
        namespaces.push(NamespaceLine { number, digest, name: name.to_owned() });
    }
    Ok(namespaces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> Ask {
        let line = |number, name: &str| NamespaceLine {
            number: NamespaceId::new(number),
            digest: 7,
            name: name.to_owned(),
        };
        Ask {
            versions: STREAM_VERSIONS,
            dialect: Dialect::own(3, 5),
            receiver: Incarnation::new(9),
            slots: VirtualSet::ALL,
            share_permille: 950,
            namespaces: vec![line(0, "feed_read"), line(1, "push_sent")],
            users: vec![UserId::new(1), UserId::new(u64::MAX)],
        }
    }

    fn header() -> Header {
        let Ask { dialect, namespaces, .. } = ask();
        let (version, donor) = (STREAM_VERSIONS.newest, Incarnation::new(2));
        Header { version, dialect, donor, users: 10, hot_users: 4, bytes: 2_000, namespaces }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Ask::decode(&ask().encode()), Ok(ask()));
        assert_eq!(Header::decode(&header().encode()), Ok(header()));
        let end = End { users: 3, bytes: 5, left_out: 1, checksum: 8, ..End::empty(EndKind::Busy) };
        assert_eq!(End::decode(&end.encode()), Ok(end));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        for whole in [ask().encode(), header().encode()] {
            for at in 0..whole.len() {
                let mut bent = whole.clone();
                bent[at] ^= 0x10;
                assert!(Ask::decode(&bent).is_err() && Header::decode(&bent).is_err(), "{at}");
                assert!(
                    Ask::decode(&whole[..at]).is_err() && Header::decode(&whole[..at]).is_err()
                );
            }
        }
        let end = End::empty(EndKind::Complete).encode();
        for at in 0..end.len() {
            let mut bent = end.clone();
            bent[at] ^= 1;
            assert!(End::decode(&bent).is_err() && End::decode(&end[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn versions_too_far_away_are_named() {
        let mut bytes = ask().encode();
        (bytes[4], bytes[6]) = (8, 9);
        let found = Versions { oldest: 8, newest: 9 };
        let failure = TransferFailure::Version { found };
        assert_eq!(Ask::decode(&bytes), Err(failure.clone()));
        let text = failure.to_string();
        assert!(text.contains("8 to 9") && text.contains("1 to 1"), "{text}");
    }

    #[test]
    fn neighbours_speak_the_older_ones_newest_version() {
        let versions = |oldest, newest| Versions { oldest, newest };
        let (old, new, newest) = (versions(1, 1), versions(1, 2), versions(2, 3));
        for (one, other, version) in [
            (old, new, Some(1)),
            (new, new, Some(2)),
            (new, newest, Some(2)),
            (old, newest, None),
            (new, versions(3, 2), None),
        ] {
            assert_eq!(
                (one.common(other), other.common(one)),
                (version, version),
                "{one:?} {other:?}"
            );
        }
    }
}
