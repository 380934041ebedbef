//! The bytes of a token: frames, one after another.
//!
//! ```text
//! frame    version u8 = 1, cluster u64, count u8 (1 to 8), elements, crc32 of all before it u32
//! element  0, feed, incarnation u64, seq                                     a write
//!          1, feed, incarnation u64, seq, domain, timeline u64, position     a write with a stamp
//!          2, incarnation u64, seq                                           a wildcard
//! feed     namespace, shard, partition
//! ```
//!
//! Numbers with a width are little-endian; the others are varints (7 bits a byte, lowest first, the
//! high bit says that more follow). The checksum finds damage, not intent: a forged token can only
//! cost its sender point checks. A new version must be readable everywhere one release before it is
//! written anywhere, or a rolling upgrade would refuse its own tokens.

use seen_filter::{
    CommitStamp, Domain, FeedId, Incarnation, NamespaceId, Partition, Shard, Timeline,
};

use super::{AckSeq, ClusterId, Element, Token, TokenError, Wildcard, WriteClaim};
use crate::limits::{TOKEN_BYTES_MAX, TOKEN_ELEMENTS_MAX, TOKEN_FRAME_BYTES_MAX};

/// The format that is written.
pub(super) const VERSION: u8 = 1;

const WRITE: u8 = 0;
const WRITE_STAMPED: u8 = 1;
const WILDCARD: u8 = 2;

/// Version, cluster, count and checksum.
const FRAME_BYTES: usize = 1 + 8 + 1 + 4;
/// Three u16 and a u64 as varints take 3 and 10 bytes at most, a u32 takes 5.
const ELEMENT_BYTES_MAX: usize = 1 + 3 * 3 + 8 + 10 + 5 + 8 + 10;
const _: () =
    assert!(FRAME_BYTES + TOKEN_ELEMENTS_MAX * ELEMENT_BYTES_MAX <= TOKEN_FRAME_BYTES_MAX);

impl Token {
    /// Appends the token's bytes: nothing for the empty one, at most [`TOKEN_FRAME_BYTES_MAX`] bytes
    /// for one that was merged, and no more than it was decoded from for any other.
    pub fn encode(&self, cluster: ClusterId, out: &mut Vec<u8>) {
        for elements in self.elements().chunks(TOKEN_ELEMENTS_MAX) {
            let from = out.len();
            out.push(VERSION);
            out.extend(cluster.get().to_le_bytes());
            out.push(elements.len() as u8);
            elements.iter().for_each(|element| put_element(out, element));
            let checksum = crc32fast::hash(&out[from..]);
            out.extend(checksum.to_le_bytes());
        }
    }

    /// Reads a token of this cluster.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn decode(raw: &[u8], cluster: ClusterId) -> Result<Self, TokenError> {
        let mut token = Self::new();
        each_frame(raw, |found, element| {
            if found != cluster {
                return Err(TokenError::OtherCluster { found, expected: cluster });
            }
            token.insert(element);
            Ok(())
        })?;
        Ok(token)
    }

    /// The cluster that made this token; `None` for the empty token. A caller that was never told its
    /// cluster learns it here.
    ///
    /// # Errors
    /// [`TokenError`]; `OtherCluster` where tokens of several clusters were joined.
    pub fn cluster_of(raw: &[u8]) -> Result<Option<ClusterId>, TokenError> {
        let mut cluster = None;
        each_frame(raw, |found, _| {
            let expected = *cluster.get_or_insert(found);
            if found == expected {
                Ok(())
            } else {
                Err(TokenError::OtherCluster { found, expected })
            }
        })?;
        Ok(cluster)
    }
}

/// Calls `each` with the elements of every frame, once its checksum was found right.
fn each_frame(
    raw: &[u8],
    mut each: impl FnMut(ClusterId, Element) -> Result<(), TokenError>,
) -> Result<(), TokenError> {
    if raw.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong { bytes: raw.len() });
    }
    let truncated = TokenError::Truncated { bytes: raw.len() };
    let mut rest = raw;
    while !rest.is_empty() {
        let mut reader = Reader { rest, truncated: &truncated };
        let version = reader.byte()?;
        if version != VERSION {
            return Err(TokenError::Version { version });
        }
        let cluster = ClusterId::new(reader.fixed()?);
        let count = usize::from(reader.byte()?);
        if count == 0 || count > TOKEN_ELEMENTS_MAX {
            return garbage("impossible number of elements");
        }
        let elements = reader.clone();
        for _ in 0..count {
            reader.element()?;
        }
        let (frame, _) = rest.split_at(rest.len() - reader.rest.len());
        if u32::from_le_bytes(reader.array()?) != crc32fast::hash(frame) {
            return garbage("wrong checksum");
        }
        let mut elements = elements;
        for _ in 0..count {
            each(cluster, elements.element()?)?;
        }
        rest = reader.rest;
    }
    Ok(())
}

fn garbage<T>(what: &'static str) -> Result<T, TokenError> {
    Err(TokenError::Garbage { what })
}

fn put_element(out: &mut Vec<u8>, element: &Element) {
    match element {
        Element::Write(claim) => {
            out.push(if claim.stamp.is_some() { WRITE_STAMPED } else { WRITE });
            put_varint(out, claim.feed.namespace.get().into());
            put_varint(out, claim.feed.shard.get().into());
            put_varint(out, claim.feed.partition.get().into());
            out.extend(claim.incarnation.get().to_le_bytes());
            put_varint(out, claim.seq.get());
            if let Some(stamp) = claim.stamp {
                put_varint(out, stamp.domain.get().into());
                out.extend(stamp.timeline.get().to_le_bytes());
                put_varint(out, stamp.position);
            }
        }
        Element::Wildcard(wildcard) => {
            out.push(WILDCARD);
            out.extend(wildcard.incarnation.get().to_le_bytes());
            put_varint(out, wildcard.seq.get());
        }
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[derive(Clone)]
struct Reader<'a> {
    rest: &'a [u8],
    truncated: &'a TokenError,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], TokenError> {
        let (array, rest) =
            self.rest.split_first_chunk::<N>().ok_or_else(|| self.truncated.clone())?;
        self.rest = rest;
        Ok(*array)
    }

    fn byte(&mut self) -> Result<u8, TokenError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn fixed(&mut self) -> Result<u64, TokenError> {
        self.array().map(u64::from_le_bytes)
    }

    fn varint(&mut self) -> Result<u64, TokenError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        garbage("a number of more than 64 bits")
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Result<T, TokenError> {
        T::try_from(self.varint()?).or(garbage("a number out of its range"))
    }

    fn element(&mut self) -> Result<Element, TokenError> {
        let form = self.byte()?;
        match form {
            WRITE | WRITE_STAMPED => Ok(Element::Write(WriteClaim {
                feed: FeedId::new(
                    NamespaceId::new(self.small()?),
                    Shard::new(self.small()?),
                    Partition::new(self.small()?),
                ),
                incarnation: Incarnation::new(self.fixed()?),
                seq: AckSeq::new(self.varint()?),
                stamp: match form {
                    WRITE => None,
                    _ => Some(CommitStamp::new(
                        Domain::new(self.small()?),
                        Timeline::new(self.fixed()?),
                        self.varint()?,
                    )),
                },
            })),
            WILDCARD => Ok(Element::Wildcard(Wildcard {
                incarnation: Incarnation::new(self.fixed()?),
                seq: AckSeq::new(self.varint()?),
            })),
            _ => garbage("an element of unknown form"),
        }
    }
}
