//! Taking away the lines that defend any one rule breaks the promise in some random story, and the
//! same seeds keep it with all rules in place. `--nocapture` tells the stories.

#[allow(dead_code, unused_imports, reason = "each test uses its part of the world")]
#[path = "model/world.rs"]
mod model;

use model::{run_seed, search};
use seen_replica::rules::Rule;

/// Seeds within which each rule's absence must show.
const SEEDS_MAX: u64 = 3_000;

fn is_missed(rule: Rule) {
    let Some((seeds, failure)) = search(0..SEEDS_MAX, Some(rule)) else {
        panic!("without {rule:?} none of {SEEDS_MAX} stories breaks the promise");
    };
    eprintln!("without {rule:?}, after {seeds} seeds:\n{}\n", failure.shortened());
    for seed in 0..seeds {
        if let Some(failure) = run_seed(seed, None) {
            panic!("with all rules in place: {}", failure.shortened());
        }
    }
}

macro_rules! each {
    ($($name:ident: $rule:ident,)*) => {
        $(
            #[test]
            fn $name() {
                is_missed(Rule::$rule);
            }
        )*

        #[test]
        fn no_rule_is_left_out() {
            assert_eq!(Rule::ALL, [$(Rule::$rule),*]);
        }
    };
}

each! {
    r1_install_whole: R1,
    r2_no_older_snapshot: R2,
    r3_transfers_are_builds: R3,
    r4_commit_insert_acknowledge: R4,
    r5_covered_or_asked: R5,
    r6_cover_at_the_end_of_a_commit: R6,
    r7_cache_what_is_followed: R7,
    r8_gaps_raise_doubts: R8,
    r9_fences_release: R9,
    r10_nothing_removed_in_place: R10,
}
