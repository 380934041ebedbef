//! What the simulation finds: each defence that is taken away is missed within a few seeds, which keep all promises with it.
//! `seen-sim --sabotage all` tries all of them.

use seen_sim::sabotage::{find, named};
use seen_sim::{Options, play};

/// Each is found within so many seeds; one that is not has to be sought with more (`seen-sim --sabotage`).
const SEEDS_MAX: u64 = 40;

fn is_missed(name: &str, first: u64) {
    let bug = named(name).expect("a bug");
    let found = find(bug, first..first + SEEDS_MAX, || false).expect("a simulation");
    let found =
        found.unwrap_or_else(|| panic!("{name} is not found in {SEEDS_MAX} seeds from {first} on"));
    assert!(found.story.contains("   1. "), "no story: {}", found.story);
    let control = play(first + found.seeds - 1, Options::default()).expect("a simulation");
    assert_eq!(control.story(), None, "with all lines in place");
}

macro_rules! each {
    ($($test:ident: $name:literal $(from $first:literal)?;)*) => {
        $(
            #[test]
            fn $test() {
                // Most are found among the first seeds; near the first that finds it, where that comes late.
                let first = 0 $(+ $first)?;
                is_missed($name, first);
            }
        )*
    };
}

each! {
    marks_that_are_not_inserted: "R4";
    snapshots_alone_at_installs: "R1";
    gaps_that_raise_no_epoch: "R8";
    forgotten_users_that_stay: "R10Forget";
    lost_outcomes_that_are_acknowledged: "replica.unknown_write";
    doubts_without_a_flag: "replica.flag";
    deadlines_that_nobody_watches: "proxy.deadline";
    lost_outcomes_that_are_repeated: "proxy.unknown_write";
    tokens_without_the_session: "replica.session";
    connections_that_stay_broken: "link.reopen";
    snapshots_older_than_the_ring: "R2" from 80;
    transfers_of_what_is_not_clean: "R3" from 80;
    doubts_that_any_build_settles: "R8Whole";
    late_builds_that_replace_later_ones: "R1Generation";
    users_kept_before_their_feed_begins: "R7";
    fences_that_prove_what_came_after_them: "R9";
    claims_that_were_presented_too_late: "R9Presented";
    removed_items_that_stay: "R10";
    writes_that_are_begun_too_late: "replica.expired_write";
}
