//! What is to be reached: a model in which nothing interesting happens proves nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use stateright::Property;

use crate::small::SmallWorld;

/// Those reached on the way to a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Landmarks(u64);

/// Those reached on any way: of several ways to one state a search keeps one.
#[derive(Debug, Default)]
pub struct Reached(AtomicU64);

impl Reached {
    pub fn add(&self, landmarks: Landmarks) {
        self.0.fetch_or(landmarks.0, Ordering::Relaxed);
    }

    pub fn all(&self) -> Landmarks {
        Landmarks(self.0.load(Ordering::Relaxed))
    }
}

impl Landmarks {
    pub fn reach(&mut self, landmark: Landmark) {
        self.0 |= 1 << landmark as u32;
    }

    pub fn has(self, landmark: Landmark) -> bool {
        self.0 >> landmark as u32 & 1 == 1
    }
}

macro_rules! landmarks {
    ($($(#[doc = $doc:literal])* $name:ident = $label:literal,)*) => {
        /// Something that happens on the way, before all heals.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Landmark {
            $($(#[doc = $doc])* $name,)*
        }

        impl Landmark {
            /// All of them.
            pub const ALL: &'static [Landmark] = &[$(Landmark::$name),*];

            /// What it is called.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }

            /// That it is reached on some way.
            pub(crate) fn property(self) -> Property<SmallWorld> {
                match self {
                    $(Self::$name => Property::sometimes($label, |world, _| {
                        world.reached.all().has(Landmark::$name)
                    }),)*
                }
            }
        }
    };
}

landmarks! {
    /// Memory alone answers a caller whose token names a write about what is asked.
    AnsweredAlone = "memory answers a token's bearer alone",
    /// A point check is needed since the user is not cached.
    AskedCold = "asks storage: not cached",
    /// A point check is needed since events may be lost (R8).
    AskedDirty = "asks storage: dirty",
    /// A point check is needed since the token is not covered (R5).
    AskedForToken = "asks storage: token not covered",
    /// A point check is needed since the feed is stale.
    AskedStale = "asks storage: stale feed",
    /// A point check is needed since the partition is not followed (R7).
    AskedNotFollowed = "asks storage: not followed",
    /// A point check is needed since the id was removed (R10).
    AskedContested = "asks storage: contested",
    /// An answer is flagged.
    Flagged = "an answer is flagged",
    /// A build is installed.
    Installed = "a build is installed",
    /// A peer's entry is installed.
    Transferred = "a transfer is installed",
    /// An install is refused: another life of the entry has begun.
    RefusedGeneration = "refused: generation",
    /// An install is refused: the partition was doubted meanwhile.
    RefusedEpoch = "refused: epoch",
    /// An install is refused: the snapshot is too old.
    RefusedStaleSnapshot = "refused: stale snapshot",
    /// An install is refused: the user was forgotten since.
    RefusedUserEpoch = "refused: user epoch",
    /// An install or transfer is refused: the partition is not followed.
    RefusedNotFollowed = "refused: not followed",
    /// An install is refused: too much was held back.
    RefusedPendingOverflow = "refused: pending overflow",
    /// A donation is refused: the entry is not clean.
    RefusedNotClean = "refused: not clean",
    /// A partition or a user came into doubt.
    Doubted = "events may be lost",
    /// An own fence comes by.
    FenceCame = "an own fence comes by",
    /// A fence of another life comes by.
    ForeignFenceCame = "another life's fence comes by",
    /// The feed goes back.
    Redelivered = "the feed delivers again",
    /// A batch ends in the middle of a commit.
    CutCommit = "a batch ends within a commit",
    /// A write of unknown outcome lands.
    Landed = "a write of unknown outcome lands",
    /// Commits are gone that were there.
    LostCommits = "storage loses commits",
    /// A replica dies.
    Crashed = "a replica dies",
    /// A replica stops following a partition.
    Unfollowed = "a partition is followed no longer",
    /// A replica begins to follow a partition which it did not from the start on.
    Opened = "a partition is followed from now on",
    /// A forget comes by.
    Forgotten = "a forget comes by",
    /// An entry is dropped.
    Evicted = "an entry is evicted",
}
