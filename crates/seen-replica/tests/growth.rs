//! When a history outgrows its filter: a rebuild begins with the very mark that makes it due, once,
//! before the filter takes another layer; and one that was given up is not begun anew by every mark.

#[allow(dead_code, reason = "each test uses its part")]
mod lone;

use seen_filter::build::Builder;
use seen_filter::state::UserState;
use seen_filter::{Inserted, UnixMillis, UserId};
use seen_replica::preload;
use seen_replica::rules::{Input, Rules};

use lone::{NOW, item, mark, namespace, replica};

const USER: UserId = UserId::new(7);

/// A user of `items` items, in memory, and a copy of the state.
fn user_of(rules: &Rules, items: u64) -> UserState {
    let mut builder = Builder::new(rules.key(), rules.sizing());
    (0..items).for_each(|n| builder.push(item(n), UnixMillis::new(0), 0));
    let state = builder.finish();
    preload::install(rules, NOW, USER, state.clone()).expect("installed");
    state
}

#[test]
fn a_rebuild_begins_with_the_mark_that_makes_it_due() {
    for size in [17, 100, 1_000, 20_000] {
        let rules = replica(namespace());
        let mut state = user_of(&rules, size);
        let mut begun = Vec::new();
        for n in size..4 * size + 50 {
            let inserted = state.insert(rules.key(), rules.sizing(), item(n), 0);
            let due = inserted != Inserted::AlreadySeen && state.rebuild_due(rules.sizing());
            let build = mark(&rules, USER, n);
            assert_eq!(build.is_some(), due && begun.is_empty(), "{size} items, mark {n}");
            begun.extend(build);
        }
        let layers: Vec<_> = state.describe().iter().map(|l| (l.items, l.capacity)).collect();
        assert_eq!(begun.len(), 1, "{size} items: {layers:?}");
    }
}

#[test]
fn a_rebuild_that_was_given_up_is_begun_anew_by_the_next_layer() {
    let rules = replica(namespace());
    let mut state = user_of(&rules, 1_000);
    let mut begun = 0;
    let mut layers = 0;
    for n in 1_000..4_000 {
        let before = state.heap_bytes();
        state.insert(rules.key(), rules.sizing(), item(n), 0);
        layers += u32::from(state.heap_bytes() != before && begun > 0);
        if let Some(generation) = mark(&rules, USER, n) {
            begun += 1;
            rules.step(NOW, Input::BuildFailed { user: USER, generation });
        }
    }
    assert!(layers > 1 && begun == 1 + layers, "{begun} builds, {layers} layers");
}
