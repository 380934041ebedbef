//! Small worlds, tried exhaustively: the promise holds after every step of every order of events, and
//! at every end each replica says what storage holds. `--nocapture` tells how many states there are.

#[allow(dead_code, unused_imports, reason = "each test uses its part of the world")]
#[path = "model/world.rs"]
mod model;
#[path = "exhaustive/small.rs"]
mod small;

use model::explore;

fn holds(name: &str) {
    let world = small::named(name);
    let explored = explore(&world.scenario, 2);
    if let Some(story) = explored.broken {
        panic!("{name}: {story}");
    }
    let (states, least) = (explored.states, world.states_min);
    eprintln!("{name}: {states} states");
    assert!(explored.finished, "{name}: too large to be tried to its end");
    assert!(states >= least, "{name}: {states} states, fewer than {least}: what is not tried?");
}

macro_rules! each {
    ($($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                holds(stringify!($name));
            }
        )*

        #[test]
        fn no_world_is_left_out() {
            let names: Vec<&str> = small::all().iter().map(|small| small.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

each! {
    tokens_of_two_writers,
    point_checks_overtaken,
    two_users_in_one_commit,
    one_commit_and_a_build,
    early_snapshots,
    evicted_while_building,
    held_back_while_building,
    overrun_while_building,
    stale_snapshots,
    ring_too_short,
    late_start,
    late_start_after_a_remove,
    late_start_without_numbers,
    donor_behind,
    donor_in_mid_commit,
    donor_after_a_gap,
    donor_after_an_unreadable_row,
    donor_of_removed,
    donor_fed_again,
    gap,
    gap_while_building,
    user_gap,
    user_gap_and_stale_snapshots,
    lost_remove,
    unreadable_remove,
    fences,
    late_fence,
    fences_release,
    two_partitions,
    tokens_through_a_topic,
    torn_down_in_mid_commit,
    topic_of_a_numbered_store,
    said_again,
    lost_on_the_way,
    quiet_topic,
    commit_for_a_fence,
    fences_of_two_replicas,
    unmark_and_mark_again,
    removes_delivered_again,
    old_adds_delivered_again,
    stalled_writer,
    removed_before_it_comes,
    own_mark_and_unmark,
    build_ahead_of_the_feed,
    forget,
    forget_while_building,
    forget_and_stale_snapshots,
    forget_by_statements,
    forget_delivered_again,
    crash,
    old_fences,
    unknown_outcome,
    unknown_outcome_of_an_unmark,
    restored_backup,
    restored_silently,
}
