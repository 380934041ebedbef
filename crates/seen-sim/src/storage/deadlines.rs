//! Until when whoever asked for a write waits for it: storage must not be asked to do it later (coherence row 38).

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use crate::ledger::Deed;
use crate::time::now;

/// What a deadline may be mistaken by: it travels as what is left of it, and the way takes time.
const MISTAKEN_BY: Duration = Duration::from_millis(150);

/// A user, what is done, and the items in their order.
type Asked = (u64, Deed, Vec<u64>);

/// A write that was begun too late.
#[derive(Clone, Debug)]
pub struct Late {
    /// Whose.
    pub user: u64,
    /// What.
    pub deed: Deed,
    /// The items.
    pub items: Vec<u64>,
    /// How long after its caller's deadline.
    pub by: Duration,
}

/// When the callers of all writes give up.
#[derive(Debug, Default)]
pub struct Deadlines {
    given_up_at: Mutex<BTreeMap<Asked, Instant>>,
    late: Mutex<Vec<Late>>,
}

impl Deadlines {
    /// Somebody asks for a write, and waits for so long. Who asked for the same before waits no more.
    pub fn waits(&self, user: u64, deed: Deed, items: &[u64], within: Duration) {
        let asked = (user, deed, items.to_vec());
        self.given_up_at.lock().insert(asked, now() + within);
    }

    /// A replica begins a write.
    pub(super) fn begins(&self, user: u64, deed: Deed, mut items: Vec<u64>) {
        items.sort_unstable();
        let asked = (user, deed, items);
        let Some(given_up_at) = self.given_up_at.lock().get(&asked).copied() else { return };
        let by = now().saturating_duration_since(given_up_at);
        if by > MISTAKEN_BY {
            let (user, deed, items) = asked;
            self.late.lock().push(Late { user, deed, items, by });
        }
    }

    /// The writes that were begun too late.
    pub fn late(&self) -> Vec<Late> {
        std::mem::take(&mut *self.late.lock())
    }
}
