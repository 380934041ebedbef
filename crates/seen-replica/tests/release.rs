//! Own writes that have come back are released from the journal, however many at once: what stayed
//! would be merged into every answer, and would keep the next ones out (rule R9).

#[allow(dead_code, reason = "each test uses its part")]
mod lone;

use seen_filter::UserId;
use seen_replica::rules::Rules;

use lone::{NOW, complete, mark, namespace, replica};

/// More than are released in one hold of the lock, several times.
const ROWS: u64 = 10_000;

fn journal_rows(rules: &Rules) -> usize {
    rules.lanes(NOW).iter().map(|lane| lane.journal_rows).sum()
}

#[test]
fn all_that_is_covered_goes_at_once_and_nothing_else() {
    let rules = replica(namespace());
    for n in 0..ROWS {
        mark(&rules, UserId::new(n % 3), n);
    }
    assert_eq!(journal_rows(&rules), ROWS as usize);
    // Row `n` is of commit `n + 2`.
    complete(&rules, ROWS - 5);
    assert_eq!(journal_rows(&rules), 6);
    complete(&rules, ROWS + 1);
    assert_eq!(journal_rows(&rules), 0);
}
