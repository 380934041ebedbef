//! A state as bytes, to be handed from one replica to another (coherence rows 32 and 41).
//!
//! Little-endian: magic and version, the header's fields, the length of the body, the body (the
//! state's words), and a CRC-32 of everything before it.

use thiserror::Error;

use crate::hash::{HASH_VERSION, HashKey};
use crate::ids::{NamespaceId, UserId};
use crate::position::{CommitStamp, Domain, Generation, Timeline, UserEpoch};
use crate::state::UserState;
use crate::state::exact::Exact;
use crate::state::layered::{self, Layered};

/// The layout of the words: exact form and two-part blocked Bloom layers. Raised by every change.
pub const ALGORITHM: u16 = 1;
/// Longest encoded state: 64 MiB, a history of 50 million items at 1 %.
pub const TRANSFER_BYTES_MAX: usize = 64 << 20;

const MAGIC: [u8; 4] = *b"SEEN";
const HEADER_BYTES: usize = 64;
const CHECKSUM_BYTES: usize = 4;

/// Where the header's fields begin.
mod at {
    pub(super) const ALGORITHM: usize = 4;
    pub(super) const HASH_VERSION: usize = 6;
    pub(super) const KEY_ID: usize = 8;
    pub(super) const NAMESPACE: usize = 12;
    /// 1 if there is a position, 0 if its fields mean nothing.
    pub(super) const HAS_POSITION: usize = 14;
    pub(super) const USER: usize = 16;
    pub(super) const USER_EPOCH: usize = 24;
    pub(super) const GENERATION: usize = 28;
    pub(super) const DOMAIN: usize = 32;
    pub(super) const TIMELINE: usize = 40;
    pub(super) const POSITION: usize = 48;
    pub(super) const BODY_BYTES: usize = 56;
}

/// What a transferred state is and what it contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose history: the namespace.
    pub namespace: NamespaceId,
    /// Whose history: the user.
    pub user: UserId,
    /// How often the user had been forgotten; a lower one than the receiver knows is refused there.
    pub user_epoch: UserEpoch,
    /// The donor's generation of the entry.
    pub generation: Generation,
    /// A commit that the state contains with everything before it, if the donor knows one.
    pub position: Option<CommitStamp>,
}

/// Why bytes are not a state that this replica can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TransferError {
    /// Fewer bytes than a header, or than the header says.
    #[error("transfer: {have} bytes, {needed} are needed; ask the donor again")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        needed: usize,
    },
    /// More bytes than the header says.
    #[error("transfer: {extra} bytes follow the end; ask the donor again")]
    Trailing {
        /// Bytes too many.
        extra: usize,
    },
    /// Larger than [`TRANSFER_BYTES_MAX`].
    #[error("transfer: {bytes} bytes, the limit is {TRANSFER_BYTES_MAX}; build from storage")]
    TooLarge {
        /// The length, given or claimed.
        bytes: u64,
    },
    /// Not a transferred state at all.
    #[error("transfer: does not begin with the magic bytes; is the peer a replica?")]
    Magic,
    /// Changed on the way, or torn.
    #[error("transfer: checksum {found:08x}, computed {computed:08x}; ask the donor again")]
    Checksum {
        /// What the bytes say.
        found: u32,
        /// What they amount to.
        computed: u32,
    },
    /// Another layout, as during a rolling upgrade.
    #[error("transfer: algorithm {found}, this replica has {expected}; build from storage")]
    Algorithm {
        /// The donor's.
        found: u16,
        /// This replica's.
        expected: u16,
    },
    /// Another version of the hash, as during a rolling upgrade.
    #[error("transfer: hash version {found}, this replica has {expected}; build from storage")]
    HashVersion {
        /// The donor's.
        found: u16,
        /// This replica's.
        expected: u16,
    },
    /// Hashed with another key.
    #[error("transfer: hash key {found}, this replica has {expected}; build from storage")]
    KeyId {
        /// The donor's.
        found: u32,
        /// This replica's.
        expected: u32,
    },
    /// The checksum is right but the words are not a state.
    #[error("transfer: the {part} is malformed; report this, and build from storage")]
    Malformed {
        /// Which part.
        part: &'static str,
    },
}

/// The bytes of a state.
///
/// # Errors
/// [`TransferError::TooLarge`].
pub fn encode(state: &UserState, header: &Header, key: &HashKey) -> Result<Vec<u8>, TransferError> {
    let body_bytes = 8 * state.words_len();
    let total = HEADER_BYTES + body_bytes + CHECKSUM_BYTES;
    if total > TRANSFER_BYTES_MAX {
        return Err(TransferError::TooLarge { bytes: total as u64 });
    }
    let mut bytes = Vec::with_capacity(total);
    bytes.extend(encode_head(header, key, body_bytes as u64));
    state.all_words().for_each(|word| bytes.extend(word.to_le_bytes()));
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    Ok(bytes)
}

fn encode_head(header: &Header, key: &HashKey, body_bytes: u64) -> [u8; HEADER_BYTES] {
    let mut head = [0; HEADER_BYTES];
    let mut put = |at: usize, field: &[u8]| head[at..at + field.len()].copy_from_slice(field);
    put(0, &MAGIC);
    put(at::ALGORITHM, &ALGORITHM.to_le_bytes());
    put(at::HASH_VERSION, &HASH_VERSION.to_le_bytes());
    put(at::KEY_ID, &key.id().to_le_bytes());
    put(at::NAMESPACE, &header.namespace.get().to_le_bytes());
    put(at::USER, &header.user.get().to_le_bytes());
    put(at::USER_EPOCH, &header.user_epoch.get().to_le_bytes());
    put(at::GENERATION, &header.generation.get().to_le_bytes());
    if let Some(stamp) = header.position {
        put(at::HAS_POSITION, &1_u16.to_le_bytes());
        put(at::DOMAIN, &stamp.domain.get().to_le_bytes());
        put(at::TIMELINE, &stamp.timeline.get().to_le_bytes());
        put(at::POSITION, &stamp.position.to_le_bytes());
    }
    put(at::BODY_BYTES, &body_bytes.to_le_bytes());
    head
}

/// Reads what [`encode`] wrote with the same key and version. Allocates no more than the bytes given.
///
/// # Errors
/// [`TransferError`].
pub fn decode(bytes: &[u8], key: &HashKey) -> Result<(Header, UserState), TransferError> {
    if bytes.len() > TRANSFER_BYTES_MAX {
        return Err(TransferError::TooLarge { bytes: bytes.len() as u64 });
    }
    let truncated = |needed| TransferError::Truncated { have: bytes.len(), needed };
    let head = bytes.first_chunk::<HEADER_BYTES>().ok_or(truncated(HEADER_BYTES))?;
    if head[..4] != MAGIC {
        return Err(TransferError::Magic);
    }
    let body_bytes = u64_at(head, at::BODY_BYTES);
    if body_bytes > TRANSFER_BYTES_MAX as u64 {
        return Err(TransferError::TooLarge { bytes: body_bytes });
    }
    let total = HEADER_BYTES + body_bytes as usize + CHECKSUM_BYTES;
    if bytes.len() < total {
        return Err(truncated(total));
    }
    if bytes.len() > total {
        return Err(TransferError::Trailing { extra: bytes.len() - total });
    }
    let (covered, checksum) = bytes.split_at(total - CHECKSUM_BYTES);
    let found = u32::from_le_bytes([checksum[0], checksum[1], checksum[2], checksum[3]]);
    let computed = crc32fast::hash(covered);
    if found != computed {
        return Err(TransferError::Checksum { found, computed });
    }
    expect_same_hash(head, key)?;
    let header = read_header(head)?;
    Ok((header, read_state(&covered[HEADER_BYTES..])?))
}

fn expect_same_hash(head: &[u8; HEADER_BYTES], key: &HashKey) -> Result<(), TransferError> {
    let (algorithm, version) = (u16_at(head, at::ALGORITHM), u16_at(head, at::HASH_VERSION));
    let key_id = u32_at(head, at::KEY_ID);
    if algorithm != ALGORITHM {
        return Err(TransferError::Algorithm { found: algorithm, expected: ALGORITHM });
    }
    if version != HASH_VERSION {
        return Err(TransferError::HashVersion { found: version, expected: HASH_VERSION });
    }
    if key_id != key.id() {
        return Err(TransferError::KeyId { found: key_id, expected: key.id() });
    }
    Ok(())
}

fn read_header(head: &[u8; HEADER_BYTES]) -> Result<Header, TransferError> {
    let position = match u16_at(head, at::HAS_POSITION) {
        0 => None,
        1 => Some(CommitStamp::new(
            Domain::new(u32_at(head, at::DOMAIN)),
            Timeline::new(u64_at(head, at::TIMELINE)),
            u64_at(head, at::POSITION),
        )),
        _ => return Err(TransferError::Malformed { part: "position" }),
    };
    Ok(Header {
        namespace: NamespaceId::new(u16_at(head, at::NAMESPACE)),
        user: UserId::new(u64_at(head, at::USER)),
        user_epoch: UserEpoch::new(u32_at(head, at::USER_EPOCH)),
        generation: Generation::new(u32_at(head, at::GENERATION)),
        position,
    })
}

fn read_state(body: &[u8]) -> Result<UserState, TransferError> {
    let (chunks, rest) = body.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(TransferError::Malformed { part: "length" });
    }
    let words: Vec<u64> = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
    let valid = match &words[..] {
        [] => true,
        words if layered::is_layered(words) => Layered::valid(words),
        words => Exact::valid(words),
    };
    if !valid {
        return Err(TransferError::Malformed { part: "state" });
    }
    Ok(UserState::from_words(words))
}

fn u16_at(head: &[u8; HEADER_BYTES], at: usize) -> u16 {
    u16::from_le_bytes([head[at], head[at + 1]])
}

fn u32_at(head: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from(u16_at(head, at)) | u32::from(u16_at(head, at + 2)) << 16
}

fn u64_at(head: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(head, at)) | u64::from(u32_at(head, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_too_large_to_send_is_refused_at_the_donor() {
        let header = Header {
            namespace: NamespaceId::default(),
            user: UserId::default(),
            user_epoch: UserEpoch::default(),
            generation: Generation::default(),
            position: None,
        };
        let key = HashKey::new(1, [1; 16]);
        let state = UserState::from_words(vec![0; TRANSFER_BYTES_MAX / 8]);
        let bytes = (TRANSFER_BYTES_MAX + HEADER_BYTES + CHECKSUM_BYTES) as u64;
        assert_eq!(encode(&state, &header, &key), Err(TransferError::TooLarge { bytes }));
    }
}
