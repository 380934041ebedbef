//! The seven models: the promise holds after every step of every order of events, what is of interest is
//! reached, and at every end each replica says what storage holds. `--nocapture` tells how many states
//! there are.

use seen_models::models;

fn holds(model: &str, name: &str) {
    let models = models();
    let model = models.iter().find(|known| known.name == model).expect("a model");
    let world = model.worlds.iter().find(|world| world.name == name).expect("a small world");
    let explored = world.explore(2, |_| ());
    if let Some((promise, story)) = explored.broken {
        panic!("{name}: {}\n{story}", promise.label());
    }
    let (states, least) = (explored.progress.states, world.states_min);
    let landmarks: Vec<&str> = explored.landmarks.iter().map(|mark| mark.label()).collect();
    eprintln!("{name}: {states} states, shows: {}", landmarks.join("; "));
    assert!(explored.finished, "{name}: too large to be tried to its end");
    assert!(states >= least, "{name}: {states} states, fewer than {least}: what is not tried?");
    for landmark in world.shows {
        assert!(explored.landmarks.contains(landmark), "{name}: {} in no state", landmark.label());
    }
}

macro_rules! each {
    ($($model:ident { $($name:ident,)* })*) => {
        $(
            mod $model {
                $(
                    #[test]
                    fn $name() {
                        super::holds(stringify!($model), stringify!($name));
                    }
                )*
            }
        )*

        #[test]
        fn no_world_is_left_out() {
            let all = models();
            let names = |worlds: &[seen_models::SmallWorld]| -> Vec<&str> {
                worlds.iter().map(|world| world.name).collect()
            };
            let all: Vec<_> = all.iter().map(|model| (model.name, names(&model.worlds))).collect();
            assert_eq!(all, [$((stringify!($model), vec![$(stringify!($name)),*])),*]);
        }
    };
}

each! {
    sessions {
        tokens_of_two_writers,
        point_checks_overtaken,
        early_snapshots,
        evicted_while_building,
        held_back_while_building,
        overrun_while_building,
        stale_snapshots,
        ring_too_short,
        unmark_and_mark_again,
        stalled_writer,
        removed_before_it_comes,
        own_mark_and_unmark,
        build_ahead_of_the_feed,
        unknown_outcome,
        unknown_outcome_of_an_unmark,
        evicted_between_removes,
    }
    transfers {
        donor_behind,
        donor_in_mid_commit,
        donor_after_a_gap,
        donor_after_an_unreadable_row,
        donor_of_removed,
        donor_fed_again,
        crash,
        donor_dies,
        receiver_dies,
    }
    failover {
        fences,
        late_fence,
        fences_release,
        old_fences,
        tokens_through_a_topic,
        lost_on_the_way,
        quiet_topic,
        commit_for_a_fence,
        fences_of_two_replicas,
        failed_over,
        moved,
        wildcards,
    }
    events {
        two_users_in_one_commit,
        one_commit_and_a_build,
        two_partitions,
        torn_down_in_mid_commit,
        removes_delivered_again,
        old_adds_delivered_again,
        said_again,
        topic_of_a_numbered_store,
        gap,
        gap_while_building,
        user_gap,
        user_gap_and_stale_snapshots,
        lost_remove,
        unreadable_remove,
    }
    map_change {
        late_start,
        late_start_after_a_remove,
        late_start_without_numbers,
        gets_a_user,
        loses_a_user_and_gets_it_back,
        loses_a_removed_item,
        loses_a_user_without_numbers,
        takes_a_user_over,
    }
    forget {
        forget,
        forget_while_building,
        forget_and_stale_snapshots,
        forget_by_statements,
        forget_delivered_again,
    }
    primary_change {
        restored_backup,
        restored_silently,
        promoted,
        promoted_in_mid_unmark,
        promoted_while_building,
        promoted_without_numbers,
    }
}
