//! The keyed hash of items and of users.
//!
//! An item's hash is SipHash-1-3 over the two fixed words (kind, id), without the length word that
//! variable-length messages need. It is a pseudo-random function: whoever does not know the key can
//! make neither collisions nor ids whose false positives are correlated, whatever pattern the ids
//! have. A folded 64x64->128 multiply would be faster but is no such thing: with one fold `x` and
//! `~x ^ 1` nearly collide for half of all keys.

use std::fmt;

use crate::ids::{Item, Kind, UserId, newtype};
use crate::kernel::Kernel;
use crate::sip::{SipState, sip24};

/// The version of the hash. Filters of different versions are never mixed (coherence row 32).
pub const HASH_VERSION: u16 = 1;

/// How many virtual slots users are spread over.
pub const VIRTUAL_SLOTS: u16 = 4096;

newtype! {
    /// A user's share of the keyspace: keyed hash of the user mod [`VIRTUAL_SLOTS`].
    VirtualSlot(u16)
}

impl VirtualSlot {
    /// Which of so many equal ranges of virtual slots this one is in, from 0: how users are spread over shards and
    /// partitions. Of no ranges, the first.
    pub fn range_of(self, ranges: u16) -> u16 {
        let range = u32::from(self.get()) * u32::from(ranges) / u32::from(VIRTUAL_SLOTS);
        u16::try_from(range).unwrap_or(u16::MAX)
    }
}

/// A secret from which the hashes of items and of users are derived, independent of each other.
///
/// It also carries the [`Kernel`] that batches are computed with, which never changes an answer.
#[derive(Clone, Copy)]
pub struct HashKey {
    id: u32,
    item: SipState,
    slot: SlotKey,
    kernel: Kernel,
}

impl HashKey {
    /// A key from its public number and its secret, computing with [`Kernel::PLAIN`].
    ///
    /// The number names the secret in the header of transferred filters, so two secrets must never
    /// share one.
    pub fn new(id: u32, secret: [u8; 16]) -> Self {
        let half = |from: usize| {
            let mut bytes = [0_u8; 8];
            bytes.copy_from_slice(&secret[from..from + 8]);
            u64::from_le_bytes(bytes)
        };
        let derive = |label: &str| sip24(half(0), half(8), label.as_bytes());
        Self {
            id,
            item: SipState::keyed(derive("seen item 0"), derive("seen item 1")),
            slot: SlotKey(derive("seen slot 0"), derive("seen slot 1")),
            kernel: Kernel::PLAIN,
        }
    }

    /// The same key, computing batches with `kernel`.
    #[must_use]
    pub const fn with_kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// What batches are computed with.
    pub const fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The key's public number.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The part that spreads users, and tells nothing of the rest.
    pub const fn slot_key(&self) -> SlotKey {
        self.slot
    }

    /// The slot that a user belongs to.
    pub fn virtual_slot(&self, user: UserId) -> VirtualSlot {
        self.slot.virtual_slot(user)
    }

    /// The keyed hash of a user, whose low bits choose the slot.
    pub fn user_hash(&self, user: UserId) -> u64 {
        self.slot.user_hash(user)
    }

    /// A cheap keyed spread of users over the places of one in-memory table. Not a pseudo-random
    /// function: use it only where a collision costs a step and no more.
    #[inline]
    pub const fn table_hash(&self, user: UserId) -> u64 {
        let wide = (user.get() ^ self.slot.0) as u128 * (self.slot.1 | 1) as u128;
        (wide >> 64) as u64 ^ wide as u64
    }

    /// The key with a kind folded in, so that each id costs only its own rounds.
    pub const fn for_kind(&self, kind: Kind) -> KindKey {
        KindKey { state: self.item.absorb1(kind.get() as u64) }
    }

    /// The hash of one item.
    pub const fn item_hash(&self, item: Item) -> u64 {
        self.for_kind(item.kind).hash(item.id.get())
    }
}

impl fmt::Debug for HashKey {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashKey")
            .field("id", &self.id)
            .field("kernel", &self.kernel)
            .finish_non_exhaustive()
    }
}

/// What spreads users over virtual slots: derived from a [`HashKey`]'s secret one way, so that a proxy, which
/// routes users and holds no filters, needs no more than this.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SlotKey(u64, u64);

impl SlotKey {
    /// The key with these words, as [`Self::words`] gave them.
    pub const fn from_words(words: (u64, u64)) -> Self {
        Self(words.0, words.1)
    }

    /// The key as words, to be handed to whoever routes users.
    pub const fn words(&self) -> (u64, u64) {
        (self.0, self.1)
    }

    /// The slot that a user belongs to.
    pub fn virtual_slot(&self, user: UserId) -> VirtualSlot {
        VirtualSlot::new((self.user_hash(user) % u64::from(VIRTUAL_SLOTS)) as u16)
    }

    /// The keyed hash of a user, whose low bits choose the slot.
    pub fn user_hash(&self, user: UserId) -> u64 {
        sip24(self.0, self.1, &user.get().to_le_bytes())
    }
}

impl fmt::Debug for SlotKey {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlotKey")
    }
}

/// A [`HashKey`] for the ids of one kind.
#[derive(Clone, Copy)]
pub struct KindKey {
    pub(crate) state: SipState,
}

impl KindKey {
    /// The hash of an id of this kind.
    #[inline(always)]
    pub const fn hash(&self, id: u64) -> u64 {
        self.state.absorb1(id).finish3()
    }
}

impl fmt::Debug for KindKey {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KindKey").finish_non_exhaustive()
    }
}

/// The finalizer of splitmix64 (public domain, S. Vigna): every bit changes half of the others. Of
/// public numbers, such as those that name a timeline; it hides nothing.
pub const fn mix(word: u64) -> u64 {
    let mut mixed = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
