//! Taking away the lines that defend any one rule breaks the promise: in some random story, whose
//! seeds keep it with all rules in place, and in the small world that the rule is about, every order of
//! which keeps it with all rules in place. `--nocapture` tells the stories.

#[allow(dead_code, unused_imports, reason = "each test uses its part of the world")]
#[path = "model/world.rs"]
mod model;
#[allow(dead_code, reason = "each test uses its part of the small worlds")]
#[path = "exhaustive/small.rs"]
mod small;

use model::{explore, run_seed, search};
use seen_replica::rules::Rule;

/// Seeds within which each rule's absence must show.
const SEEDS_MAX: u64 = 20_000;

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

fn is_missed_in(rule: Rule, name: &str) {
    let mut scenario = small::named(name).scenario;
    let whole = explore(&scenario, 2);
    assert!(whole.finished, "{name}: too large to be tried to its end");
    assert_eq!(whole.broken, None, "{name}, with all rules in place");
    scenario.config.sabotage = Some(rule);
    // One thread finds the shortest story.
    let broken = explore(&scenario, 1);
    let Some(story) = broken.broken else {
        panic!("without {rule:?} none of {} states of {name} breaks the promise", broken.states);
    };
    let (all, until) = (whole.states, broken.states);
    eprintln!("without {rule:?}, after {until} states of {name} (with it {all}): {story}\n");
}

macro_rules! each {
    ({$($rule:ident: $random:ident, $exhaustive:ident in $world:ident;)*}
     {$($part:ident: $alone:ident in $place:ident;)*}) => {
        $(
            #[test]
            fn $random() {
                is_missed(Rule::$rule);
            }

            #[test]
            fn $exhaustive() {
                is_missed_in(Rule::$rule, stringify!($world));
            }
        )*

        $(
            #[test]
            fn $alone() {
                is_missed_in(Rule::$part, stringify!($place));
            }
        )*

        #[test]
        fn no_rule_is_left_out() {
            assert_eq!(Rule::ALL, [$(Rule::$rule,)* $(Rule::$part),*]);
        }
    };
}

each! {{
    R1: r1_install_whole, r1_in_a_small_world in early_snapshots;
    R2: r2_no_older_snapshot, r2_in_a_small_world in ring_too_short;
    R3: r3_transfers_are_builds, r3_in_a_small_world in donor_of_removed;
    R4: r4_commit_insert_acknowledge, r4_in_a_small_world in tokens_of_two_writers;
    R5: r5_covered_or_asked, r5_in_a_small_world in tokens_of_two_writers;
    R6: r6_cover_at_the_end_of_a_commit, r6_in_a_small_world in two_users_in_one_commit;
    R7: r7_cache_what_is_followed, r7_in_a_small_world in late_start_without_numbers;
    R8: r8_gaps_raise_doubts, r8_in_a_small_world in gap;
    R9: r9_fences_release, r9_in_a_small_world in fences;
    R10: r10_nothing_removed_in_place, r10_in_a_small_world in unmark_and_mark_again;
    R9Begun: r9_not_when_begun, r9_not_when_begun_in_a_small_world in fences;
    R9Passed: r9_lost_when_passed, r9_lost_when_passed_in_a_small_world in lost_on_the_way;
} {
    // Random stories come upon these too seldom.
    R9Stands: r9_not_before_it_is_complete in commit_for_a_fence;
    R9Quiet: r9_quiet_is_not_fresh in quiet_topic;
}}
