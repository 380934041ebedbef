//! The promise, as a judge of single answers.

use std::collections::BTreeSet;
use std::fmt;

use super::World;
use super::action::name;
use super::write::{Op, OpKind, OpState};

/// A part of the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// Whoever holds the token of an acknowledged write is not told "unread" without a flag; and nobody
    /// is told so of what has been acknowledged for longer than a feed may be stale (row 25).
    KnownIsSeen,
    /// What was removed or forgotten, or never was, is not called "seen" to whoever knows, without a
    /// flag, where filters are exact.
    RemovedIsUnread,
    /// In the end each replica holds what storage holds, and nothing that was removed from it.
    Converges,
    /// In the end builds have ended, journals are empty, nothing is contested, and memory answers alone.
    ComesToRest,
}

impl Promise {
    /// All parts.
    pub const ALL: [Promise; 4] =
        [Self::KnownIsSeen, Self::RemovedIsUnread, Self::Converges, Self::ComesToRest];

    /// What it is called.
    pub const fn label(self) -> &'static str {
        match self {
            Self::KnownIsSeen => "what is acknowledged is not called unread",
            Self::RemovedIsUnread => "what is removed is not called seen",
            Self::Converges => "every replica converges to what storage holds",
            Self::ComesToRest => "every replica comes to rest",
        }
    }
}

/// How the promise was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which part of it.
    pub promise: Promise,
    /// By what.
    pub how: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.how)
    }
}

impl World {
    /// Judges an unflagged answer about one item, given in knowledge of some acknowledged writes.
    ///
    /// The last of these by commit decides, unless a write of the other kind was committed after it:
    /// then both answers are right.
    pub(super) fn judge(
        &mut self,
        (replica, user, item): (usize, u64, u64),
        knows: &BTreeSet<usize>,
        seen: bool,
    ) {
        if self.violation.is_some() {
            return;
        }
        let touching = || self.ops.iter().enumerate().filter(|(_, op)| op.touches(user, item));
        let known = touching().filter(|(at, op)| knows.contains(at) && !op.void);
        let says_seen = |op: &Op| op.kind == OpKind::Mark;
        let Some((last, op)) = known.max_by_key(|(_, op)| op.order) else {
            let ever_marked = touching().any(|(_, op)| says_seen(op));
            if seen && !ever_marked && self.config.exact() {
                let who = name(replica);
                let how = format!("{who} says that u{user} has seen x{item}, never marked");
                self.broken(Promise::RemovedIsUnread, how);
            }
            return;
        };
        if says_seen(op) == seen || (seen && !self.config.exact()) {
            return;
        }
        let later = |other: &Op| {
            other.order.is_some() && other.order > op.order && other.state != OpState::Failed
        };
        if touching().any(|(_, other)| says_seen(other) == seen && later(other)) {
            return;
        }
        let (kind, says) = (op.kind, if seen { "seen" } else { "unread" });
        let who = name(replica);
        let promise = if seen { Promise::RemovedIsUnread } else { Promise::KnownIsSeen };
        let how =
            format!("{who} says {says}, unflagged, of u{user} x{item} after {kind:?} w{last}");
        self.broken(promise, how);
    }
}
