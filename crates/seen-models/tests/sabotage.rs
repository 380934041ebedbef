//! Taking away the lines that defend any one rule breaks the promise: in some random story, whose
//! seeds keep it with all rules in place, and in the small world that the rule is about, every order of
//! which keeps it with all rules in place. `--nocapture` tells the stories.

use seen_models::random::{run_seed, search};
use seen_models::{Rule, models};

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

fn is_missed_in(rule: Rule, model: &str, name: &str) {
    let models = models();
    let worlds = models.iter().find(|known| known.name == model).expect("a model");
    let world = worlds.worlds.iter().find(|world| world.name == name).expect("a small world");
    let whole = world.explore(2, |_| ());
    assert!(whole.finished, "{name}: too large to be tried to its end");
    assert_eq!(whole.broken, None, "{name}, with all rules in place");
    // One thread finds the shortest story.
    let broken = world.clone().without(rule).explore(1, |_| ());
    let (all, until) = (whole.progress.states, broken.progress.states);
    let Some((promise, story)) = broken.broken else {
        panic!("without {rule:?} none of {until} states of {name} breaks the promise");
    };
    let promise = promise.label();
    eprintln!(
        "without {rule:?}, after {until} states of {name} (with it {all}): {promise}\n{story}\n"
    );
    let steps =
        story.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    assert!(steps.count() > 1 && story.contains("BROKEN"), "no story: {story}");
}

macro_rules! each {
    ({$($rule:ident: $random:ident, $exhaustive:ident in $model:ident $world:ident;)*}
     {$($part:ident: $alone:ident in $at:ident $place:ident;)*}) => {
        $(
            #[test]
            fn $random() {
                is_missed(Rule::$rule);
            }

            #[test]
            fn $exhaustive() {
                is_missed_in(Rule::$rule, stringify!($model), stringify!($world));
            }
        )*

        $(
            #[test]
            fn $alone() {
                is_missed_in(Rule::$part, stringify!($at), stringify!($place));
            }
        )*

        #[test]
        fn no_rule_is_left_out() {
            assert_eq!(Rule::ALL, [$(Rule::$rule,)* $(Rule::$part),*]);
        }
    };
}

each! {{
    R1: r1_install_whole, r1_in_a_small_world in sessions early_snapshots;
    R2: r2_no_older_snapshot, r2_in_a_small_world in sessions ring_too_short;
    R3: r3_transfers_are_builds, r3_in_a_small_world in transfers donor_of_removed;
    R4: r4_commit_insert_acknowledge, r4_in_a_small_world in sessions tokens_of_two_writers;
    R5: r5_covered_or_asked, r5_in_a_small_world in sessions tokens_of_two_writers;
    R6: r6_cover_at_the_end_of_a_commit, r6_in_a_small_world in events two_users_in_one_commit;
    R7: r7_cache_what_is_followed, r7_in_a_small_world in map_change late_start_without_numbers;
    R8: r8_gaps_raise_doubts, r8_in_a_small_world in events gap;
    R9: r9_fences_release, r9_in_a_small_world in failover fences;
    R10: r10_nothing_removed_in_place, r10_in_a_small_world in sessions unmark_and_mark_again;
    R9Begun: r9_not_when_begun, r9_not_when_begun_in_a_small_world in failover fences;
    R9Passed: r9_lost_when_passed, r9_lost_when_passed_in_a_small_world in failover lost_on_the_way;
} {
    // Random stories come upon these too seldom.
    R9Stands: r9_not_before_it_is_complete in failover commit_for_a_fence;
    R9Quiet: r9_quiet_is_not_fresh in failover quiet_topic;
}}
