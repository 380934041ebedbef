//! Whether the process should be sent requests, and if not, why.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Reasons not to be ready, by part of the program. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Readiness {
    reasons: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Readiness {
    /// Not ready until each of `parts` was reported ready.
    pub fn waiting_for(parts: &[&'static str]) -> Self {
        let reasons = parts.iter().map(|part| (*part, "starting".to_owned())).collect();
        Self { reasons: Arc::new(Mutex::new(reasons)) }
    }

    /// `part` is fine (again).
    pub fn ready(&self, part: &'static str) {
        self.reasons.lock().remove(part);
    }

    /// `part` cannot do its work now.
    pub fn not_ready(&self, part: &'static str, reason: impl Into<String>) {
        self.reasons.lock().insert(part, reason.into());
    }

    /// True if no part has a reason against it.
    pub fn is_ready(&self) -> bool {
        self.reasons.lock().is_empty()
    }

    /// The reasons against being ready, by part.
    pub fn reasons(&self) -> Vec<(&'static str, String)> {
        self.reasons.lock().iter().map(|(part, reason)| (*part, reason.clone())).collect()
    }
}
