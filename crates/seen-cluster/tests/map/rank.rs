//! The order of a slot's replicas.

use proptest::prelude::*;
use seen_cluster::map::{name_hash, preferred, rank};
use seen_filter::UserId;
use seen_filter::hash::mix;

use super::world::KEY;

fn replicas(weights: &[u16]) -> Vec<(u64, u16)> {
    let name = |at: usize| name_hash(&format!("10.0.0.{at}:7430"));
    weights.iter().enumerate().map(|(at, weight)| (name(at), *weight)).collect()
}

/// How many of `users` each replica comes first for.
fn firsts(users: impl Iterator<Item = u64>, replicas: &[(u64, u16)]) -> Vec<f64> {
    let mut firsts = vec![0.0; replicas.len()];
    for user in users {
        firsts[rank(user, replicas).first().unwrap()] += 1.0;
    }
    firsts
}

#[test]
fn users_are_spread_by_weight() {
    let users = 200_000;
    for weights in [&[100, 100][..], &[1, 2, 7], &[10_000, 1, 5_000], &[50, 50, 50, 50, 100]] {
        let firsts = firsts((0..users).map(mix), &replicas(weights));
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        for (first, weight) in firsts.iter().zip(weights) {
            let expected = users as f64 * f64::from(*weight) / sum;
            // Five standard deviations of a binomial distribution, and one user.
            let allowed = 5.0 * expected.sqrt() + 1.0;
            assert!((first - expected).abs() < allowed, "{weights:?}: {firsts:?}");
        }
    }
}

#[test]
fn the_users_of_one_virtual_slot_are_spread_as_well() {
    // The low bits of their hashes are all alike.
    let hashes =
        (0..).map(|user| KEY.user_hash(UserId::new(user))).filter(|hash| hash % 4_096 == 77);
    let firsts = firsts(hashes.take(3_000), &replicas(&[100, 100, 100]));
    assert!(firsts.iter().all(|first| (first - 1_000.0).abs() < 160.0), "{firsts:?}");
}

#[test]
fn a_weight_of_0_is_for_when_nobody_else_is_there() {
    let some = replicas(&[0, 1, 0, 10_000]);
    for user in (0..10_000).map(mix) {
        let order: Vec<usize> = rank(user, &some).iter().collect();
        assert!(order[2..].iter().all(|at| some[*at].1 == 0), "{order:?}");
    }
    let none = replicas(&[0, 0]);
    let firsts = firsts((0..10_000).map(mix), &none);
    assert!(firsts.iter().all(|first| (first - 5_000.0).abs() < 250.0), "{firsts:?}");
}

#[test]
fn the_order_is_the_same_in_every_version() {
    // Proxies of two versions must agree. If this fails, the change is one that moves users.
    let hashes = ["", "10.0.0.1:7430"].map(name_hash);
    assert_eq!(hashes, [14_087_677_454_934_409_008, 12_853_051_216_970_149_752]);
    let replicas = replicas(&[100, 200, 0, 10, 100]);
    let orders: Vec<Vec<usize>> =
        [0, 1, u64::MAX].iter().map(|user| rank(*user, &replicas).iter().collect()).collect();
    assert_eq!(orders, [[1, 0, 3, 4, 2], [1, 0, 4, 3, 2], [1, 0, 4, 3, 2]]);
}

#[test]
fn none_and_very_many_do_no_harm() {
    assert_eq!(rank(1, &[]).first(), None);
    let many = vec![(7, 100); 100];
    let mut order: Vec<usize> = rank(1, &many).iter().collect();
    order.sort_unstable();
    assert_eq!(order, (0..64).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn whoever_goes_moves_nobody_else(
        user in any::<u64>(),
        weights in prop::collection::vec(0_u16..1_000, 2..10),
        gone in any::<prop::sample::Index>(),
    ) {
        let all = replicas(&weights);
        let gone = gone.index(all.len());
        let mut rest = all.clone();
        rest.remove(gone);
        let names = |set: &[(u64, u16)]| -> Vec<u64> {
            rank(user, set).iter().map(|at| set[at].0).collect()
        };
        let mut expected = names(&all);
        expected.retain(|name| *name != all[gone].0);
        prop_assert_eq!(names(&rest), expected);
    }

    #[test]
    fn whoever_weighs_more_takes_from_all_and_gives_to_none(
        user in any::<u64>(),
        weights in prop::collection::vec(1_u16..1_000, 2..10),
        heavier in any::<prop::sample::Index>(),
        more in 1_u16..5_000,
    ) {
        let before = replicas(&weights);
        let mut after = before.clone();
        let heavier = heavier.index(after.len());
        after[heavier].1 += more;
        let (old, new) = (rank(user, &before).first(), rank(user, &after).first());
        prop_assert!(new == old || new == Some(heavier));
    }

    #[test]
    fn the_preferred_one_is_the_first_that_is_usable(
        user in any::<u64>(),
        weights in prop::collection::vec(0_u16..3, 0..10),
        usable in any::<[bool; 10]>(),
    ) {
        let replicas = replicas(&weights);
        let first = rank(user, &replicas).iter().find(|at| usable[*at]);
        prop_assert_eq!(preferred(user, &replicas, |at| usable[at]), first);
    }
}
