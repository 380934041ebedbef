//! Who read what: users, items, namespaces, and the two clocks. All are `Copy` newtypes, so that
//! mixing one up with another does not compile.

use std::fmt;

/// Declares a `Copy` newtype over one integer with `new`, `get` and `Display`.
macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the raw number; every value of the inner type is allowed.
            pub const fn new(raw: $inner) -> Self {
                Self(raw)
            }

            /// The raw number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
pub(crate) use newtype;

newtype! {
    /// A person who reads. All 2^64 values are valid, 0 included.
    UserId(u64)
}
newtype! {
    /// What is read, unique within its [`Kind`]. All 2^64 values are valid, 0 included.
    ItemId(u64)
}
newtype! {
    /// The class of an item (answer, article, video); numbers are given by the caller, 0-255.
    Kind(u8)
}
newtype! {
    /// One history with its own settings and storage table, numbered by the order of configuration.
    NamespaceId(u16)
}
newtype! {
    /// A storage shard, from 0. The embedded store has one.
    Shard(u16)
}
newtype! {
    /// A partition of a change feed, from 0.
    Partition(u16)
}
newtype! {
    /// Milliseconds since 1970-01-01 UTC. Only the storage's own clock decides about expiry;
    /// clocks of different machines are never compared (coherence row 42).
    UnixMillis(u64)
}
newtype! {
    /// Microseconds on the process's monotonic clock, from an arbitrary start. The rules never read
    /// a clock: every step is handed its tick.
    Tick(u64)
}

impl Tick {
    /// Microseconds from `earlier` to `self`, 0 if `earlier` lies later.
    pub const fn since_us(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This tick moved `us` microseconds into the future.
    pub const fn plus_us(self, us: u64) -> Tick {
        Tick(self.0.saturating_add(us))
    }
}

/// A thing that can be read: its kind and its id within the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// The class of the item.
    pub kind: Kind,
    /// The id within the class.
    pub id: ItemId,
}

impl Item {
    /// An item from raw numbers.
    pub const fn new(kind: u8, id: u64) -> Self {
        Self { kind: Kind::new(kind), id: ItemId::new(id) }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.id)
    }
}
