//! Which partition of a topic a user's rows are in: computed exactly as the producer computes it.
//!
//! Each formula was compared with the partitions of recorded topics (the tests below). Where none
//! fits, all partitions are followed as one feed, and no fence proves anything (rule R9).

use seen_filter::hash::HashKey;
use seen_filter::{UserId, VirtualSlot};
use thiserror::Error;

/// What stands for the user's id in a key's template.
const USER: &str = "{user}";
/// The seed of Kafka's own partitioner (`Utils.murmur2` of its clients).
const MURMUR2_SEED: u32 = 0x9747_b28c;
/// The seed of Maxwell's murmur3.
const MAXWELL_SEED: u32 = 25_342;

/// How a producer chooses a record's partition.
#[derive(Clone, Debug)]
pub enum Partitioner {
    /// Equal ranges of virtual slots, as `seen relay` writes them.
    Slots(HashKey),
    /// Kafka's default for records with a key: murmur2 of the key's bytes.
    Key(KeyTemplate),
    /// Canal's `partitionHash` on the user's column, with its default `databaseHash=true`.
    Canal {
        /// The database's name, which is hashed along.
        database: String,
    },
    /// Maxwell's `producer_partition_by=column` on the user's column with
    /// `kafka_partition_hash=murmur3`.
    Maxwell,
    /// Not known, or by something else than the user.
    Unknown,
}

/// A key as the producer writes it, with `{user}` where the user's id stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    before: String,
    after: String,
    digits: Digits,
}

/// How a key's text says an unsigned 64-bit number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digits {
    /// In full.
    Unsigned,
    /// As a signed one (`bigint.unsigned.handling.mode=long`).
    Signed,
}

/// Why a template was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("kafka.key = {template:?} must contain {USER} exactly once, as in {{\"user_id\":{USER}}}")]
pub struct BadTemplate {
    template: String,
}

impl KeyTemplate {
    /// Reads a template, as in `{"user_id":{user}}`.
    ///
    /// # Errors
    /// [`BadTemplate`] if `{user}` is not in it exactly once.
    pub fn parse(template: &str, digits: Digits) -> Result<Self, BadTemplate> {
        let bad = || BadTemplate { template: template.to_owned() };
        let (before, after) = template.split_once(USER).ok_or_else(bad)?;
        if after.contains(USER) {
            return Err(bad());
        }
        Ok(Self { before: before.to_owned(), after: after.to_owned(), digits })
    }

    /// The key of a user's records.
    pub fn key(&self, user: UserId) -> String {
        match self.digits {
            Digits::Unsigned => format!("{}{}{}", self.before, user.get(), self.after),
            Digits::Signed => {
                format!("{}{}{}", self.before, user.get().cast_signed(), self.after)
            }
        }
    }
}

impl Partitioner {
    /// What `kafka.partitioner` calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Slots(_) => "slots",
            Self::Key(_) => "key",
            Self::Canal { .. } => "canal",
            Self::Maxwell => "maxwell",
            Self::Unknown => "unknown",
        }
    }

    /// The partition, of so many, of all users of a virtual slot. `None` where they are spread over several.
    pub fn of_slot(&self, slot: VirtualSlot, partitions: u16) -> Option<u16> {
        match self {
            Self::Slots(_) => Some(slot.range_of(partitions.max(1))),
            _ if partitions <= 1 => Some(0),
            _ => None,
        }
    }

    /// The user's partition of so many. `None` where it is not known.
    pub fn partition(&self, user: UserId, partitions: u16) -> Option<u16> {
        let count = u32::from(partitions.max(1));
        let partition = match self {
            Self::Slots(key) => return self.of_slot(key.virtual_slot(user), partitions),
            Self::Key(template) => (murmur2(template.key(user).as_bytes()) & 0x7fff_ffff) % count,
            Self::Canal { database } => {
                let hash = java_hash(database) ^ java_hash(&user.get().to_string());
                // Java's Math.abs leaves the smallest number as it is; its remainder is negated then.
                hash.unsigned_abs() % count
            }
            Self::Maxwell => {
                let hash = murmur3(user.get().to_string().as_bytes(), MAXWELL_SEED);
                hash.cast_signed().unsigned_abs() % count
            }
            Self::Unknown => return (partitions == 1).then_some(0),
        };
        u16::try_from(partition).ok()
    }
}

/// Kafka's murmur2, of public domain by A. Appleby, with the clients' seed.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = MURMUR2_SEED ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in words.by_ref() {
        let mut k = word.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// MurmurHash3 for 32 bits, of public domain by A. Appleby.
fn murmur3(bytes: &[u8], seed: u32) -> u32 {
    let mixed =
        |word: u32| word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    let mut hash = seed;
    let mut words = bytes.chunks_exact(4);
    for chunk in words.by_ref() {
        hash =
            (hash ^ mixed(word(chunk))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    hash ^= mixed(word(words.remainder()));
    hash ^= bytes.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// Java's hash of a text in ASCII.
fn java_hash(text: &str) -> i32 {
    let hash = text
        .encode_utf16()
        .fold(0_u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_those_of_recorded_topics() {
        let debezium = |template: &str, digits| {
            Partitioner::Key(KeyTemplate::parse(template, digits).expect("a template"))
        };
        let long = debezium("{\"user_id\":{user}}", Digits::Signed);
        let canal = Partitioner::Canal { database: "db".to_owned() };
        // Of topics of four partitions, written by the real producers.
        for (partitioner, user, partition) in [
            (&long, 4, 3),
            (&long, 3, 3),
            (&long, u64::MAX, 0),
            (&canal, 3, 1),
            (&Partitioner::Maxwell, 2, 0),
            (&Partitioner::Maxwell, 3, 3),
        ] {
            let computed = partitioner.partition(UserId::new(user), 4);
            assert_eq!(computed, Some(partition), "{partitioner:?} of {user}");
        }
    }

    #[test]
    fn slots_are_equal_ranges() {
        let partitioner = Partitioner::Slots(HashKey::new(1, [7; 16]));
        let mut users = [0_u32; 8];
        for user in 0..8_000 {
            let partition = partitioner.partition(UserId::new(user), 8).expect("a partition");
            users[usize::from(partition)] += 1;
        }
        assert!(users.iter().all(|count| (700..1_300).contains(count)), "{users:?}");
    }

    #[test]
    fn an_unknown_partitioner_knows_one_partition_only() {
        assert_eq!(Partitioner::Unknown.partition(UserId::new(1), 1), Some(0));
        assert_eq!(Partitioner::Unknown.partition(UserId::new(1), 2), None);
    }

    #[test]
    fn templates_name_the_user_once() {
        for bad in ["", "{\"user_id\":1}", "{user}{user}"] {
            let refused = KeyTemplate::parse(bad, Digits::Unsigned).expect_err(bad);
            assert!(refused.to_string().contains("kafka.key"), "{refused}");
        }
    }
}
