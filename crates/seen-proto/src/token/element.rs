//! The elements of a token, and when one of them stands for another.

use std::fmt;

use seen_filter::{CommitStamp, FeedId, Incarnation};

/// Names the cluster that a token belongs to: a number drawn once for a set of histories. All values
/// are valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClusterId(u64);

/// Numbers the acknowledgements of one incarnation, in the order in which they were given. Wildcards
/// are numbered by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckSeq(u64);

macro_rules! raw {
    ($name:ident) => {
        impl $name {
            /// Wraps the raw number; every value is allowed.
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// The raw number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }
    };
}
raw!(ClusterId);
raw!(AckSeq);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for AckSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One or more acknowledged writes of one replica, which come back through one feed partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteClaim {
    /// The partition that they come back through.
    pub feed: FeedId,
    /// Who acknowledged them.
    pub incarnation: Incarnation,
    /// The last acknowledgement; it stands for all lower ones of this feed and incarnation.
    pub seq: AckSeq,
    /// A commit at or after all of theirs; `None` where there is none that is known to be, so that
    /// only a fence or a point check can satisfy the claim.
    pub stamp: Option<CommitStamp>,
}

/// Stands for everything that a token held when it was made, whatever feed it was of. Only a fence of
/// the replica that it was presented to, or a point check, satisfies it; it never counts as a
/// replica's own, and no stamp covers it (rule R9).
///
/// Its number is drawn anew for every wildcard: were it used twice, the fence that covered the first
/// one would seem to cover what only the second stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wildcard {
    /// Who made it.
    pub incarnation: Incarnation,
    /// Its number among the wildcards of that incarnation.
    pub seq: AckSeq,
}

/// One element of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Acknowledged writes.
    Write(WriteClaim),
    /// Whatever did not fit.
    Wildcard(Wildcard),
}

impl Element {
    /// Elements with one key stand for each other by their numbers. Wildcards have no feed and sort
    /// first; they and writes never stand for each other.
    pub(super) fn key(&self) -> (Option<FeedId>, Incarnation) {
        match self {
            Self::Write(claim) => (Some(claim.feed), claim.incarnation),
            Self::Wildcard(wildcard) => (None, wildcard.incarnation),
        }
    }

    /// The weakest element that stands for both; the keys must be equal.
    ///
    /// Acknowledgements may overtake each other after the commit, so that the higher number may have
    /// the lower stamp: the higher stamp must stay, or a cover between the two would satisfy the
    /// claim without the other commit. Where the stamps cannot be compared (row 53), or one is
    /// missing, no stamp is known to be after both.
    pub(super) fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Write(a), Self::Write(b)) => Self::Write(WriteClaim {
                seq: a.seq.max(b.seq),
                stamp: a.stamp.zip(b.stamp).and_then(|(a, b)| match a.covers(b) {
                    true => Some(a),
                    false => b.covers(a).then_some(b),
                }),
                ..a
            }),
            (Self::Wildcard(a), Self::Wildcard(b)) => {
                Self::Wildcard(Wildcard { seq: a.seq.max(b.seq), ..a })
            }
            (kept, _) => kept,
        }
    }
}
