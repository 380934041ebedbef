//! What became of the users, for people and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::calls::table::{Table, grouped};

/// What became of the users.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Users that there were at the beginning, about.
    pub expected: u64,
    /// Users brought, whatever became of them.
    pub brought: u64,
    /// Bytes of the entries that were installed.
    pub bytes: u64,
    /// How many came to what.
    by_reason: BTreeMap<&'static str, u64>,
}

/// The replica has it now.
pub(super) const INSTALLED: &str = "installed";
/// The replica had it before, or does not own the user, or a rule refused it.
pub(super) const HELD_OR_REFUSED: &str = "held_or_refused";
/// Too large to be brought by a tool: built from storage when it is asked for.
pub(super) const TOO_LARGE: &str = "too_large";
/// Its donor was not certain of it.
pub(super) const NOT_CLEAN: &str = "not_clean";

impl Outcomes {
    /// Counts users that came to this.
    pub fn count(&mut self, reason: &'static str, users: u64) {
        if users > 0 {
            *self.by_reason.entry(reason).or_default() += users;
        }
    }

    /// Users that the replica has now.
    pub fn installed(&self) -> u64 {
        self.by_reason.get(INSTALLED).copied().unwrap_or_default()
    }

    pub fn object(&self, to: &str, dry_run: bool, failure: Option<String>, took_s: f64) -> Value {
        json!({
            "to": to, "dry_run": dry_run, "expected": self.expected, "brought": self.brought,
            "installed": self.installed(), "bytes": self.bytes, "outcomes": self.by_reason,
            "failure": failure, "duration_s": took_s,
        })
    }

    pub fn dry_text(&self, to: &str) -> String {
        format!("{to}: about {} users would be brought; nothing was\n", grouped(self.expected))
    }

    pub fn text(&self, to: &str, took_s: f64) -> String {
        let rate = self.brought as f64 / took_s.max(0.001);
        let mut text = format!(
            "{to}: {} of {} users installed, {} bytes, in {took_s:.1} s, {} users/s\n",
            grouped(self.installed()),
            grouped(self.brought),
            grouped(self.bytes),
            grouped(rate as u64)
        );
        if !self.by_reason.is_empty() {
            let mut table = Table::new(["OUTCOME", "USERS"]);
            for (reason, users) in &self.by_reason {
                table.row([(*reason).to_owned(), grouped(*users)]);
            }
            text += &table.render();
        }
        text
    }
}
