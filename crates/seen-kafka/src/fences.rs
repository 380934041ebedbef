//! The fences that came by, of whomever: by them one can tell a source that has gone back from a producer
//! that says again what it has said.

use std::collections::HashMap;

use seen_dialect::ControlRow;
use seen_filter::{NamespaceId, UserId};

/// Most fences' writers, namespaces and users that are remembered.
const KNOWN_MAX: usize = 16_384;

/// The newest number of each writer's fences, by namespace and by the id that they are written under.
#[derive(Debug, Default)]
pub(crate) struct FencesSeen(HashMap<(u64, NamespaceId, UserId), u64>);

impl FencesSeen {
    /// True if an earlier fence of the same writer has come by, and none as late as this.
    pub fn is_later(&mut self, namespace: NamespaceId, row: ControlRow) -> bool {
        let key = (row.writer, namespace, row.user);
        if let Some(newest) = self.0.get_mut(&key) {
            let is_later = row.seq > *newest;
            *newest = row.seq.max(*newest);
            return is_later;
        }
        // Processes come and go; those that are there write again soon.
        if self.0.len() >= KNOWN_MAX {
            self.0.clear();
        }
        self.0.insert(key, row.seq);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_later_than_those_before_it_and_only_once() {
        let mut seen = FencesSeen::default();
        let namespace = NamespaceId::new(1);
        let row =
            |user, writer, seq| ControlRow { user: UserId::new(user), namespace: 9, writer, seq };
        for (row, is_later) in [
            (row(1, 5, 7), false),
            (row(1, 5, 8), true),
            (row(1, 5, 8), false),
            (row(1, 5, 7), false),
            (row(2, 5, 9), false),
            (row(1, 6, 9), false),
            (row(1, 5, 9), true),
        ] {
            assert_eq!(seen.is_later(namespace, row), is_later, "{row:?}");
        }
    }
}
