//! The promise, as a judge of single answers.

use std::collections::BTreeSet;

use super::World;
use super::action::name;
use super::write::{Op, OpKind, OpState};

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
                self.broken(format!("{who} says that u{user} has seen x{item}, never marked"));
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
        self.broken(format!(
            "{who} says {says}, unflagged, of u{user} x{item} after {kind:?} w{last}"
        ));
    }
}
