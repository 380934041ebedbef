//! The cluster over turmoil's sockets: every proxy and every replica is a host of turmoil, with a runtime and a clock of its own,
//! and their links are TCP connections between hosts, to which turmoil's own faults happen. See `docs/simulation.md`.
//!
//! `SEEN_SOCKETS_SEEDS` plays more seeds, from `SEEN_SOCKETS_FIRST` on, and `SEEN_SOCKETS_SEED` one again, and tells all that happens.

#![allow(clippy::print_stdout, reason = "tells what was played")]

mod faults;
mod play;
mod ways;

use std::env;

use play::play;
use seen_sim::Options;

/// Seeds that are played each time.
const SEEDS: u64 = 1_000;
/// Defences that are taken away each time.
#[cfg(feature = "sabotage")]
const MISSED: [&str; 9] = [
    "R1",
    "R4",
    "R5",
    "R10",
    "replica.expired_write",
    "replica.flag",
    "proxy.deadline",
    "proxy.flag",
    "link.reopen",
];
/// Within so many seeds they are missed.
#[cfg(feature = "sabotage")]
const MISSED_WITHIN: u64 = 60;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Plays every second seed, so that two tests share them.
fn clean(share: u64) {
    let first = number("SEEN_SOCKETS_FIRST").unwrap_or(0);
    let seeds = number("SEEN_SOCKETS_SEEDS").unwrap_or(SEEDS);
    let (mut calls, mut flagged, mut faults) = (0, 0, 0);
    for seed in (first + share..first + seeds).step_by(2) {
        let played = play(seed, Options::quiet()).expect("a simulation");
        (calls, flagged) = (calls + played.report.calls, flagged + played.report.flagged);
        faults += played.report.faults;
        assert!(played.report.filters > 50, "seed {seed}: {:?}", played.report);
        if !played.report.broken.is_empty() {
            let told = play(seed, Options::default()).expect("a simulation");
            panic!(
                "{}",
                told.story().unwrap_or_else(|| format!("seed {seed} differs when it is traced"))
            );
        }
    }
    println!("{calls} calls, {flagged} answers flagged, {faults} faults");
}

#[test]
fn even_seeds_keep_all_promises() {
    clean(0);
}

#[test]
fn odd_seeds_keep_all_promises() {
    clean(1);
}

/// Without faults nothing may be flagged, which the checker holds against a seed.
#[test]
fn without_faults_nothing_is_flagged() {
    for seed in 2_000..2_020 {
        let played = play(seed, Options { faults: false, ..Options::default() });
        let played = played.expect("a simulation");
        assert_eq!(played.story(), None);
    }
}

/// A seed is a story that can be told again.
#[test]
fn seeds_twice_are_the_same_event_by_event() {
    for seed in 0..10 {
        let [one, other] = [(); 2].map(|()| play(seed, Options::default()).expect("a simulation"));
        let differs = one.events.iter().zip(&other.events).position(|(one, other)| one != other);
        if let Some(at) = differs {
            panic!("seed {seed}, event {at}:\n{}\n{}", one.events[at], other.events[at]);
        }
        assert_eq!(one, other, "seed {seed}");
    }
}

/// The checks can fail: each of these defences is missed within a few seeds, which keep all promises with it.
/// `SEEN_SOCKETS_WITHOUT` names others, or `all`.
#[cfg(feature = "sabotage")]
#[test]
fn defences_that_are_taken_away_are_missed() {
    use seen_sim::sabotage::{BUGS, find_by, named};

    let named_ones = env::var("SEEN_SOCKETS_WITHOUT").ok();
    let names: Vec<&str> = match named_ones.as_deref() {
        Some("all") => BUGS.iter().map(|bug| bug.name).collect(),
        Some(names) => names.split(',').collect(),
        None => MISSED.to_vec(),
    };
    let seeds_max = number("SEEN_SOCKETS_SEEDS").unwrap_or(MISSED_WITHIN);
    let mut not_missed = Vec::new();
    for name in names {
        let bug = named(name).expect("a bug");
        let found = find_by(play, bug, 0..seeds_max, || false).expect("a simulation");
        let Some(found) = found else {
            println!("{name}: not missed within {seeds_max} seeds");
            not_missed.push(name);
            continue;
        };
        println!("{name}: missed after {} seeds, check {}", found.seeds, found.promise);
        let with_it = play(found.seeds - 1, Options::default()).expect("a simulation");
        assert_eq!(with_it.story(), None, "with all lines in place");
    }
    assert_eq!(not_missed, Vec::<&str>::new());
}

/// Tells one seed: `SEEN_SOCKETS_SEED=42 cargo test -p seen-sim --test sockets tell -- --nocapture`.
#[test]
fn tell() {
    let seed = number("SEEN_SOCKETS_SEED").unwrap_or(0);
    let played = play(seed, Options::default()).expect("a simulation");
    played.events.iter().for_each(|event| println!("{event}"));
    println!("{:#?}", played.report);
    if let Some(story) = played.story() {
        panic!("{story}");
    }
}
